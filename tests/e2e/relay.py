#!/usr/bin/env python3
"""A UDP relay that behaves like a bad network: it stands between two programs
and delays, reorders, loses, doubles and limits what goes through it.

    tests/e2e/relay.py --listen HOST PORT --upstream HOST PORT [--seed N]
                       [--up JSON] [--down JSON] [--pcap FILE]

JSON is an object with the fields of Impairment.  The relay reads commands from
stdin, one a line, and answers each with one line of JSON; it ends with stdin:

    counts                   what happened so far
    rebind [HOST]            another source port towards upstream, or address, as a NAT does
    blackhole up|down on|off nothing gets through in that direction any more

Tests use class Relay, which runs this file as a process of its own.

What happens to a packet depends on the seed, the direction and the packet's
number in that direction alone, so that the same packets meet the same fate.
Datagrams are never cut or merged.  ECN marks are passed on.  FILE is a capture of what is
between the clients and the relay, of what gets through.
"""

import argparse
import errno
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from net import Addr
from pcap import Pcap
from procs import ProgramError, die_with_parent

# Bytes that may be on their way through one direction, for the sake of memory
# alone.  What comes on top is dropped and counted as queue_dropped.
LINE_CAPACITY = 32 << 20
# Client addresses that get a socket of their own; packets of others are dropped
# and counted as queue_dropped.
CLIENTS = 1024
# Datagrams read from one socket before the others have their turn
BATCH = 64
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_RECVTOS = {socket.AF_INET: (socket.IPPROTO_IP, 13), socket.AF_INET6: (socket.IPPROTO_IPV6, 66)}
_TOS = {socket.AF_INET: (socket.IPPROTO_IP, 1), socket.AF_INET6: (socket.IPPROTO_IPV6, 67)}


@dataclass(frozen=True)
class Impairment:
    """What one direction does to packets; by default nothing."""

    delay: float = 0  # milliseconds
    loss: float = 0  # probability, as are the other two
    duplicate: float = 0
    reorder: float = 0
    reorder_delay: float = 10  # milliseconds on top, which let later packets pass
    rate: int = 0  # bytes of UDP payload per second; 0: as fast as it goes
    queue: int = 128 << 10  # bytes that wait for the rate; others are dropped
    mtu: int = 65535  # bytes of UDP payload; larger packets are dropped, as with DF set


class Line:
    """The fate of the packets of one direction; has neither clock nor socket."""

    def __init__(self, impairment: Impairment, seed: str):
        self._impairment = impairment
        self._random = random.Random(seed)
        self._free_at = 0.0
        self.blackhole = False
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("received", "sent", "lost", "duplicated", "reordered", "queue_dropped", "too_large"), 0))

    def admit(self, size: int, now: float) -> list[float]:
        """The times at which a packet that arrives at `now` leaves: none, one or two."""
        what = self._impairment
        # As many draws for each packet, so that its fate does not depend on the others'.
        lost, duplicated, reordered = (self._random.random() < p
                                       for p in (what.loss, what.duplicate, what.reorder))
        self.counts["received"] += 1
        if lost or self.blackhole:
            self.counts["lost"] += 1
            return []
        if size > what.mtu:
            self.counts["too_large"] += 1
            return []
        leaves = now
        if what.rate:
            leaves = max(now, self._free_at)
            if (leaves - now) * what.rate + size > what.queue:
                self.counts["queue_dropped"] += 1
                return []
            leaves += size / what.rate
            self._free_at = leaves
        leaves += what.delay / 1000
        times = [leaves]
        if reordered:
            self.counts["reordered"] += 1
            times = [leaves + what.reorder_delay / 1000]
        if duplicated:
            self.counts["duplicated"] += 1
            times.append(leaves)
        return times


