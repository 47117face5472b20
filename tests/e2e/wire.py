#!/usr/bin/env python3
"""A network of our own for whole programs: namespaces, and between them a relay
that treats each address of a server as badly as a test wants.

    with Wire({"cli": ["10.9.0.1", "fd09::1"], "srv": ["10.9.1.1", "10.9.1.2", "fd09:1::1"]},
              {"10.9.1.1": (Link(delay=30), Link(delay=30, rate=1_250_000))}, seed="1") as wire:
        Program([*wire.inside("srv"), "gtlsserver", ...], log, "gtlsserver")
        sock = wire.open_socket("cli", "10.9.0.1")
        wire.when("10.9.1.2", "blackhole 10.9.1.1 both on")

The hosts see one IP network; each has its addresses and nothing else, and the
names are free.  An address with a length is a prefix: all its addresses are the host's,
and share one Link, which is named by the prefix.  The first host is the client's side: `up` is away from it, `down`
everything that others send.  Each address of the others has a Link for each
direction (all links are perfect unless told otherwise), whose fate is decided
by seed, address, direction and number of the packet.  The first host is behind
a NAT: nothing reaches it that it has not sent something to get, and rebind() gives
its flows other ports or another address.  Where namespaces or TUN devices are not
permitted, entering the Wire skips the test (unittest.SkipTest).

Wire.counts() has, next to what class Relay tells:
    "sent"   "up"|"down" -> address -> kind (ip_packet.kind) -> [packets, bytes of payload];
             what hosts sent, whether it arrived or not, by the address of the others,
             also those that nobody has (what a hostile server makes a client do)
    "links"  address -> "up"|"down" -> the counts of class Line, and "ce"
Wire.trace() has every packet, as class Trace, if the Wire was made with trace=FILE; with pcap=FILE
all of them are there as the host that sends one has sent it.

Commands, one a line on stdin, each answered by a line of JSON; when() takes any:
    counts                                   blackhole ADDRESS up|down|both on|off
    rebind [ADDRESS]                         link ADDRESS up|down JSON
    when ADDRESS up|down COMMAND...          once, before the next packet is dealt with
"""

import argparse
import heapq
import ipaddress
import json
import os
import random
import select
import signal
import socket
import sys
import time
import unittest
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple, TextIO

import ip_packet
import netns
from ip_packet import Endpoint, Headers, to_bytes, to_text
from net import Addr
from pcap import Pcap
from relay import BATCH, LINE_CAPACITY, Impairment, Line, Relay

# Flows of the first host that the NAT knows; packets of others are dropped
FLOWS = 4096
# Addresses that are counted one by one; the others together as "others"
ADDRESSES = 1024
# Lines of a trace; what comes later is counted only
TRACE_LINES = 2_000_000
# Bytes
TRACED_ID = 8
# Packets of one host that are dealt with before a command
DRAIN = 10_000
TRIGGERS = 16
_IP_FREEBIND = 15
# Source ports after a rebind, below those that Linux picks by itself
_NAT_PORTS = range(10000, 20000)


@dataclass(frozen=True, repr=False)
class Link(Impairment):
    """One direction of the way to one address; rate and MTU are of UDP payload."""

    ce: float = 0  # probability that an ECN capable packet is marked
    too_big: bool = False  # tell the sender of packets above the MTU by ICMP
    shared: str = ""  # addresses whose links have the same name here share one of them, with its queue

    def __repr__(self) -> str:
        return str({f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default})


class Trace(NamedTuple):
    """One packet as it was on the side of the server, behind the NAT."""

    time: float
    way: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    size: int  # of the payload
    first: int  # the first byte of the payload, -1 if it has none
    kind: str
    copies: int  # that the link let through; 0: lost
    id: str  # the bytes after the first one, in hex: enough of a connection ID to tell it from others

    @property
    def far(self) -> str:
        """The address that is not the client's."""
        return self.destination if self.way == "up" else self.source


class _Path(Line):
    def __init__(self, link: Link, seed: str):
        super().__init__(link, seed)
        self.link = link
        self.on_the_way = 0
        self.counts["ce"] = 0
        self._marks = random.Random(f"{seed}/ce")

    def mark(self) -> bool:
        return self._marks.random() < self.link.ce


