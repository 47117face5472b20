"""A client of CONNECT-UDP with connection-ID headers (draft-00) that does one thing
at a time, for tests of what a proxy answers: the sample client never exceeds a
bound, and never asks for anything that is wrong.

What it tunnels are any bytes: neither the proxy nor a target of UDP sockets minds.
"""

import base64
import select
import socket
import time
from collections.abc import Callable

from net import Addr
from quic_connection import Connection
from quic_http import DATA, H3_DATAGRAM, HEADERS, control_stream, encode_fields, frame, status
from quic_packets import QuicError, Reader, varint

# For what must happen: not a measure of speed
PATIENCE = 60
# Of outer packets: a tunnelled datagram of 1200 bytes fits.
PAYLOAD_SIZE = 1400
NO_ERROR, REQUEST_CANCELLED, MESSAGE_ERROR = 0x100, 0x10c, 0x10e


def sf_bytes(cid: bytes) -> str:
    return f":{base64.b64encode(cid).decode()}:"


class ProxyClient:
    """Connected from the beginning of a with block to its end, with the address `source`
    if there is one."""

    def __init__(self, proxy: Addr, source: str = "", datagrams: bool = True):
        self._sock = socket.socket(proxy.family, socket.SOCK_DGRAM)
        if source:
            self._sock.bind((source, 0))
        self._sock.setblocking(False)
        self._datagrams = datagrams
        self._sock.connect(proxy)
        self._streams: dict[int, tuple[bytes, bool]] = {}
        self.peer_streams: dict[int, bytes] = {}  # the proxy's own, and what came on each
        self.tunnelled: list[tuple[int, bytes]] = []  # received: flow id, payload
        self.forwarded: list[bytes] = []  # received
        self.connection = Connection(time.monotonic(), payload_size=PAYLOAD_SIZE,
                                     on_stream=self._on_stream, on_datagram=self._on_datagram, datagrams=datagrams)

    def _connect(self) -> None:
        try:
            self.wait(lambda: self.connection.established, "no connection to the proxy")
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> "ProxyClient":
        self._connect()
        self.connection.send_stream(self.connection.open_stream(uni=True), control_stream({H3_DATAGRAM: 1} if self._datagrams else {}))
        return self

    def __exit__(self, *_) -> None:
        if not self.connection.closed:
            self.connection.close(NO_ERROR)
            self._transmit()
        self.connection.release()
        self._sock.close()

    @property
    def sock(self) -> socket.socket:
        return self._sock

    @property
    def addr(self) -> Addr:
        return Addr(*self._sock.getsockname()[:2])

    def use(self, sock: socket.socket) -> socket.socket:
        """Moves to another socket, which is connected to the proxy, and returns the one that was in use."""
        self._sock, before = sock, self._sock
        return before

    # Requests

    def request(self, authority: str, flow: int, *, client_cid: bytes | None = None,
                server_cid: bytes | None = None, fields: list[tuple[str, str]] = []) -> int:
        """Sends a request, with more `fields` if there are any, and returns its stream."""
        asked = [(":method", "CONNECT-UDP"), (":authority", authority), ("datagram-flow-id", str(flow))]
        for name, cid in (("client-connection-id", client_cid), ("server-connection-id", server_cid)):
            if cid is not None:
                asked.append((name, sf_bytes(cid)))
        return self.request_fields([*asked, *fields])

    def request_fields(self, fields: list[tuple[str, str]], fin: bool = False) -> int:
        return self.request_bytes(frame(HEADERS, encode_fields(fields)), fin)

    def request_bytes(self, data: bytes, fin: bool = False) -> int:
        """Whatever that is."""
        number = self.connection.open_stream()
        self._streams[number] = b"", False
        self.connection.send_stream(number, data, fin)
        self._transmit()
        return number

    def status(self, number: int) -> int:
        """Waits for the answer on the stream."""
        self.wait(lambda: self._answer(number) is not None, f"no answer on stream {number}")
        return self._answer(number)

    def ask(self, authority: str, flow: int, **how) -> int:
        return self.status(self.request(authority, flow, **how))

    def ended(self, number: int) -> bool:
        """Whether the proxy has closed or reset the stream."""
        return self._streams[number][1]

    def end(self, number: int) -> None:
        """Gives the request up, and with it what was mapped by it, and waits until the proxy has done so too."""
        self.connection.reset_stream(number, REQUEST_CANCELLED)
        self.wait(lambda: self.ended(number), f"the proxy does not end stream {number}")

    def _answer(self, number: int) -> int | None:
        data, ended = self._streams[number]
        r = Reader(data)
        while r:
            try:
                kind, payload = r.varint(), r.bytes(r.varint())
            except QuicError:
                break  # more is to come
            if kind == HEADERS:
                return status(payload)
        if ended:
            raise QuicError(f"stream {number} ended without an answer")
        return None

    # Datagrams

    def send(self, flow: int, payload: bytes) -> None:
        self.connection.send_datagram(varint(flow) + payload)
        self._transmit()

    def send_on_stream(self, number: int, payload: bytes) -> None:
        """The same on the stream of a request, as without datagrams."""
        self.connection.send_stream(number, frame(DATA, len(payload).to_bytes(2, "big") + payload))
        self._transmit()

    def on_stream(self, number: int) -> list[bytes]:
        """All payloads that have come on the stream of a request."""
        data = b""
        frames, payloads = Reader(self._streams[number][0]), []
        try:
            while frames:
                kind, payload = frames.varint(), frames.bytes(frames.varint())
                data += payload if kind == DATA else b""
        except QuicError:
            pass  # more is to come
        while len(data) >= 2 and len(data) >= 2 + int.from_bytes(data[:2], "big"):
            end = 2 + int.from_bytes(data[:2], "big")
            payloads.append(data[2:end])
            data = data[end:]
        return payloads

    def forward(self, packet: bytes) -> None:
        """Sends it past the connection, on the same socket."""
        self._sock.send(packet)

    # Machinery

    def wait(self, condition: Callable[[], bool], complaint: str, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            if self.connection.closed:
                raise QuicError(f"{complaint}: {self.connection.closed}")
            if time.monotonic() > deadline:
                raise QuicError(complaint)
            self.work(0.05)

    def work(self, seconds: float = 0) -> None:
        """Sends, and receives what is there or comes within that time."""
        self._transmit()
        due = self.connection.deadline()
        wait = seconds if due is None else min(seconds, max(0.0, due - time.monotonic()))
        if select.select([self._sock], [], [], wait)[0]:
            while True:
                try:
                    data = self._sock.recv(65536)
                except (BlockingIOError, ConnectionError):
                    break
                if data and not data[0] & 0x80 and data[1:9] not in self.connection.cids.values():
                    self.forwarded.append(data)
                else:
                    self.connection.receive(data, time.monotonic())
            self._transmit()

    def _transmit(self) -> None:
        for datagram in self.connection.transmit(time.monotonic()):
            try:
                self._sock.send(datagram)
            except OSError:
                pass  # lost, as far as QUIC is concerned

    def _on_stream(self, number: int, data: bytes, ended: bool) -> None:
        if number in self._streams:
            before, ended_before = self._streams[number]
            self._streams[number] = before + data, ended or ended_before
        elif number & 3 == 3:
            self.peer_streams[number] = self.peer_streams.get(number, b"") + data

    def _on_datagram(self, data: bytes) -> None:
        r = Reader(data)
        self.tunnelled.append((r.varint(), r.rest()))