class _Socket:
    """A UDP socket that passes ECN marks on."""

    def __init__(self, family: socket.AddressFamily):
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(*_RECVTOS[family], 1)
        for option, size in ((_SO_RCVBUFFORCE, 8 << 20), (socket.SO_RCVBUF, 4 << 20)):
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, option, size)
                break
            except PermissionError:
                pass  # the greater one is for the superuser
        self._ecn = 0

    def receive(self) -> tuple[bytes, int, tuple] | None:
        try:
            data, ancillary, _, sender = self.sock.recvmsg(65536, 64)
        except ConnectionError:
            return b"", -1, ()  # nobody listens there, which is the programs' own matter
        except BlockingIOError:
            return None
        # A byte for IPv4, an int for IPv6
        ecn = int.from_bytes(ancillary[0][2], sys.byteorder) & 3 if ancillary else 0
        return data, ecn, sender

    def send(self, data: bytes, ecn: int, to: tuple | None) -> bool:
        if ecn != self._ecn:
            self.sock.setsockopt(*_TOS[self.sock.family], ecn)
            self._ecn = ecn
        for _ in range(2):
            try:
                if to:
                    self.sock.sendto(data, to)
                else:
                    self.sock.send(data)
                return True
            except ConnectionError:
                pass  # tells of an earlier packet; this one has not been sent
            except OSError as err:
                if err.errno not in (errno.EAGAIN, errno.ENOBUFS):
                    raise
                return False
        return True  # as far as the relay is concerned

    def dropped(self) -> int:
        """Packets that the kernel dropped because the relay was too slow."""
        return struct.unpack("9I", self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))[8]


class _Client:
    """One client address, and the socket that stands for it at upstream."""

    def __init__(self, address: tuple):
        self.address = address
        self.socket: _Socket


class _Process:
    def __init__(self, listen: Addr, upstream: Addr, up: Impairment, down: Impairment, seed: str,
                 pcap: Path | None):
        self._listen, self._upstream = listen, upstream
        self._pcap = Pcap(pcap) if pcap else None
        self._listener = _Socket(listen.family)
        self._listener.sock.bind(listen)
        self._lines = {"up": Line(up, f"{seed}/up"), "down": Line(down, f"{seed}/down")}
        self._clients: dict[tuple, _Client] = {}
        self._by_fd: dict[int, _Client] = {}
        # When it leaves, a number that keeps the order, what leaves
        self._due: list[tuple[float, int, str, _Client, bytes, int]] = []
        self._number = 0
        self._on_the_way = {"up": 0, "down": 0}
        self._kernel_dropped = 0
        self._typed = b""
        self._poll = select.epoll()
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._poll.register(self._listener.sock.fileno(), select.EPOLLIN)

    def _connect(self, client: _Client, source: str = "") -> None:
        client.socket = _Socket(self._upstream.family)
        if source:
            client.socket.sock.bind((source, 0))
        client.socket.sock.connect(self._upstream)
        self._by_fd[client.socket.sock.fileno()] = client
        self._poll.register(client.socket.sock.fileno(), select.EPOLLIN)

    def _rebind(self, source: str = "") -> None:
        for client in self._clients.values():
            old = client.socket
            self._connect(client, source)  # before the old one is closed, so that the port is another
            self._kernel_dropped += old.dropped()
            del self._by_fd[old.sock.fileno()]
            self._poll.unregister(old.sock.fileno())
            old.sock.close()

    def _counts(self) -> dict:
        sockets = [self._listener, *(c.socket for c in self._clients.values())]
        return {**{name: dict(line.counts) for name, line in self._lines.items()},
                "clients": len(self._clients),
                "kernel_dropped": self._kernel_dropped + sum(s.dropped() for s in sockets)}

    def command(self, words: list[str]) -> None:
        match words:
            case ["counts"]:
                pass
            case ["rebind"] | ["rebind", _]:
                self._rebind(*words[1:])
            case ["blackhole", "up" | "down" as way, "on" | "off" as state]:
                self._lines[way].blackhole = state == "on"
            case _:
                sys.exit(f"relay: unknown command {' '.join(words)!r}")
        print(json.dumps(self._counts()), flush=True)

    def _accept(self, way: str, client: _Client, data: bytes, ecn: int, now: float) -> None:
        line = self._lines[way]
        for leaves in line.admit(len(data), now):
            if leaves <= now and not self._due:
                self._send(way, client, data, ecn)
            elif self._on_the_way[way] + len(data) > LINE_CAPACITY:
                line.counts["queue_dropped"] += 1
            else:
                self._on_the_way[way] += len(data)
                self._number += 1
                heapq.heappush(self._due, (leaves, self._number, way, client, data, ecn))

    def _send(self, way: str, client: _Client, data: bytes, ecn: int) -> None:
        sent = (client.socket.send(data, ecn, None) if way == "up"
                else self._listener.send(data, ecn, client.address))
        self._lines[way].counts["sent" if sent else "queue_dropped"] += 1
        if self._pcap and sent:
            ends = Addr(*client.address[:2]), self._listen
            self._pcap.write(*(ends if way == "up" else reversed(ends)), data)

    def _read_clients(self, now: float) -> None:
        for _ in range(BATCH):
            if not (got := self._listener.receive()):
                return
            data, ecn, sender = got
            if ecn < 0:
                continue
            if not (client := self._clients.get(sender)):
                if len(self._clients) == CLIENTS:
                    self._lines["up"].counts["queue_dropped"] += 1
                    continue
                client = self._clients[sender] = _Client(sender)
                self._connect(client)
            self._accept("up", client, data, ecn, now)

    def _read_upstream(self, client: _Client, now: float) -> None:
        for _ in range(BATCH):
            if not (got := client.socket.receive()):
                return
            if got[1] >= 0:
                self._accept("down", client, got[0], got[1], now)

    def run(self) -> None:
        while True:
            timeout = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            events = self._poll.poll(timeout)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, way, client, data, ecn = heapq.heappop(self._due)
                self._on_the_way[way] -= len(data)
                self._send(way, client, data, ecn)
            for fd, _ in events:
                if fd == self._listener.sock.fileno():
                    self._read_clients(now)
                elif client := self._by_fd.get(fd):
                    self._read_upstream(client, now)
                elif fd == sys.stdin.fileno():
                    if not (text := os.read(fd, 4096)):
                        return
                    *lines, self._typed = (self._typed + text).split(b"\n")
                    for line in lines:
                        self.command(line.decode(errors="replace").split())


