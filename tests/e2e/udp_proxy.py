#!/usr/bin/env python3
"""A UDP proxy (RFC 9298) that knows of connection IDs and forwards (draft-ietf-masque-quic-proxy), for tests of
clients: as simple as it can be, it asks for no credentials and protects nobody.

    tests/e2e/udp_proxy.py --listen HOST PORT --key FILE --cert FILE --stats FILE [OPTIONS]

SIGINT ends it, and --stats gets what happened: a JSON object with `connections`, `settings` (of the clients),
`requests` (lists of fields), `to_target` and `to_client` (payloads by the way that they came or went: `datagrams`,
`capsules`, `forwarded`), `cids` (of each capsule that came, in order: the draft's revision, and its name), and
`complaints`: what clients did that they must not.
"""

import argparse
import json
import select
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

from net import Addr
from qpack import Fields
from quic_connection import Connection
from quic_http import Http
from quic_packets import QuicError, Reader, parse_header
from rfc9298 import (DATAGRAM, ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, H3_DATAGRAM_ERROR, MAX_PAYLOAD, UDP, Capsules,
                     datagram, datagram_capsule, read_datagram, target)
from udp_proxy_ids import Ids

# Datagrams that are read before answers are sent
BATCH = 32
# Of outer packets: a tunnelled packet of 1280 bytes fits.
PAYLOAD_SIZE = 1400
GENERAL_PROTOCOL_ERROR = 0x101


class _Tunnel:
    def __init__(self, peer: "_Peer", stream: int, addr: tuple, family: int, fields: Fields):
        self.peer, self.stream = peer, stream
        self.capsules = Capsules()
        self.ids = Ids(peer.proxy.options, fields, peer.proxy.cids)
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect(addr)

    def close(self) -> None:
        self.sock.close()
        self.ids.close()

    def to_target(self, payload: bytes, way: str) -> None:
        self.peer.proxy.to_target[way] += 1
        try:
            self.sock.send(payload)
        except OSError:
            pass  # lost, as far as UDP is concerned

    def on_data(self, data: bytes) -> None:
        """QuicError: the stream is to be reset."""
        for kind, value in self.capsules.feed(data):
            if kind == DATAGRAM:
                r = Reader(value)
                context, payload = r.varint(), r.rest()
                if context == UDP and len(payload) > MAX_PAYLOAD:
                    raise QuicError("a payload that is too long")
                if context == UDP:
                    self.to_target(payload, "capsules")
            elif answers := self.ids.on_capsule(kind, value):
                self.peer.http.send_data(self.stream, answers)

    def from_target(self) -> None:
        proxy = self.peer.proxy
        for _ in range(BATCH):
            try:
                payload = self.sock.recv(65536)
            except OSError:  # nothing is there, or it is an ICMP error
                return
            if forwarded := self.ids.to_client(payload):
                proxy.to_client["forwarded"] += 1
                proxy.send(forwarded, self.peer.address)
            elif self.peer.takes_datagrams and not proxy.options.capsules:
                try:
                    self.peer.connection.send_datagram(datagram(self.stream, payload))
                    proxy.to_client["datagrams"] += 1
                except QuicError:
                    pass  # too long
            else:
                self.peer.http.send_data(self.stream, datagram_capsule(payload))
                proxy.to_client["capsules"] += 1


class _Peer:
    """One client's connection."""

    def __init__(self, proxy: "Proxy", original: bytes, address: tuple):
        options = proxy.options
        self.proxy, self.address = proxy, address
        self.connection = Connection(time.monotonic(), certificate=(options.key, options.cert), original=original,
                                     payload_size=PAYLOAD_SIZE, on_datagram=self._on_datagram,
                                     datagrams=not options.no_datagrams)
        settings = {} if options.no_extended_connect else {ENABLE_CONNECT_PROTOCOL: 1}
        if not options.no_datagrams:
            settings[H3_DATAGRAM] = 1
        self.http = Http(self.connection, settings, self._on_fields, self._on_data, self._on_end)
        self.tunnels: dict[int, _Tunnel] = {}

    @property
    def takes_datagrams(self) -> bool:
        return (self.http.settings or {}).get(H3_DATAGRAM) == 1 and not self.proxy.options.no_datagrams

    def receive(self, data: bytes) -> None:
        try:
            self.connection.receive(data, time.monotonic())
        except QuicError as err:
            self.proxy.complain(str(err))
            self.connection.close(GENERAL_PROTOCOL_ERROR)

    def transmit(self) -> None:
        if self.connection.established:
            self.http.begin()
        for packet in self.connection.transmit(time.monotonic()):
            self.proxy.send(packet, self.address)
        for cid in self.connection.cids.values():
            self.proxy.peers[cid] = self

    def close(self) -> None:
        for number in list(self.tunnels):
            self._forget(number)

    def _forget(self, number: int) -> None:
        if tunnel := self.tunnels.pop(number, None):
            tunnel.close()

    def _on_fields(self, number: int, fields: Fields) -> None:
        self.proxy.requests.append(fields)
        text = dict(fields)
        where = target(text.get(":path", ""))
        names = [name for name, _ in fields]
        if text.get(":method") != "CONNECT" or text.get(":protocol") != "connect-udp":
            self._refuse(number, 501)
        elif text.get(":scheme") != "https" or not where or any(
                names.count(name) > 1 for name in names if name.startswith(":")):
            self._refuse(number, 400)
        elif self.proxy.options.status != 200:
            self._refuse(number, self.proxy.options.status)
        else:
            self._accept(number, where, fields)

    def _refuse(self, number: int, status: int) -> None:
        self.http.send_fields(number, [(":status", str(status))], fin=True)

    def _accept(self, number: int, where: tuple[str, int], fields: Fields) -> None:
        try:
            family, *_, addr = socket.getaddrinfo(*where, type=socket.SOCK_DGRAM)[0]
        except OSError:
            self._refuse(number, 502)
            return
        tunnel = self.tunnels[number] = _Tunnel(self, number, addr, family, fields)
        answer = [(":status", "200"), ("capsule-protocol", "?1"),
                  ("proxy-status", f'udp-proxy; next-hop="{addr[0]}"'), *tunnel.ids.answer()]
        self.http.send_fields(number, answer)

    def _on_data(self, number: int, data: bytes) -> None:
        if tunnel := self.tunnels.get(number):
            try:
                tunnel.on_data(data)
            except QuicError as err:
                self.proxy.complain(str(err))
                self._forget(number)
                self.connection.reset_stream(number, H3_DATAGRAM_ERROR)

    def _on_end(self, number: int) -> None:
        if tunnel := self.tunnels.get(number):
            if tunnel.capsules.cut_off and number not in self.connection.resets:
                self.proxy.complain(f"stream {number} ends in the middle of a capsule")
            self._forget(number)
            self.connection.send_stream(number, b"", fin=True)

    def _on_datagram(self, data: bytes) -> None:
        stream, context, payload = read_datagram(data)
        if stream % 4 or stream >> 2 > (1 << 60) - 1:
            raise QuicError(f"a datagram of stream {stream}")
        if context == UDP and (tunnel := self.tunnels.get(stream)):
            tunnel.to_target(payload, "datagrams")

    def forwarded(self, packet: bytes) -> bool:
        """Whether it was for one of the tunnels."""
        for tunnel in self.tunnels.values():
            if inner := tunnel.ids.to_target(packet):
                tunnel.to_target(inner, "forwarded")
                return True
        return False


