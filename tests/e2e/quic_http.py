"""As little of HTTP/3 (RFC 9114) as the endpoints in Python need."""

from collections.abc import Callable

from qpack import Fields, decode_fields, encode_fields
from quic_connection import Connection
from quic_packets import QuicError, Reader, varint

DATA, HEADERS, SETTINGS = 0x00, 0x01, 0x04
# Of draft-schinazi-quic-h3-datagram-05
H3_DATAGRAM = 0x276

STATUS_200 = b"\0\0" + bytes([0xc0 | 25])


def frame(kind: int, payload: bytes) -> bytes:
    return varint(kind) + varint(len(payload)) + payload


def control_stream(settings: dict[int, int] = {}) -> bytes:
    """What a control stream begins with."""
    return varint(0) + frame(SETTINGS, b"".join(varint(k) + varint(v) for k, v in settings.items()))


def status(section: bytes) -> int:
    """The :status of an answer, which is its first field."""
    fields = decode_fields(section)
    if not fields or fields[0][0] != ":status":
        raise QuicError(f"the answer does not begin with a :status: {section.hex()}")
    return int(fields[0][1])


class Frames:
    """Takes frames off a stream."""

    def __init__(self):
        self._rest = b""
        self._data = 0  # bytes of a DATA frame that are still to come

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Type and payload of those that are there now; DATA frames in the pieces in which they come."""
        self._rest += data
        out = []
        while self._rest:
            if self._data:
                piece, self._rest = self._rest[:self._data], self._rest[self._data:]
                self._data -= len(piece)
                out.append((DATA, piece))
                continue
            r = Reader(self._rest)
            try:
                kind, size = r.varint(), r.varint()
                payload = b"" if kind == DATA else r.bytes(size)
            except QuicError:
                break
            self._rest = r.rest()
            if kind == DATA:
                self._data = size
            else:
                out.append((kind, payload))
        return out

    @property
    def cut_off(self) -> bool:
        """Whether the stream must not end here."""
        return bool(self._rest or self._data)


class Http:
    """What `connection` carries, of either role: the peer's SETTINGS, and its messages on request streams.  The
    functions get the stream's number first."""

    def __init__(self, connection: Connection, settings: dict[int, int],
                 on_fields: Callable[[int, Fields], None] = lambda *_: None,
                 on_data: Callable[[int, bytes], None] = lambda *_: None,
                 on_end: Callable[[int], None] = lambda *_: None):
        self.connection = connection
        self.settings: dict[int, int] | None = None  # the peer's
        self._ours = settings
        self._on_fields, self._on_data, self._on_end = on_fields, on_data, on_end
        self._frames: dict[int, Frames] = {}
        self._uni: dict[int, bytes] = {}  # of the peer, before it is known what they are
        self._control: int | None = None
        self._begun = False
        connection.on_stream = self._on_stream

    def begin(self) -> None:
        """To be called when the connection is established, and as often as one likes after that."""
        if not self._begun:
            self._begun = True
            self.connection.send_stream(self.connection.open_stream(uni=True), control_stream(self._ours))

    def send_fields(self, number: int, fields: Fields, fin: bool = False) -> None:
        self.connection.send_stream(number, frame(HEADERS, encode_fields(fields)), fin)

    def send_data(self, number: int, data: bytes, fin: bool = False) -> None:
        self.connection.send_stream(number, frame(DATA, data) if data else b"", fin)

    def _on_stream(self, number: int, data: bytes, ended: bool) -> None:
        if number & 2:
            self._on_uni(number, data)
            return
        frames = self._frames.setdefault(number, Frames())
        for kind, payload in frames.feed(data):
            if kind == HEADERS:
                self._on_fields(number, decode_fields(payload))
            elif kind == DATA:
                self._on_data(number, payload)
        if ended:
            self._on_end(number)

    def _on_uni(self, number: int, data: bytes) -> None:
        """Control streams are of interest, those of QPACK are not: there is nothing for them to say."""
        if number != self._control:
            self._uni[number] = self._uni.get(number, b"") + data
            data = self._uni[number]
            if not data or data[0] != 0:
                return
            if self._control is not None:
                raise QuicError("a second control stream")
            self._control, data = number, data[1:]
        for kind, payload in self._frames.setdefault(number, Frames()).feed(data):
            if (self.settings is None) != (kind == SETTINGS):
                raise QuicError("SETTINGS twice" if kind == SETTINGS else f"frame {kind:#x} before SETTINGS")
            if kind == SETTINGS:
                self.settings = _settings(payload)


def _settings(payload: bytes) -> dict[int, int]:
    r, settings = Reader(payload), {}
    while r:
        number, value = r.varint(), r.varint()
        if number in settings:
            raise QuicError(f"setting {number:#x} twice")
        settings[number] = value
    return settings
