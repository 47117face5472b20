"""What draft-ietf-masque-quic-proxy adds to UDP in HTTP/3: connection IDs, the fields that negotiate forwarding, and
what is done to a packet that is forwarded."""

import base64
import re
from typing import NamedTuple

from qpack import Fields
from quic_crypto import Block
from quic_packets import QuicError, Reader, varint
from rfc9298 import capsule

# Capsules for connection IDs.  Of what the value consists: r(eason), m(aximum), which are integers; c(id), v(cid),
# t(oken), each after its length; *: a cid up to the end.
_OLD = {"REGISTER_CLIENT_CID": (0, "*"), "REGISTER_TARGET_CID": (1, "ct"), "ACK_CLIENT_CID": (2, "cv"),
        "ACK_CLIENT_VCID": (3, "cvt"), "ACK_TARGET_CID": (4, "cvt"), "CLOSE_CLIENT_CID": (5, "*"),
        "CLOSE_TARGET_CID": (6, "*"), "MAX_CONNECTION_IDS": (7, "m")}
_REASONS = {"REGISTER_CLIENT_CID": (0, "r*"), "REGISTER_TARGET_CID": (1, "rct"), "CLOSE_CLIENT_CID": (5, "r*"),
            "CLOSE_TARGET_CID": (6, "r*")}
_REJECTS = {"REJECT_CLIENT_CID": (5, "r*"), "REJECT_TARGET_CID": (6, "r*"), "CLOSE_CLIENT_CID": (7, "r*"),
            "CLOSE_TARGET_CID": (8, "r*"), "MAX_CONNECTION_IDS": (9, "m")}
# By revision of the draft: the first type, and the names
REVISIONS = {6: (0xffe600, _OLD), 8: (0xffe700, _OLD | _REASONS), 9: (0xffe800, _OLD | _REASONS | _REJECTS)}
# Reasons
DEFAULT, TOO_SHORT, CONFLICT = range(3)


class Malformed(QuicError):
    """What a capsule has in it is not what its type says: RFC 9297, section 3.3."""


class CidCapsule(NamedTuple):
    name: str
    cid: bytes = b""
    vcid: bytes = b""
    token: bytes = b""
    reason: int = DEFAULT
    maximum: int = 0

    def write(self, revision: int) -> bytes:
        first, names = REVISIONS[revision]
        number, layout = names[self.name]
        strings = {"c": self.cid, "v": self.vcid, "t": self.token}
        integers = {"r": self.reason, "m": self.maximum}
        value = b""
        for part in layout:
            if part == "*":
                value += self.cid
            elif part in integers:
                value += varint(integers[part])
            else:
                value += varint(len(strings[part])) + strings[part]
        return capsule(first + number, value)


def read_cid_capsule(kind: int, value: bytes) -> tuple[int, CidCapsule] | None:
    """Its revision, and what it says; nothing if it is another one."""
    for revision, (first, names) in REVISIONS.items():
        for name, (number, layout) in names.items():
            if kind == first + number:
                try:
                    return revision, _read(name, layout, Reader(value))
                except QuicError as err:
                    raise Malformed(f"{name}: {err}") from None
    return None


def _read(name: str, layout: str, r: Reader) -> CidCapsule:
    found = {}
    for part in layout:
        match part:
            case "*":
                found["cid"] = r.rest()
            case "r":
                found["reason"] = r.varint()
            case "m":
                found["maximum"] = r.varint()
            case _:
                found[{"c": "cid", "v": "vcid", "t": "token"}[part]] = r.bytes(r.varint())
    if r:
        raise QuicError("something behind the last field")
    if any(len(found.get(cid, b"")) > 255 for cid in ("cid", "vcid")) or len(found.get("token", b"")) not in (0, 16):
        raise QuicError("a length that cannot be")
    return CidCapsule(name, **found)


# proxy-quic-forwarding

_ITEM = re.compile(r"\?([01])"
                   r"((?: *; *[a-z*][a-z0-9_.*-]*(?:=(?:\"[ !#-\[\]-~]*\"|:[A-Za-z0-9+/=]*:|[^;\" ]+))?)*) *")
_PARAMETER = re.compile(r"; *([a-z*][a-z0-9_.*-]*)(?:=(?:\"([^\"]*)\"|:([^:]*):|([^;\" ]+)))?")


class Forwarding(NamedTuple):
    """The field, of a request or of a response."""

    allowed: bool
    transforms: tuple[str, ...] = ()  # accept-transform; or transform, just one
    key: bytes | None = None  # scramble-key


def forwarding_field(transforms: list[str], key: bytes | None, *, response: bool = False) -> tuple[str, str]:
    """With no transforms it is `?0`."""
    if not transforms:
        return "proxy-quic-forwarding", "?0"
    name = "transform" if response else "accept-transform"
    value = f'?1; {name}="{",".join(transforms)}"'
    if key is not None:
        value += f"; scramble-key=:{base64.b64encode(key).decode()}:"
    return "proxy-quic-forwarding", value


def read_forwarding(fields: Fields, *, response: bool = False) -> Forwarding | None:
    """Nothing if it is not there, or not an Item that is a Boolean (RFC 8941)."""
    lines = [value for name, value in fields if name == "proxy-quic-forwarding"]
    if len(lines) != 1 or not (item := _ITEM.fullmatch(lines[0].strip(" "))):
        return None
    texts, key = {}, None
    for name, text, binary, _ in _PARAMETER.findall(item[2]):
        texts[name] = text
        if name == "scramble-key":
            key = base64.b64decode(binary)
    names = texts.get("transform" if response else "accept-transform", "")
    return Forwarding(item[1] == "1", tuple(filter(None, (name.strip() for name in names.split(",")))), key)


# Forwarded packets

class Scramble:
    """The transform scramble-dt, with the key of who sends (draft-ietf-masque-quic-proxy, "The scramble transform")."""

    def __init__(self, key: bytes):
        if len(key) != 32:
            raise QuicError("a scramble-key that is not 32 bytes")
        self._k1, self._k2 = Block(key[:16]), Block(key[16:])

    def close(self) -> None:
        self._k1.close()
        self._k2.close()

    def _rest(self, packet: bytes, length: int, iv: bytes) -> tuple[int, bytes]:
        """The first byte, and what follows the IV."""
        text = packet[:1] + packet[length + 17:]
        counter = int.from_bytes(iv)
        stream = b"".join(self._k1.encrypt((counter + n & (1 << 128) - 1).to_bytes(16))
                          for n in range((len(text) + 15) // 16))
        out = bytes(a ^ b for a, b in zip(text, stream))
        return out[0] & 0x7f, out[1:]

    def apply(self, packet: bytes, length: int) -> bytes | None:
        """Of a packet whose connection ID is `length` bytes long; nothing if it is too short."""
        if len(packet) < length + 17:
            return None
        iv = packet[length + 1:length + 17]
        first, rest = self._rest(packet, length, iv)
        return bytes([first]) + packet[1:length + 1] + self._k2.encrypt(iv) + rest

    def undo(self, packet: bytes, length: int) -> bytes | None:
        if len(packet) < length + 17:
            return None
        iv = self._k2.decrypt(packet[length + 1:length + 17])
        first, rest = self._rest(packet, length, iv)
        return bytes([first]) + packet[1:length + 1] + iv + rest


def replace_cid(packet: bytes, old: bytes, new: bytes) -> bytes:
    """In a short header."""
    if packet[1:1 + len(old)] != old:
        raise ValueError("another connection ID")
    return packet[:1] + new + packet[1 + len(old):]
