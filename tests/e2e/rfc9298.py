"""UDP in HTTP/3 (RFC 9297, RFC 9298): what is on the wire.  What draft-ietf-masque-quic-proxy adds to that is in
quic_aware.py.

Both were written from the documents alone, for tests of programs that were written from them as well.
"""

import re
import urllib.parse

from qpack import Fields
from quic_packets import QuicError, Reader, varint

# Settings: RFC 9220, section 5; RFC 9297, section 5.1
ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM = 0x08, 0x33
# An error of streams and connections: RFC 9297, section 5.2
H3_DATAGRAM_ERROR = 0x33
# RFC 9297, section 3.5
DATAGRAM = 0x00
# RFC 9297, section 2.1: the largest Quarter Stream ID
LAST_QUARTER = (1 << 60) - 1
# RFC 9298, section 5: the context that is UDP, and the longest payload in it
UDP, MAX_PAYLOAD = 0, 65527

_WELL_KNOWN = re.compile(r"/\.well-known/masque/udp/([^/?]+)/([0-9]+)/")


# Requests

def path(host: str, port: int) -> str:
    """RFC 9298, section 3: the default template, expanded."""
    return f"/.well-known/masque/udp/{urllib.parse.quote(host, safe='')}/{port}/"


def target(text: str) -> tuple[str, int] | None:
    """What such a path says, or nothing."""
    found = _WELL_KNOWN.fullmatch(text)
    if not found or not 0 < int(found[2]) < 65536:
        return None
    host = urllib.parse.unquote(found[1])
    return (host, int(found[2])) if re.fullmatch(r"[A-Za-z0-9._:-]+", host) else None


def request(authority: str, host: str, port: int) -> Fields:
    """RFC 9298, section 3.4; RFC 9297, section 3.4."""
    return [(":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "https"), (":authority", authority),
            (":path", path(host, port)), ("capsule-protocol", "?1")]


# Datagrams

def datagram(stream: int, payload: bytes, context: int = UDP) -> bytes:
    """For a QUIC DATAGRAM frame: RFC 9297, section 2.1."""
    return varint(stream // 4) + varint(context) + payload


def read_datagram(data: bytes) -> tuple[int, int, bytes]:
    """Its stream, context and payload."""
    r = Reader(data)
    return r.varint() * 4, r.varint(), r.rest()


# Capsules

def capsule(kind: int, value: bytes) -> bytes:
    return varint(kind) + varint(len(value)) + value


def datagram_capsule(payload: bytes, context: int = UDP) -> bytes:
    return capsule(DATAGRAM, varint(context) + payload)


class Capsules:
    """Takes them off a stream."""

    def __init__(self):
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Type and value of those that are there now."""
        self._rest += data
        out = []
        while True:
            r = Reader(self._rest)
            try:
                kind, value = r.varint(), r.bytes(r.varint())
            except QuicError:
                return out
            self._rest = r.rest()
            out.append((kind, value))

    @property
    def cut_off(self) -> bool:
        """Whether the stream must not end here."""
        return bool(self._rest)
