"""The connection IDs of one tunnel, at the proxy in Python: draft-ietf-masque-quic-proxy."""

import argparse
import os
from dataclasses import dataclass

from qpack import Fields
from quic_aware import (CONFLICT, TOO_SHORT, CidCapsule, Scramble, forwarding_field, read_cid_capsule, read_forwarding,
                        replace_cid)
from quic_packets import QuicError

# Zero-length ones are in everybody's way.
LEAST = 1
# How many registrations are allowed at first
FIRST_MAXIMUM = 2


@dataclass
class _Mapping:
    cid: bytes
    vcid: bytes
    ready: bool  # packets may be forwarded


class Ids:
    """`fields`: of the request; `log` gets revision and name of every capsule."""

    def __init__(self, options: argparse.Namespace, fields: Fields, log: list[tuple[int, str]]):
        self._options, self._log = options, log
        self._transform: str | None = None
        self._ours: Scramble | None = None  # what we send
        self._theirs: Scramble | None = None
        self._key = os.urandom(32)
        self._asked = read_forwarding(fields)
        self._clients: dict[bytes, _Mapping] = {}
        self._targets: dict[bytes, _Mapping] = {}
        self._revision: int | None = None
        self._registrations = 0
        self._maximum = FIRST_MAXIMUM
        if self._asked and self._asked.allowed:
            if not self._asked.transforms:
                self._asked = None  # To be ignored
            elif known := [name for name in options.transforms.split(",") if name in self._asked.transforms]:
                # Without a key there is no forwarding, whatever else was offered.
                if known[0] != "scramble-dt" or len(self._asked.key or b"") == 32:
                    self._transform = known[0]
        if self._transform == "scramble-dt":
            self._ours, self._theirs = Scramble(self._key), Scramble(self._asked.key)

    def close(self) -> None:
        for scramble in filter(None, (self._ours, self._theirs)):
            scramble.close()

    def answer(self) -> Fields:
        """What the response says of it; a request that asks in vain is answered as if it did not ask."""
        if not self._asked:
            return []
        transforms = [self._transform] if self._transform else []
        return [forwarding_field(transforms, self._key if self._ours else None, response=True)]

    # Capsules

    def on_capsule(self, kind: int, value: bytes) -> bytes:
        """The capsules that answer it.  QuicError: the client must not send it."""
        found = read_cid_capsule(kind, value)
        if not found:
            return b""
        revision, what = found
        if not self._asked:
            raise QuicError(f"{what.name} without proxy-quic-forwarding")
        if self._revision not in (None, revision):
            raise QuicError(f"{what.name} of revision {revision} after one of {self._revision}")
        self._revision = revision
        self._log.append((revision, what.name))
        match what.name:
            case "REGISTER_CLIENT_CID" | "REGISTER_TARGET_CID":
                answers = self._register(what)
            case "ACK_CLIENT_VCID":
                if not (mapping := self._clients.get(what.cid)) or mapping.vcid != what.vcid or not what.vcid:
                    raise QuicError("ACK_CLIENT_VCID of something else")
                mapping.ready = True
                answers = []
            case "CLOSE_CLIENT_CID" | "CLOSE_TARGET_CID":
                (self._clients if "CLIENT" in what.name else self._targets).pop(what.cid, None)
                answers = []
            case _:
                raise QuicError(f"{what.name}, which only a proxy sends")
        return b"".join(answer.write(revision) for answer in answers)

    def _register(self, what: CidCapsule) -> list[CidCapsule]:
        side = "CLIENT" if "CLIENT" in what.name else "TARGET"
        there = self._clients if side == "CLIENT" else self._targets
        # From -09 on, one that is registered already uses up nothing.
        self._registrations += not (self._revision >= 9 and what.cid in there)
        if self._registrations > self._maximum:
            raise QuicError("more registrations than were allowed")
        reason = self._refusal(side, what.cid, there)
        if reason is not None:
            name = f"{'REJECT' if self._revision >= 9 else 'CLOSE'}_{side}_CID"
            answers = [CidCapsule(name, what.cid, reason=reason)]
        else:
            vcid = self._virtual(what.cid) if self._transform else b""
            there[what.cid] = _Mapping(what.cid, vcid, ready=side == "TARGET")
            answers = [CidCapsule(f"ACK_{side}_CID", what.cid, vcid)]
        return answers + self._allow()

    def _refusal(self, side: str, cid: bytes, there: dict[bytes, _Mapping]) -> int | None:
        if len(cid) < LEAST:
            return TOO_SHORT
        conflict = any(other != cid and (other.startswith(cid) or cid.startswith(other)) for other in there)
        return CONFLICT if conflict or side in self._options.reject.split(",") else None

    def _virtual(self, cid: bytes) -> bytes:
        """Eight bytes are at least as long as those of the connection to the proxy, and so no prefix of one."""
        return os.urandom(max(8, len(cid), self._options.cid_length))

    def _allow(self) -> list[CidCapsule]:
        if (maximum := self._registrations + self._options.allowance) <= self._maximum:
            return []
        self._maximum = maximum
        # Up to -06 it is the highest sequence number, which begins with 0.
        return [CidCapsule("MAX_CONNECTION_IDS", maximum=maximum - (self._revision <= 6))]

    # Packets

    def to_client(self, packet: bytes) -> bytes | None:
        """What is to be sent past the connection, if it is that."""
        if not packet or packet[0] & 0x80:
            return None
        for mapping in self._clients.values():
            if mapping.ready and packet[1:].startswith(mapping.cid):
                packet = replace_cid(packet, mapping.cid, mapping.vcid)
                return self._ours.apply(packet, len(mapping.vcid)) if self._ours else packet
        return None

    def to_target(self, packet: bytes) -> bytes | None:
        """What is to be sent to the target, if it is a packet of this tunnel."""
        for mapping in self._targets.values():
            if mapping.vcid and packet[1:].startswith(mapping.vcid):
                whole = self._theirs.undo(packet, len(mapping.vcid)) if self._theirs else packet
                return replace_cid(whole, mapping.vcid, mapping.cid) if whole else None
        return None
