"""State that the endpoint in quic_connection.py keeps."""

from collections import deque
from dataclasses import dataclass, field

from quic_crypto import Keys
from quic_packets import varint


@dataclass
class Sent:
    time: float
    size: int
    frames: list[tuple]  # what is to be sent again if this is lost


@dataclass
class Inbound:
    """Puts the pieces of a stream in order."""

    offset: int = 0
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int | None = None

    def add(self, offset: int, data: bytes) -> bytes:
        if len(self.pieces.get(offset, b"")) < len(data):
            self.pieces[offset] = data
        out = b""
        for start in sorted(self.pieces):
            if start > self.offset:
                break
            piece = self.pieces.pop(start)[self.offset - start:]
            out += piece
            self.offset += len(piece)
        return out


@dataclass
class Outbound:
    data: bytearray = field(default_factory=bytearray)
    sent: int = 0
    fin: bool = False
    fin_sent: bool = False
    credit: int = 0


@dataclass
class Space:
    """A packet number space."""

    next: int = 0
    ranges: list[list[int]] = field(default_factory=list)  # numbers received, ascending
    ack_due: bool = False
    unacked: dict[int, Sent] = field(default_factory=dict)  # only those that the peer acknowledges
    queue: deque[tuple] = field(default_factory=deque)
    read: Keys | None = None
    write: Keys | None = None
    crypto: Inbound = field(default_factory=Inbound)
    crypto_offset: int = 0

    @property
    def largest(self) -> int:
        return self.ranges[-1][1] if self.ranges else -1

    def note(self, number: int) -> bool:
        """Remembers a received packet; False if it has come before."""
        for at in range(len(self.ranges) - 1, -2, -1):
            if at < 0 or number > self.ranges[at][1]:
                break
            if number >= self.ranges[at][0]:
                return False
        joins_left = at >= 0 and self.ranges[at][1] == number - 1
        joins_right = at + 1 < len(self.ranges) and self.ranges[at + 1][0] == number + 1
        if joins_left and joins_right:
            self.ranges[at][1] = self.ranges.pop(at + 1)[1]
        elif joins_left:
            self.ranges[at][1] = number
        elif joins_right:
            self.ranges[at + 1][0] = number
        else:
            self.ranges.insert(at + 1, [number, number])
        del self.ranges[:-32]
        return True

    def close(self) -> None:
        for keys in filter(None, (self.read, self.write)):
            keys.close()
        self.read = self.write = None

    def ack_frame(self) -> bytes:
        blocks = self.ranges[::-1]
        out = b"\x02" + varint(blocks[0][1]) + varint(0) + varint(len(blocks) - 1)
        out += varint(blocks[0][1] - blocks[0][0])
        for above, block in zip(blocks, blocks[1:]):
            out += varint(above[0] - block[1] - 2) + varint(block[1] - block[0])
        return out
