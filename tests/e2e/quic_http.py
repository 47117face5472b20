"""As little of HTTP/3 (RFC 9114) and QPACK (RFC 9204) as the endpoints in Python
need: no dynamic table, and of an answer only the status is read."""

from quic_packets import QuicError, Reader, varint

DATA, HEADERS, SETTINGS = 0x00, 0x01, 0x04
H3_DATAGRAM = 0x276

# QPACK static table entries that are a :status
_STATUS = {24: 103, 25: 200, 26: 304, 27: 404, 28: 503, 63: 100, 64: 204, 65: 206, 66: 302, 67: 400, 68: 403,
           69: 421, 70: 425, 71: 500}
STATUS_200 = b"\0\0" + bytes([0xc0 | 25])


def frame(kind: int, payload: bytes) -> bytes:
    return varint(kind) + varint(len(payload)) + payload


def control_stream(settings: dict[int, int] = {}) -> bytes:
    """What a control stream begins with."""
    return varint(0) + frame(SETTINGS, b"".join(varint(k) + varint(v) for k, v in settings.items()))


def _integer(value: int, prefix: int, first: int) -> bytes:
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytes([first | limit]), value - limit
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _read_integer(r: Reader, first: int, prefix: int) -> int:
    limit = (1 << prefix) - 1
    value, shift = first & limit, 0
    if value == limit:
        while True:
            byte = r.byte()
            value, shift = value + ((byte & 127) << shift), shift + 7
            if byte < 128:
                break
    return value


def encode_fields(fields: list[tuple[str, str]]) -> bytes:
    """Literals all of them, without Huffman coding."""
    out = b"\0\0"
    for name, value in fields:
        raw = name.encode(), value.encode()
        out += _integer(len(raw[0]), 3, 0x20) + raw[0] + _integer(len(raw[1]), 7, 0) + raw[1]
    return out


def _huffman_digits(data: bytes) -> str:
    """Of a text that is nothing but digits (RFC 7541, appendix B)."""
    bits = "".join(f"{byte:08b}" for byte in data)
    codes = {"00000": "0", "00001": "1", "00010": "2", **{f"{0b011001 + n:06b}": str(3 + n) for n in range(7)}}
    out, code = "", ""
    for bit in bits:
        code += bit
        if code in codes:
            out, code = out + codes[code], ""
    return out


def status(fields: bytes) -> int:
    """The :status of an answer, which is its first field."""
    r = Reader(fields)
    if r.byte() or r.byte():
        raise QuicError("QPACK: the dynamic table is used, which was not allowed")
    first = r.byte()
    if first & 0xc0 == 0xc0:
        return _STATUS[_read_integer(r, first, 6)]
    if first & 0xf0 == 0x50 and _read_integer(r, first, 4) in _STATUS:
        kind = r.byte()
        value = r.bytes(_read_integer(r, kind, 7))
        return int(_huffman_digits(value) if kind & 0x80 else value)
    raise QuicError(f"the answer does not begin with a :status: {fields.hex()}")