class _Nat:
    """Which endpoint others see instead of one of the first host; at first the same."""

    def __init__(self) -> None:
        self._outside: dict[Endpoint, Endpoint] = {}
        self._inside: dict[Endpoint, Endpoint] = {}
        self._hosts: dict[bytes, bytes] = {}
        self._ports = iter(_NAT_PORTS)

    def outside(self, inside: Endpoint) -> Endpoint | None:
        if not (out := self._outside.get(inside)) and len(self._outside) < FLOWS:
            out = Endpoint(self._hosts.get(inside.host, inside.host), inside.port)
            if out in self._inside:
                return None
            self._outside[inside], self._inside[out] = out, inside
        return out

    def inside(self, outside: Endpoint) -> Endpoint | None:
        return self._inside.get(outside)

    def rebind(self, host: bytes | None) -> None:
        """Another port for every flow, or another host for those of its family."""
        for inside, old in self._outside.items():
            if host and len(host) != len(inside.host):
                continue
            self._hosts[inside.host] = host or old.host
            new = Endpoint(host, old.port) if host else Endpoint(old.host, next(self._ports))
            self._outside[inside] = new
            del self._inside[old]
            self._inside[new] = inside


class _Process:
    def __init__(self, hosts: dict[str, list[str]], links: dict[str, list[dict]], seed: str, trace: TextIO | None,
                 pcap: Pcap | None):
        self._seed, self._trace, self._pcap = seed, trace, pcap
        self._traced = 0
        self._hosts = {name: netns.make_host(addresses) for name, addresses in hosts.items()}
        first, *others = hosts
        self._client = self._hosts[first].tun
        self._owner: dict[bytes, int] = {}
        self._lines: dict[tuple[bytes, str], _Path] = {}
        # Addresses are added to the two above when they are seen.
        self._prefixes: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int, dict[str, _Path]]] = []
        shared: dict[tuple[str, str], _Path] = {}
        for name, address in ((name, a) for name in hosts for a in hosts[name]):
            paths = {}
            for way in ("up", "down") if name in others else ():
                link = Link(**links.get(address, ({}, {}))[way == "down"])
                key = link.shared or address
                paths[way] = shared.setdefault((key, way), _Path(link, f"{seed}/{key}/{way}"))
            if "/" in address:
                self._prefixes.append((ipaddress.ip_network(address), self._hosts[name].tun, paths))
            else:
                self._add(to_bytes(address), self._hosts[name].tun, paths)
        self._nat = _Nat()
        self._triggers: list[tuple[bytes, str, list[str]]] = []
        self._sent: dict[tuple[str, str], Counter[tuple[str, int]]] = {}
        self._dropped: Counter[str] = Counter(not_ip=0, nobody=0, no_flow=0, tun=0)
        self._due: list[tuple[float, int, _Path, int, bytes]] = []
        self._number = 0
        self._typed = b""
        self._poll = select.epoll()
        for fd in (sys.stdin.fileno(), *(host.tun for host in self._hosts.values())):
            self._poll.register(fd, select.EPOLLIN)

    def _add(self, address: bytes, tun: int, paths: dict[str, _Path]) -> None:
        self._owner[address] = tun
        self._lines.update({(address, way): path for way, path in paths.items()})

    def _look_up(self, address: bytes) -> None:
        """Makes an address known if a prefix includes it."""
        ip = ipaddress.ip_address(address)
        for network, tun, paths in self._prefixes:
            if ip in network:
                self._add(address, tun, paths)
                return

    def answer(self) -> None:
        sent: dict = {"up": {}, "down": {}}
        for (way, address), counter in self._sent.items():
            kinds = sent[way].setdefault(address, {})
            for kind in {kind for kind, _ in counter}:
                kinds[kind] = [counter[kind, 0], counter[kind, 1]]
        links: dict = {}
        for (address, way), line in self._lines.items():
            links.setdefault(to_text(address), {})[way] = dict(line.counts)
        if self._trace:
            self._trace.flush()
        print(json.dumps({
            "namespaces": {name: f"/proc/{os.getpid()}/fd/{host.namespace}" for name, host in self._hosts.items()},
            "sent": sent, "links": links, "dropped": dict(self._dropped),
            "kernel_dropped": sum(map(netns.dropped, self._hosts.values()))}), flush=True)

    def command(self, words: list[str]) -> None:
        match words:
            case ["counts"]:
                pass
            case ["rebind"]:
                self._nat.rebind(None)
            case ["rebind", address]:
                self._nat.rebind(to_bytes(address))
            case ["blackhole", address, "up" | "down" | "both" as ways, "on" | "off" as state]:
                for way in ("up", "down") if ways == "both" else (ways,):
                    self._lines[to_bytes(address), way].blackhole = state == "on"
            case ["link", address, "up" | "down" as way, *text]:
                key = to_bytes(address), way
                old = self._lines[key]
                # Packets on the way keep their old line, which needs no more of it.
                self._lines[key] = line = _Path(Link(**json.loads(" ".join(text))),
                                                f"{self._seed}/{address}/{way}/{old.counts['received']}")
                line.blackhole, line.counts = old.blackhole, old.counts
            case ["when", address, "up" | "down" as way, *command] if len(self._triggers) < TRIGGERS:
                self._triggers.append((to_bytes(address), way, command))
            case _:
                sys.exit(f"wire: unknown command {' '.join(words)!r}")

    def _count(self, way: str, far: bytes, kind: str, size: int) -> None:
        key = way, to_text(far)
        if key not in self._sent and len(self._sent) >= ADDRESSES:
            key = way, "others"
        counter = self._sent.setdefault(key, Counter())
        counter[kind, 0] += 1
        counter[kind, 1] += size

    def _record(self, now: float, way: str, data: bytes, headers: Headers, kind: str, copies: int) -> None:
        if self._trace and self._traced < TRACE_LINES:
            self._traced += 1
            (source, sport), (destination, dport) = headers.source, headers.destination
            first = data[headers.start] if headers.size else -1
            self._trace.write(f"{now} {way} {to_text(source)} {sport} {to_text(destination)} {dport} "
                              f"{headers.size} {first} {kind} {copies} "
                              f"{data[headers.start + 1:headers.start + 1 + TRACED_ID].hex() or '-'}\n")

    def _accept(self, tun: int, data: bytes, now: float) -> None:
        if not (headers := ip_packet.parse(data)):
            self._dropped["not_ip"] += 1
            return
        way = "up" if tun == self._client else "down"
        far = headers.destination.host if way == "up" else headers.source.host
        if headers.protocol in (0, ip_packet.ICMPV6) and headers.destination.host[0] == 0xff:
            return  # routers and listeners that the kernel looks for
        if self._pcap:
            self._pcap.write_ip(data)
        if self._prefixes and far not in self._owner:
            self._look_up(far)
        kind = ip_packet.kind(data, headers)
        self._count(way, far, kind, headers.size)
        for trigger in [t for t in self._triggers if t[:2] == (far, way)]:
            self._triggers.remove(trigger)
            self.command(trigger[2])
        to = self._owner.get(headers.destination.host)
        has_ports = headers.source.port or headers.destination.port
        if way == "up" and has_ports:
            if not (outside := self._nat.outside(headers.source)):
                self._dropped["no_flow"] += 1
                return
            if outside != headers.source:
                data = ip_packet.readdress(data, headers, "source", outside)
                headers = headers._replace(source=outside)
        line = self._lines.get((far, way))
        times = line.admit(headers.size, now) if line and (to or way == "down") else []
        self._record(now, way, data, headers, kind, len(times))
        if not line:
            self._dropped["nobody"] += 1
            return
        if way == "down" and has_ports and to in (None, self._client):
            if not (inside := self._nat.inside(headers.destination)):
                self._dropped["no_flow"] += 1
                return
            to = self._client
            if inside != headers.destination:
                data = ip_packet.readdress(data, headers, "destination", inside)
        if headers.size > line.link.mtu and line.link.too_big and not line.blackhole:
            mtu = line.link.mtu + headers.start
            self._write(line, tun, ip_packet.too_big(data, headers, mtu))
        if to is None:
            self._dropped["nobody"] += 1
            return
        if times and line.mark() and ip_packet.ecn(data):
            line.counts["ce"] += 1
            data = ip_packet.mark_ce(data)
        for leaves in times:
            if leaves <= now and not self._due:
                self._send(line, to, data)
            elif line.on_the_way + len(data) > LINE_CAPACITY:
                line.counts["queue_dropped"] += 1
            else:
                line.on_the_way += len(data)
                self._number += 1
                heapq.heappush(self._due, (leaves, self._number, line, to, data))

    def _write(self, line: _Path, tun: int, data: bytes) -> bool:
        try:
            os.write(tun, data)
        except OSError:  # the kernel wants no more of them now
            self._dropped["tun"] += 1
            return False
        return True

    def _send(self, line: _Path, tun: int, data: bytes) -> None:
        line.counts["sent" if self._write(line, tun, data) else "queue_dropped"] += 1

    def run(self) -> None:
        while True:
            timeout = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            events = self._poll.poll(timeout)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, line, to, data = heapq.heappop(self._due)
                line.on_the_way -= len(data)
                self._send(line, to, data)
            for fd, _ in events:
                if fd == sys.stdin.fileno():
                    if not (text := os.read(fd, 4096)):
                        return
                    *lines, self._typed = (self._typed + text).split(b"\n")
                    for typed in lines:
                        self._drain()
                        self.command(typed.decode(errors="replace").split())
                        self.answer()
                    continue
                self._read(fd, BATCH, now)

    def _read(self, tun: int, most: int, now: float) -> None:
        for _ in range(most):
            try:
                data = os.read(tun, 65536)
            except BlockingIOError:
                return
            self._accept(tun, data, now)

    def _drain(self) -> None:
        """What was sent before a command comes before it: who asks for counts when a program has ended gets all
        that it has sent."""
        for host in self._hosts.values():
            self._read(host.tun, DRAIN, time.monotonic())


