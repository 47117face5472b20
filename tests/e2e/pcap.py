"""Captures of IP in the format of libpcap, with nanoseconds: written for Wireshark, and read."""

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from net import Addr

_MAGIC_NANOSECONDS = 0xa1b23c4d
_LINKTYPE_RAW = 101
_LONGEST = 65535
_UDP = 17


class Pcap:
    """A capture; each packet is in the file when write() has returned."""

    def __init__(self, path: Path):
        self._file = path.open("wb", buffering=0)
        self._file.write(struct.pack("=IHHiIII", _MAGIC_NANOSECONDS, 2, 4, 0, 0, _LONGEST, _LINKTYPE_RAW))

    def write(self, source: Addr, to: Addr, payload: bytes) -> None:
        """UDP over IPv4."""
        # A UDP checksum of 0 is none; that of the IP header is not looked at.
        udp = struct.pack("!HHHH", source.port, to.port, 8 + len(payload), 0)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp) + len(payload), 0, 0, 64, _UDP, 0,
                         socket.inet_aton(source.host), socket.inet_aton(to.host))
        self.write_ip(ip + udp + payload)

    def write_ip(self, packet: bytes) -> None:
        now = time.time_ns()
        self._file.write(struct.pack("=IIII", now // 10**9, now % 10**9, len(packet), len(packet)) + packet)


def read(path: Path) -> Iterator[bytes]:
    """The packets of a capture that is written above, without one whose writing has not ended."""
    data = path.read_bytes()
    position = 24
    while position + 16 <= len(data):
        size, = struct.unpack_from("=I", data, position + 8)
        position += 16
        if position + size > len(data):
            return
        yield data[position:position + size]
        position += size
