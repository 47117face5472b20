"""Packets, variable-length integers and transport parameters of QUIC version 1
(RFC 9000), for the endpoint in quic_connection.py."""

from typing import NamedTuple

from quic_crypto import APPLICATION, HANDSHAKE, INITIAL, Keys

VERSION = 1
_LONG_TYPES = {INITIAL: 0, HANDSHAKE: 2}

# Transport parameters by name; what is not here is not looked at.
PARAMETERS = {
    "original_destination_connection_id": 0x00, "max_idle_timeout": 0x01, "max_udp_payload_size": 0x03,
    "initial_max_data": 0x04, "initial_max_stream_data_bidi_local": 0x05,
    "initial_max_stream_data_bidi_remote": 0x06, "initial_max_stream_data_uni": 0x07,
    "initial_max_streams_bidi": 0x08, "initial_max_streams_uni": 0x09, "active_connection_id_limit": 0x0e,
    "initial_source_connection_id": 0x0f, "max_datagram_frame_size": 0x20}
_NUMBERS = {number: name for name, number in PARAMETERS.items()}


class QuicError(Exception):
    """The peer broke a rule, or the connection is over."""


def varint(value: int) -> bytes:
    for length, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * length - 2):
            return (value | prefix << (8 * length - 2)).to_bytes(length)
    raise ValueError(value)


class Reader:
    """Reads from the beginning of `data`; QuicError when there is not enough."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def bytes(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise QuicError("cut off")
        self.at += count
        return self.data[self.at - count:self.at]

    def byte(self) -> int:
        return self.bytes(1)[0]

    def varint(self) -> int:
        first = self.byte()
        rest = self.bytes((1 << (first >> 6)) - 1)
        return int.from_bytes(bytes([first & 0x3f]) + rest)

    def rest(self) -> bytes:
        return self.bytes(len(self.data) - self.at)


def encode_parameters(values: dict[str, int | bytes]) -> bytes:
    out = b""
    for name, value in values.items():
        data = value if isinstance(value, bytes) else varint(value)
        out += varint(PARAMETERS[name]) + varint(len(data)) + data
    return out


def decode_parameters(data: bytes) -> dict[str, int | bytes]:
    reader, values = Reader(data), {}
    while reader:
        number = reader.varint()
        value = reader.bytes(reader.varint())
        if name := _NUMBERS.get(number):
            values[name] = value if name.endswith("connection_id") else Reader(value).varint()
    return values


class Packet(NamedTuple):
    """A packet whose protection has been taken off."""

    level: int
    number: int
    dcid: bytes
    payload: bytes


class Header(NamedTuple):
    """What can be read before that; `end` is where the next packet of the datagram begins."""

    level: int | None  # None: of no use here
    dcid: bytes
    scid: bytes
    number_at: int
    end: int


def parse_header(datagram: bytes, at: int, cid_length: int) -> Header:
    """`cid_length`: of our own connection IDs, which short headers do not tell."""
    reader = Reader(datagram)
    reader.at = at
    first = reader.byte()
    if not first & 0x80:
        dcid = reader.bytes(cid_length)
        return Header(APPLICATION, dcid, b"", reader.at, len(datagram))
    version = int.from_bytes(reader.bytes(4))
    dcid = reader.bytes(reader.byte())
    scid = reader.bytes(reader.byte())
    level = {number: level for level, number in _LONG_TYPES.items()}.get(first >> 4 & 3)
    if version != VERSION or level is None:
        return Header(None, dcid, scid, 0, len(datagram))
    if level == INITIAL:
        reader.bytes(reader.varint())
    length = reader.varint()
    end = reader.at + length
    if end > len(datagram):
        raise QuicError("cut off")
    return Header(level, dcid, scid, reader.at, end)


def open_packet(datagram: bytes, at: int, header: Header, keys: Keys, largest: int) -> Packet | None:
    """None: the packet cannot be authenticated.  `largest`: number received so far, or -1."""
    start = header.number_at
    if header.end - start < 20:
        return None
    mask = keys.mask(datagram[start + 4:start + 20])
    first = datagram[at] ^ mask[0] & (0x0f if header.level != APPLICATION else 0x1f)
    size = (first & 3) + 1
    truncated = bytes(a ^ b for a, b in zip(datagram[start:start + size], mask[1:]))
    # RFC 9000, appendix A.3
    window = 1 << (8 * size)
    number = (largest + 1) & ~(window - 1) | int.from_bytes(truncated)
    if number <= largest + 1 - window // 2 and number < (1 << 62) - window:
        number += window
    elif number > largest + 1 + window // 2 and number >= window:
        number -= window
    associated = bytes([first]) + datagram[at + 1:start] + truncated
    payload = keys.open(number, associated, datagram[start + size:header.end])
    return None if payload is None else Packet(header.level, number, header.dcid, payload)


def seal_packet(level: int, number: int, dcid: bytes, scid: bytes, payload: bytes, keys: Keys) -> bytes:
    """A packet with a packet number of four bytes."""
    encoded = (number & 0xffffffff).to_bytes(4)
    if level == APPLICATION:
        head = b"\x43" + dcid
    else:
        head = (bytes([0xc3 | _LONG_TYPES[level] << 4]) + VERSION.to_bytes(4) + bytes([len(dcid)]) + dcid
                + bytes([len(scid)]) + scid + (b"\0" if level == INITIAL else b"")
                + (0x4000 | len(payload) + 20).to_bytes(2))
    sealed = keys.seal(number, head + encoded, payload)
    mask = keys.mask(sealed[:16])
    first = head[0] ^ mask[0] & (0x1f if level == APPLICATION else 0x0f)
    return bytes([first]) + head[1:] + bytes(a ^ b for a, b in zip(encoded, mask[1:])) + sealed