class Proxy:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        # By every connection ID that a client may use, the one it made up at first too
        self.peers: dict[bytes, _Peer] = {}
        self.all: list[_Peer] = []
        self.requests: list[Fields] = []
        self.complaints: list[str] = []
        self.cids: list[tuple[int, str]] = []
        self.to_target: Counter[str] = Counter()
        self.to_client: Counter[str] = Counter()
        addr = Addr(options.listen[0], int(options.listen[1]))
        self._sock = socket.socket(addr.family, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.setblocking(False)
        self._sock.bind(addr)

    def complain(self, what: str) -> None:
        self.complaints.append(what)
        print(f"udp_proxy: {what}", flush=True)

    def send(self, packet: bytes, address: tuple) -> None:
        try:
            self._sock.sendto(packet, address)
        except OSError:
            pass  # lost, as far as QUIC is concerned

    def run(self) -> None:
        while True:
            live = [peer for peer in self.all if not peer.connection.closed]
            for peer in self.all:
                if peer.connection.closed:
                    peer.close()
            due = [d for peer in live if (d := peer.connection.deadline()) is not None]
            tunnels = {tunnel.sock: tunnel for peer in live for tunnel in peer.tunnels.values()}
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            for sock in select.select([self._sock, *tunnels], [], [], timeout)[0]:
                if sock is self._sock:
                    self._read()
                elif sock.fileno() >= 0:  # what was read before may have ended it
                    tunnels[sock].from_target()
            for peer in self.all:
                if not peer.connection.closed:
                    peer.transmit()

    def _read(self) -> None:
        for _ in range(BATCH):
            try:
                data, source = self._sock.recvfrom(65536)
            except OSError:
                return
            try:
                header = parse_header(data, 0, 8)
            except QuicError:
                continue
            if not (peer := self.peers.get(header.dcid)):
                if not data[0] & 0x80:
                    any(peer.address == source and peer.forwarded(data) for peer in self.all)
                    continue
                if header.level is None or len(data) < 1200:
                    continue  # nothing that begins a connection
                peer = self.peers[header.dcid] = _Peer(self, header.dcid, source)
                self.all.append(peer)
            peer.address = source
            peer.receive(data)

    def stats(self) -> dict:
        return {"connections": len(self.all), "settings": [peer.http.settings for peer in self.all],
                "requests": self.requests, "to_target": self.to_target, "to_client": self.to_client,
                "cids": self.cids, "complaints": self.complaints}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--listen", nargs=2, required=True, metavar=("HOST", "PORT"))
    for name in ("key", "cert", "stats"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE")
    parser.add_argument("--status", type=int, default=200, help="of the answer to every request that is right")
    parser.add_argument("--no-datagrams", action="store_true", help="negotiates no QUIC datagrams")
    parser.add_argument("--no-extended-connect", action="store_true", help="does not say that it knows the method")
    parser.add_argument("--capsules", action="store_true", help="sends DATAGRAM capsules and no datagrams")
    parser.add_argument("--transforms", default="scramble-dt,identity", metavar="LIST",
                        help="what it can do to forwarded packets, the best first; with none it does not forward")
    parser.add_argument("--reject", default="", metavar="LIST", help="CLIENT, TARGET: whose connection IDs it rejects")
    parser.add_argument("--allowance", type=int, default=8, metavar="N", help="how many further ones it allows")
    parser.add_argument("--cid-length", type=int, default=0, metavar="N", help="least length of virtual ones")
    return parser.parse_args(arguments)


def main() -> None:
    proxy = Proxy(parse(sys.argv[1:]))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        proxy.run()
    finally:
        proxy.options.stats.write_text(json.dumps(proxy.stats(), indent=2) + "\n")


if __name__ == "__main__":
    main()
