"""A UDP proxy (RFC 9298) that knows of connection IDs and forwards (draft-ietf-masque-quic-proxy), for tests of
clients: as simple as it can be, it asks for no credentials and protects nobody.  udp_proxy.py is the program; a test
that needs a proxy that errs has a class of its own, in which it does something else where Proxy does what is right.
"""

import argparse
import select
import socket
import time
from collections import Counter
from collections.abc import Callable

from net import Addr
from qpack import Fields
from quic_aware import Malformed
from quic_connection import Connection
from quic_http import Http
from quic_packets import QuicError, parse_header
from rfc9298 import (ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, H3_DATAGRAM_ERROR, LAST_QUARTER, UDP, read_datagram,
                     target)
from udp_proxy_tunnel import BATCH, Tunnel

# Of outer packets: a tunnelled packet of 1280 bytes fits.
PAYLOAD_SIZE = 1400
GENERAL_PROTOCOL_ERROR, SETTINGS_ERROR, MESSAGE_ERROR = 0x101, 0x109, 0x10e


class Peer:
    """One client's connection."""

    tunnel = Tunnel

    def __init__(self, proxy: "Proxy", original: bytes, address: tuple):
        options = proxy.options
        self.proxy, self.address = proxy, address
        self.connection = Connection(time.monotonic(), certificate=(options.key, options.cert), original=original,
                                     payload_size=PAYLOAD_SIZE, on_datagram=self._on_datagram,
                                     datagrams=not options.no_datagrams)
        self.http = Http(self.connection, proxy.settings(), self._on_fields, self._on_data, self._on_end)
        self.tunnels: dict[int, Tunnel] = {}

    @property
    def takes_datagrams(self) -> bool:
        return (self.http.settings or {}).get(H3_DATAGRAM) == 1 and not self.proxy.options.no_datagrams

    def receive(self, data: bytes) -> None:
        try:
            self.connection.receive(data, time.monotonic())
            self._check_settings()
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
        elif text.get(":scheme") != "https" or not text.get(":authority") or not where or any(
                names.count(name) > 1 for name in names if name.startswith(":")):
            self._refuse(number, 400)
        elif (status := self.proxy.status(fields)) != 200:
            self._refuse(number, status)
        else:
            self._accept(number, where, fields)

    def _refuse(self, number: int, status: int) -> None:
        after = [("retry-after", str(self.proxy.options.retry_after))] if self.proxy.options.retry_after else []
        self.http.send_fields(number, [(":status", str(status)), *after], fin=True)

    def _accept(self, number: int, where: tuple[str, int], fields: Fields) -> None:
        try:
            family, *_, addr = socket.getaddrinfo(*where, type=socket.SOCK_DGRAM)[0]
        except (OSError, ValueError):
            self._refuse(number, 502)
            return
        tunnel = self.tunnels[number] = self.tunnel(self, number, addr, family, fields)
        self.http.send_fields(number, self.proxy.answer(tunnel, addr[0]))
        self.proxy.opened(tunnel)

    def _check_settings(self) -> None:
        """Something may have come that says what they are."""
        if (self.http.settings or {}).get(H3_DATAGRAM, 0) not in (0, 1):
            self.proxy.complain("H3_DATAGRAM is neither 0 nor 1")
            self.connection.close(SETTINGS_ERROR)

    def _on_data(self, number: int, data: bytes) -> None:
        if tunnel := self.tunnels.get(number):
            try:
                tunnel.on_data(data)
            except QuicError as err:
                self.proxy.complain(str(err))
                self._forget(number)
                code = MESSAGE_ERROR if isinstance(err, Malformed) else H3_DATAGRAM_ERROR
                self.connection.reset_stream(number, code)

    def _on_end(self, number: int) -> None:
        if tunnel := self.tunnels.get(number):
            self._forget(number)
            if tunnel.capsules.cut_off and number not in self.connection.resets:
                self.proxy.complain(f"stream {number} ends in the middle of a capsule")
                self.connection.reset_stream(number, MESSAGE_ERROR)
            else:
                self.connection.send_stream(number, b"", fin=True)

    def _on_datagram(self, data: bytes) -> None:
        try:
            stream, context, payload = read_datagram(data)
            if stream > 4 * LAST_QUARTER:
                raise QuicError(f"a datagram of stream {stream}")
        except QuicError as err:
            self.proxy.complain(str(err))
            self.connection.close(H3_DATAGRAM_ERROR)
            return
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
    peer = Peer

    def __init__(self, options: argparse.Namespace):
        self.options = options
        # By every connection ID that a client may use, the one it made up at first too
        self.peers: dict[bytes, Peer] = {}
        self.all: list[Peer] = []
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

    # What a test may want otherwise

    def settings(self) -> dict[int, int]:
        return (({} if self.options.no_extended_connect else {ENABLE_CONNECT_PROTOCOL: 1})
                | ({} if self.options.no_datagrams else {H3_DATAGRAM: 1}))

    def status(self, _: Fields) -> int:
        """Of the answer to a request that is right."""
        return self.options.status

    def answer(self, tunnel: Tunnel, address: str) -> Fields:
        """If that is 200."""
        return [(":status", "200"), ("capsule-protocol", "?1"), ("proxy-status", f'udp-proxy; next-hop="{address}"'),
                *tunnel.ids.answer()]

    def opened(self, tunnel: Tunnel) -> None:
        """The answer has been sent."""

    def on_capsule(self, tunnel: Tunnel, kind: int, value: bytes) -> bytes:
        """What is to be answered; QuicError: the stream is to be reset."""
        return tunnel.ids.on_capsule(kind, value)

    def on_target(self, tunnel: Tunnel, payload: bytes) -> None:
        """A payload for the client."""
        if forwarded := tunnel.ids.to_client(payload):
            self.to_client["forwarded"] += 1
            tunnel.forward(forwarded)
        else:
            tunnel.tunnel(payload)

    # Machinery

    def complain(self, what: str) -> None:
        self.complaints.append(what)
        print(f"# udp_proxy: {what}", flush=True)

    def send(self, packet: bytes, address: tuple) -> None:
        try:
            self._sock.sendto(packet, address)
        except OSError:
            pass  # lost, as far as QUIC is concerned

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_) -> None:
        for peer in self.all:
            peer.close()
            peer.connection.release()
        self._sock.close()

    def run(self, until: Callable[[], bool], patience: float | None = None, wake: socket.socket | None = None) -> None:
        """Serves until that is true; QuicError if that takes longer than `patience` seconds.  When something comes at
        `wake`, it is asked at once."""
        end = None if patience is None else time.monotonic() + patience
        while not until():
            if end and time.monotonic() > end:
                raise QuicError("what was waited for did not happen")
            live = [peer for peer in self.all if not peer.connection.closed]
            for peer in self.all:
                if peer.connection.closed:
                    peer.close()
            served = len(self.all)
            due = [d for peer in live if (d := peer.connection.deadline()) is not None]
            tunnels = {tunnel.sock: tunnel for peer in live for tunnel in peer.tunnels.values()}
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            if end:  # `until` may depend on others
                timeout = 0.05 if timeout is None else min(timeout, 0.05)
            for sock in select.select([self._sock, *tunnels, *filter(None, [wake])], [], [], timeout)[0]:
                if sock is self._sock:
                    self._read()
                elif sock in tunnels and sock.fileno() >= 0:  # what was read before may have ended it
                    tunnels[sock].from_target()
            # Those that have been closed meanwhile have to say so.
            for peer in [*live, *self.all[served:]]:
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
                peer = self.peers[header.dcid] = self.peer(self, header.dcid, source)
                self.all.append(peer)
            peer.address = source
            peer.receive(data)

    def stats(self) -> dict:
        return {"connections": len(self.all), "settings": [peer.http.settings for peer in self.all],
                "requests": self.requests, "to_target": self.to_target, "to_client": self.to_client,
                "cids": self.cids, "complaints": self.complaints}
