"""As little of QPACK (RFC 9204) as the endpoints in Python need: no dynamic table, which the peer is told by its
absence from SETTINGS; all of the static table; literals with Huffman coding (RFC 7541) or without."""

from quic_packets import QuicError, Reader

Fields = list[tuple[str, str]]

# Appendix A, in order: names, each with its values where they follow each other
_STATIC = (
    (":authority", ""), (":path", "/"), ("age", "0"), ("content-disposition", ""), ("content-length", "0"),
    ("cookie", ""), ("date", ""), ("etag", ""), ("if-modified-since", ""), ("if-none-match", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("referer", ""), ("set-cookie", ""),
    (":method", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"), (":scheme", "http", "https"),
    (":status", "103", "200", "304", "404", "503"), ("accept", "*/*", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"), ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control", "content-type"), ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0", "max-age=2592000", "max-age=604800", "no-cache", "no-store",
     "public, max-age=31536000"), ("content-encoding", "br", "gzip"),
    ("content-type", "application/dns-message", "application/javascript", "application/json",
     "application/x-www-form-urlencoded", "image/gif", "image/jpeg", "image/png", "text/css",
     "text/html; charset=utf-8", "text/plain", "text/plain;charset=utf-8"), ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000", "max-age=31536000; includesubdomains",
     "max-age=31536000; includesubdomains; preload"), ("vary", "accept-encoding", "origin"),
    ("x-content-type-options", "nosniff"), ("x-xss-protection", "1; mode=block"),
    (":status", "100", "204", "206", "302", "400", "403", "421", "425", "500"), ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE", "TRUE"), ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get", "get, post, options", "options"),
    ("access-control-expose-headers", "content-length"), ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get", "post"), ("alt-svc", "clear"), ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"), ("early-data", "1"),
    ("expect-ct", ""), ("forwarded", ""), ("if-range", ""), ("origin", ""), ("purpose", "prefetch"), ("server", ""),
    ("timing-allow-origin", "*"), ("upgrade-insecure-requests", "1"), ("user-agent", ""), ("x-forwarded-for", ""),
    ("x-frame-options", "deny", "sameorigin"))
STATIC: Fields = [(name, value) for name, *values in _STATIC for value in values]

# The code of RFC 7541, appendix B, is canonical: by length, what has it, in order.  Of what is not ASCII only what
# stands between the others.
_BY_LENGTH = {
    5: "012aceiost", 6: " %-./3456789=A_bdfghlmnpru", 7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz", 8: "&*,;XZ",
    10: '!"()?', 11: "'+|", 12: "#>", 13: "\0$@[]~", 14: "^}", 15: "<`{", 19: "\\"}


def _codes() -> dict[str, str]:
    codes, code, length = {}, 0, 0
    for size, symbols in _BY_LENGTH.items():
        code <<= size - length
        length = size
        for symbol in symbols:
            codes[f"{code:0{size}b}"] = symbol
            code += 1
    return codes


HUFFMAN = _codes()


def huffman(data: bytes) -> str:
    """The text that `data` is the Huffman code of."""
    out, code = "", ""
    for bit in "".join(f"{byte:08b}" for byte in data):
        code += bit
        if code in HUFFMAN:
            out, code = out + HUFFMAN[code], ""
    # What is left is the beginning of EOS, less than a byte of it.
    if len(code) > 7 or "0" in code:
        raise QuicError(f"Huffman code that is not understood: {data.hex()}")
    return out


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


def _read_string(r: Reader, first: int, prefix: int) -> str:
    """Whose Huffman bit is the one before the prefix."""
    data = r.bytes(_read_integer(r, first, prefix))
    return huffman(data) if first >> prefix & 1 else data.decode("latin-1")


def encode_fields(fields: Fields) -> bytes:
    """Literals all of them, without Huffman coding."""
    out = b"\0\0"
    for name, value in fields:
        raw = name.encode("latin-1"), value.encode("latin-1")
        out += _integer(len(raw[0]), 3, 0x20) + raw[0] + _integer(len(raw[1]), 7, 0) + raw[1]
    return out


def decode_fields(section: bytes) -> Fields:
    r = Reader(section)
    if r.byte() or r.byte():
        raise QuicError("QPACK: the dynamic table is used, which was not allowed")
    fields: Fields = []
    while r:
        first = r.byte()
        if first & 0x80:
            if not first & 0x40:
                raise QuicError("QPACK: a field of the dynamic table")
            fields.append(_static(_read_integer(r, first, 6)))
        elif first & 0x40:
            if not first & 0x10:
                raise QuicError("QPACK: a name of the dynamic table")
            name, _ = _static(_read_integer(r, first, 4))
            fields.append((name, _read_string(r, r.byte(), 7)))
        elif first & 0x20:
            name = _read_string(r, first, 3)
            fields.append((name, _read_string(r, r.byte(), 7)))
        else:
            raise QuicError("QPACK: what comes after the base of the dynamic table")
    return fields


def _static(index: int) -> tuple[str, str]:
    if index >= len(STATIC):
        raise QuicError(f"QPACK: the static table has no entry {index}")
    return STATIC[index]