class Relay:
    """A relay that runs from the beginning of a with block to its end."""

    def __init__(self, listen: Addr, upstream: Addr, up: Impairment = Impairment(),
                 down: Impairment = Impairment(), seed: str = "1", pcap: Path | None = None):
        self.addr = listen
        self._says = f"relay {listen} -> {upstream}, seed {seed}, up {up}, down {down}"
        self._argv = [
            sys.executable, Path(__file__), "--listen", listen.host, str(listen.port),
            "--upstream", upstream.host, str(upstream.port), "--seed", seed,
            "--up", json.dumps(asdict(up)), "--down", json.dumps(asdict(down)),
            *(("--pcap", str(pcap)) if pcap else ())]

    def __enter__(self) -> "Relay":
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         preexec_fn=die_with_parent)
        try:
            self._answer()
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, error, *_) -> None:
        if error:
            print(f"# {self._says}", flush=True)
            if self._process.poll() is None:
                print(f"# {self.counts()}", flush=True)
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict:
        if not (line := self._process.stdout.readline()):
            raise ProgramError(f"the relay ended with status {self._process.wait()}")
        return json.loads(line)

    def _command(self, text: str) -> dict:
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return self._answer()

    def counts(self) -> dict:
        """{"up": {...}, "down": {...}, "clients": addresses seen, "kernel_dropped": packets}"""
        return self._command("counts")

    def rebind(self, source: str = "") -> None:
        self._command(f"rebind {source}")

    def blackhole(self, way: str, on: bool = True) -> None:
        self._command(f"blackhole {way} {'on' if on else 'off'}")


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--listen", nargs=2, required=True, metavar=("HOST", "PORT"))
    parser.add_argument("--upstream", nargs=2, required=True, metavar=("HOST", "PORT"))
    parser.add_argument("--seed", default="1")
    parser.add_argument("--up", default="{}", metavar="JSON")
    parser.add_argument("--down", default="{}", metavar="JSON")
    parser.add_argument("--pcap", type=Path, metavar="FILE")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    listen, upstream = (Addr(host, int(port)) for host, port in (args.listen, args.upstream))
    process = _Process(listen, upstream, Impairment(**json.loads(args.up)),
                       Impairment(**json.loads(args.down)), args.seed, args.pcap)
    process.command(["counts"])  # tells that the socket is there
    process.run()


if __name__ == "__main__":
    main()