class Wire(Relay):
    """The network from the beginning of a with block to its end."""

    def __init__(self, hosts: dict[str, list[str]], links: dict[str, tuple[Link, Link]] | None = None,
                 seed: str = "1", trace: Path | None = None, pcap: Path | None = None):
        links = links or {}
        self._trace = trace
        self._says = f"wire with seed {seed}, links {links}"
        self._argv = [
            sys.executable, Path(__file__), "--hosts", json.dumps(hosts), "--seed", seed,
            "--links", json.dumps({a: [asdict(link) for link in pair] for a, pair in links.items()}),
            *(["--trace", str(trace)] if trace else []), *(["--pcap", str(pcap)] if pcap else [])]

    def _answer(self) -> dict:
        answer = super()._answer()
        if reason := answer.get("unavailable"):
            raise unittest.SkipTest(f"no network of our own: {reason}")
        return answer

    def __enter__(self) -> "Wire":
        super().__enter__()
        self._namespaces = self.counts()["namespaces"]
        return self

    def __exit__(self, error, *_) -> None:
        if error and self._process.poll() is None:
            print(f"# {self._says}, {self.counts()['sent']}", flush=True)
        super().__exit__(None)

    def inside(self, host: str) -> list[str]:
        """What to put before a command so that it runs on that host; its PID stays the same."""
        return ["nsenter", f"--net={self._namespaces[host]}", "--"]

    def open_socket(self, host: str, address: str, port: int = 0, in_prefix: bool = False) -> socket.socket:
        """A UDP socket of this process, on that host; `in_prefix`: on an address that it has by a prefix only."""
        sock = netns.open_socket(self._namespaces[host], Addr(address, port).family)
        if in_prefix:
            sock.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)  # of IPv6 sockets as well
        sock.bind((address, port))
        return sock

    def rebind(self, address: str = "") -> None:
        """Other source ports for the flows that the first host has now, or another address."""
        self._command(f"rebind {address}")

    def blackhole(self, address: str, way: str = "both", on: bool = True) -> None:
        """Packets are lost from now on; those on the way still arrive."""
        self._command(f"blackhole {address} {way} {'on' if on else 'off'}")

    def link(self, address: str, way: str, link: Link) -> None:
        self._command(f"link {address} {way} {json.dumps(asdict(link))}")

    def when(self, address: str, command: str, way: str = "up") -> None:
        """Does `command` as soon as the next packet to (or from) that address comes by."""
        self._command(f"when {address} {way} {command}")

    def sent(self, way: str, address: str, *kinds: str) -> tuple[int, int]:
        """Packets and bytes that were sent to or from that address, of these kinds or all."""
        counts = self.counts()["sent"][way].get(address, {})
        chosen = [counts.get(kind, (0, 0)) for kind in kinds or counts]
        return sum(c[0] for c in chosen), sum(c[1] for c in chosen)

    def trace(self) -> list[Trace]:
        """Every packet so far, in the order in which they came by."""
        self.counts()  # flushes
        return [Trace(float(t), way, source, int(sport), destination, int(dport), int(size), int(first), kind, int(n), id)
                for t, way, source, sport, destination, dport, size, first, kind, n, id
                in map(str.split, self._trace.read_text().splitlines())]


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--hosts", type=json.loads, required=True)
    parser.add_argument("--links", type=json.loads, default={})
    parser.add_argument("--seed", default="1")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--pcap", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = _Process(args.hosts, args.links, args.seed, args.trace.open("w") if args.trace else None,
                           Pcap(args.pcap) if args.pcap else None)
    except netns.NotPermitted as err:
        print(json.dumps({"unavailable": str(err)}), flush=True)
        return
    process.answer()
    process.run()


if __name__ == "__main__":
    main()
