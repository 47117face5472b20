"""IP packets as they come from a TUN device: what is in them, and the few changes
that a network makes on the way, with all checksums kept right."""

import socket
import struct
from typing import NamedTuple

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_LONG_HEADERS = ("initial", "0rtt", "handshake", "retry")


class Endpoint(NamedTuple):
    """An IP address in network form, and a port; 0 if there are none."""

    host: bytes
    port: int

    @property
    def text(self) -> str:
        return to_text(self.host)


def to_text(host: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(host) == 4 else socket.AF_INET6, host)


def to_bytes(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


class Headers(NamedTuple):
    version: int
    protocol: int
    source: Endpoint
    destination: Endpoint
    # Where the payload of the UDP datagram, or else that of the IP packet, is
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def parse(data: bytes) -> Headers | None:
    """None for what is no IP packet.  Fragments and extension headers are not
    looked into: such a packet has no ports."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        start, end, protocol = (data[0] & 15) * 4, int.from_bytes(data[2:4]), data[9]
        source, destination = data[12:16], data[16:20]
        whole = not int.from_bytes(data[6:8]) & 0x3fff
    elif len(data) >= 40 and data[0] >> 4 == 6:
        start, end, protocol = 40, 40 + int.from_bytes(data[4:6]), data[6]
        source, destination = data[8:24], data[24:40]
        whole = True
    else:
        return None
    if not 20 <= start <= end <= len(data):
        return None
    sport = dport = 0
    if protocol == UDP and whole and end - start >= 8:
        sport, dport = struct.unpack_from("!HH", data, start)
        start += 8
    return Headers(data[0] >> 4, protocol, Endpoint(source, sport), Endpoint(destination, dport), start, end)


def kind(data: bytes, headers: Headers) -> str:
    """What a packet is, as far as somebody on the way can see: initial, 0rtt,
    handshake, retry (QUIC version 1), version_negotiation, short, empty; icmp, tcp,
    fragment, other.  Of coalesced packets the first one counts."""
    match headers.protocol:
        case 1 | 58:
            return "icmp"
        case 6:
            return "tcp"
        case 17 if not headers.source.port and not headers.destination.port:
            return "fragment"
        case 17 if not headers.size:
            return "empty"
        case 17:
            first = data[headers.start]
            if not first & 0x80:
                return "short"
            if data[headers.start + 1:headers.start + 5] == bytes(4):
                return "version_negotiation"
            return _LONG_HEADERS[first >> 4 & 3]
    return "other"


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _adjust(data: bytearray, where: int, old: bytes, new: bytes) -> None:
    """Replaces `old` by `new` in what the checksum at `where` covers (RFC 1624)."""
    total = ~int.from_bytes(data[where:where + 2]) & 0xffff
    for was, now in zip(struct.unpack(f"!{len(old) // 2}H", old), struct.unpack(f"!{len(new) // 2}H", new)):
        total += (~was & 0xffff) + now
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    data[where:where + 2] = (~total & 0xffff).to_bytes(2)


def readdress(data: bytes, headers: Headers, end: str, to: Endpoint) -> bytes:
    """A UDP packet with another source or destination, as a NAT makes it."""
    old = headers.source if end == "source" else headers.destination
    changed = bytearray(data)
    udp = headers.start - 8
    host = (12 if headers.version == 4 else 8) + (0 if end == "source" else len(old.host))
    port = udp + (0 if end == "source" else 2)
    changed[host:host + len(old.host)] = to.host
    changed[port:port + 2] = to.port.to_bytes(2)
    if headers.version == 4:
        _adjust(changed, 10, old.host, to.host)
    # 0: the sender did without, which IPv4 allows
    if changed[udp + 6:udp + 8] != b"\0\0":
        _adjust(changed, udp + 6, old.host + old.port.to_bytes(2), to.host + to.port.to_bytes(2))
        if changed[udp + 6:udp + 8] == b"\0\0":
            changed[udp + 6:udp + 8] = b"\xff\xff"
    return bytes(changed)


def ecn(data: bytes) -> int:
    return data[1] & 3 if data[0] >> 4 == 4 else data[1] >> 4 & 3


def mark_ce(data: bytes) -> bytes:
    """The packet with Congestion Experienced (RFC 3168); unchanged if it is not ECN capable."""
    if not ecn(data):
        return data
    changed = bytearray(data)
    if data[0] >> 4 == 6:
        changed[1] |= 0x30
    else:
        changed[1] |= 3
        _adjust(changed, 10, data[0:2], bytes(changed[0:2]))
    return bytes(changed)


def too_big(data: bytes, headers: Headers, mtu: int) -> bytes:
    """The ICMP message to the sender that the packet does not fit through a link
    that takes IP packets of `mtu` bytes.  It seems to come from the destination."""
    there, here = headers.source.host, headers.destination.host
    if headers.version == 4:
        body = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + data[:headers.start + 8]
        body = body[:2] + checksum(body).to_bytes(2) + body[4:]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, ICMP, 0) + here + there
        return head[:10] + checksum(head).to_bytes(2) + head[12:] + body
    body = struct.pack("!BBHI", 2, 0, 0, mtu) + data[:1232]
    pseudo = here + there + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + checksum(pseudo + body).to_bytes(2) + body[4:]
    return struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 64) + here + there + body
