"""An HTTP/3 server of one file that does to its clients whatever a script says, for
tests of what a client must not put up with: SERVER_ALTERNATE_ADDRESS frames of any
content at any time, connection IDs, answers to PATH_CHALLENGE or none, silence.

A script is a generator that gets the Peer when its first packet is here; it yields
what it waits for, seconds or a function that is true some time.  run() does all the
work, in the thread of the test.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from net import Addr
from quic_connection import Connection
from quic_crypto import APPLICATION
from quic_http import DATA, HEADERS, STATUS_200, control_stream, frame
from quic_packets import Packet, QuicError, Reader, parse_header, seal_packet, varint
from quic_state import Space

SERVER_ALTERNATE_ADDRESS = 0x1f37163f
ENABLE_SERVER_MIGRATION = 0x0c506bb6

# Transport error codes
NO_ERROR, INTERNAL_ERROR, TRANSPORT_PARAMETER_ERROR = 0x0, 0x1, 0x8
FRAME_ENCODING_ERROR, CONNECTION_ID_LIMIT_ERROR, PROTOCOL_VIOLATION = 0x7, 0x9, 0xa

# What is left of a response until Peer.finish()
HELD = 1000
# For what must happen: not a measure of speed
PATIENCE = 120

Script = Callable[["Peer"], Iterator[float | Callable[[], bool]]]


def alternate_address(number: int, *addresses: Addr, cid: bytes, token: bytes | None = None) -> bytes:
    """The frame; a family of which there is no address is absent."""
    out = varint(SERVER_ALTERNATE_ADDRESS) + varint(number)
    for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        addr = next((a for a in addresses if a.family == family), None)
        out += socket.inet_pton(family, addr.host) + addr.port.to_bytes(2) if addr else bytes(size + 2)
    return out + bytes([len(cid)]) + cid + (token or token_of(cid))


def new_connection_id(number: int, cid: bytes, *, token: bytes | None = None, retire: int = 0) -> bytes:
    return b"\x18" + varint(number) + varint(retire) + bytes([len(cid)]) + cid + (token or token_of(cid))


def token_of(cid: bytes) -> bytes:
    """Any function will do here, as long as different connection IDs have different tokens."""
    return (cid * 16)[:15] + bytes([len(cid)])


def stateless_reset(token: bytes) -> bytes:
    return b"\x5a" + os.urandom(60) + token


class HostileConnection(Connection):
    """A server that by itself neither issues connection IDs nor answers a PATH_CHALLENGE."""

    def __init__(self, *args, **how):
        self.challenges: list[bytes] = []
        self.retired: set[int] = set()
        self.acknowledges = True
        self.confirms = True  # tells the client that the handshake is over
        super().__init__(*args, **how)

    def issue_cids(self, count: int, retire: bool) -> None:
        pass

    def inject(self, frames: bytes, level: int = APPLICATION) -> None:
        """In a packet of that level, as soon as there may be one."""
        self._spaces[level].queue.append(("control", frames))

    @property
    def largest(self) -> int:
        """Number of a packet of the client."""
        return self._spaces[APPLICATION].largest

    @property
    def settled(self) -> bool:
        """The client has acknowledged all that it was sent."""
        space = self._spaces[APPLICATION]
        return not space.queue and not space.unacked

    def packet(self, frames: bytes, size: int = 1200) -> bytes:
        """A datagram of its own of at least that size, past congestion control, which is not sent again."""
        space, dcid = self._spaces[APPLICATION], self.peer_cids[self.peer_cid]
        payload = frames.ljust(size - 1 - len(dcid) - 4 - 16, b"\0")
        space.next += 1
        return seal_packet(APPLICATION, space.next - 1, dcid, b"", payload, space.write)

    def confirm(self) -> None:
        self.confirms = True
        self._control(b"\x1e")

    def _control(self, frame: bytes) -> None:
        if frame != b"\x1e" or self.confirms:
            super()._control(frame)

    def acknowledge(self) -> None:
        self.acknowledges = self._spaces[APPLICATION].ack_due = True

    def _frames(self, packet: Packet, space: Space) -> None:
        super()._frames(packet, space)
        if packet.level == APPLICATION and not self.acknowledges:
            space.ack_due = False

    def _challenged(self, data: bytes) -> None:
        self.challenges.append(data)

    def _retired(self, number: int) -> None:
        self.retired.add(number)

    def _unknown(self, kind: int, _: Reader) -> None:
        raise QuicError(f"the client sent a frame of type {kind:#x}")


class Arrival(NamedTuple):
    """A datagram that reached the server elsewhere than at its first address."""

    to: Addr
    size: int
    cid: bytes


class Peer:
    """One client."""

    def __init__(self, server: "HostileServer", original: bytes, here: Addr, source: tuple):
        self.server, self.first, self.here, self.source = server, here, here, source
        self.connection = HostileConnection(
            time.monotonic(), certificate=server.certificate, original=original, cid_length=server.cid_length,
            on_stream=self._on_stream, parameters=server.parameters.get(here, b""))
        self.answers: set[Addr] = set()  # where a PATH_CHALLENGE is answered
        self.replies: dict[Addr, bytes] = {}  # where each datagram is answered with this one, and that is all
        self.elsewhere: list[Arrival] = []
        self.probes: list[Arrival] = []  # those of `elsewhere` with a PATH_CHALLENGE in them
        self.asked = self.done = self._greeted = False
        self.next_number = 1
        self._stream, self._rest = 0, b""
        self._waits: float | Callable[[], bool] = 0.0
        self._script = server.scripts[here](self)

    # For scripts

    def cid(self) -> bytes:
        """A new one that is known here, whether the client is told of it or not."""
        cid = os.urandom(8)
        self.server.peers[cid] = self
        return cid

    def announce(self, *addresses: Addr) -> bytes:
        """Sends the next SERVER_ALTERNATE_ADDRESS, in order, and returns its connection ID."""
        cid = self.cid()
        self.connection.inject(alternate_address(self.next_number, *addresses, cid=cid))
        self.next_number += 1
        return cid

    def asked_for(self) -> bool:
        return self.asked

    def established(self) -> bool:
        """The client has asked for the file, and knows that the handshake is over."""
        return self.asked and bool(self.connection.received_with)

    def send(self, frames: bytes) -> None:
        """In a packet of their own, at once and once only."""
        self.server.send(self.connection.packet(frames, 0), self.here, self.source)

    def finish(self) -> None:
        """Lets the client have all of its file."""
        self.connection.send_stream(self._stream, self._rest, fin=True)

    # Machinery

    def _on_stream(self, number: int, _: bytes, ended: bool) -> None:
        if number & 3 == 0 and ended and not self.asked:
            response = frame(HEADERS, STATUS_200) + frame(DATA, self.server.content)
            self._stream, self._rest, self.asked = number, response[-HELD:], True
            self.connection.send_stream(number, response[:-HELD])

    def receive(self, data: bytes, here: Addr, source: tuple, cid: bytes) -> None:
        connection = self.connection
        if reply := self.replies.get(here):
            self.elsewhere.append(Arrival(here, len(data), cid))
            self.server.send(reply, here, source)
            return
        before, largest = len(connection.challenges), connection.largest
        try:
            connection.receive(data, time.monotonic())
        except QuicError as err:
            self.server.complaints.append(str(err))
            connection.close()
        probing = len(connection.challenges) > before
        if here not in self.server.scripts:
            arrival = Arrival(here, len(data), cid)
            self.elsewhere.append(arrival)
            if probing:
                self.probes.append(arrival)
        if probing and here in self.answers:
            frames = b"".join(b"\x1b" + challenge for challenge in connection.challenges[before:])
            self.server.send(connection.packet(frames), here, source)
        if not probing and connection.largest > largest:  # the client is there now
            self.here, self.source = here, source

    def work(self, now: float) -> None:
        connection = self.connection
        while not self.done and (self._waits() if callable(self._waits) else now >= self._waits):
            waits = next(self._script, None)
            self.done = waits is None
            self._waits = waits if callable(waits) or self.done else now + waits
        if connection.established and not self._greeted:
            self._greeted = True
            connection.send_stream(connection.open_stream(uni=True), control_stream())
        for datagram in connection.transmit(now):
            self.server.send(datagram, self.here, self.source)

    def due(self, now: float) -> float:
        deadline = self.connection.deadline()
        script = now + 0.05 if self.done or callable(self._waits) else self._waits
        return script if deadline is None else min(script, deadline)


class HostileServer:
    """`scripts`: by the address that a client calls first.  `others`: where it listens, too.
    `parameters`: more transport parameters, encoded, by the first address."""

    def __init__(self, certificate: tuple[Path, Path], content: bytes, scripts: dict[Addr, Script],
                 others: list[Addr] = [], parameters: dict[Addr, bytes] = {},
                 cid_length: int = 8, make: Callable[[Addr], socket.socket] | None = None):
        self.certificate, self.content, self.scripts, self.parameters = certificate, content, scripts, parameters
        self.cid_length = cid_length
        self.peers: dict[bytes, Peer] = {}  # by connection ID
        self.all: list[Peer] = []
        self.complaints: list[str] = []
        # What else is read in run(): socket -> function
        self.readers: dict[socket.socket, Callable[[], None]] = {}
        self._socks = {addr: (make or bound)(addr) for addr in [*scripts, *others]}

    def __enter__(self) -> "HostileServer":
        return self

    def __exit__(self, *_) -> None:
        for peer in self.all:
            peer.connection.release()
        for sock in self._socks.values():
            sock.close()

    def peer(self, addr: Addr) -> Peer | None:
        """The first client that called there."""
        return next((peer for peer in self.all if peer.first == addr), None)

    def send(self, datagram: bytes, here: Addr, source: tuple) -> None:
        try:
            self._socks[here].sendto(datagram, source)
        except OSError:
            pass  # lost, as far as QUIC is concerned

    def idle(self) -> bool:
        """Nothing is left to be read."""
        return not select.select(list(self._socks.values()), [], [], 0)[0]

    def run(self, until: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Serves until that is true; QuicError if that takes too long."""
        end = time.monotonic() + patience
        while not until():
            now = time.monotonic()
            if now > end:
                raise QuicError("what was waited for did not happen")
            live = [peer for peer in self.all if not peer.connection.closed]
            wait = min([0.02, *(peer.due(now) - now for peer in live)])
            by_sock = {sock: addr for addr, sock in self._socks.items()}
            for sock in select.select([*by_sock, *self.readers], [], [], max(0.0, wait))[0]:
                if sock in self.readers:
                    self.readers[sock]()
                else:
                    self._read(sock, by_sock[sock])
            for peer in live:
                peer.work(time.monotonic())

    def _read(self, sock: socket.socket, here: Addr) -> None:
        for _ in range(32):
            try:
                data, source = sock.recvfrom(65536)
            except (BlockingIOError, ConnectionError):
                return
            try:
                header = parse_header(data, 0, self.cid_length)
            except QuicError:
                continue
            if not (peer := self.peers.get(header.dcid)):
                if not (data[0] & 0x80 and header.level is not None and len(data) >= 1200 and here in self.scripts):
                    continue  # nothing that begins a connection
                peer = self.peers[header.dcid] = Peer(self, header.dcid, here, source)
                self.peers[peer.connection.cids[0]] = peer
                self.all.append(peer)
            if not peer.connection.closed:
                peer.receive(data, here, source, header.dcid)
                peer.work(time.monotonic())


def bound(addr: Addr) -> socket.socket:
    """A UDP socket there, which does not block."""
    sock = socket.socket(addr.family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setblocking(False)
    sock.bind(addr)
    return sock
