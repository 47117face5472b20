"""Writes captures of UDP over IPv4 in the format of libpcap, with nanoseconds, for Wireshark."""

import socket
import struct
import time
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
        # A UDP checksum of 0 is none; that of the IP header is not looked at.
        udp = struct.pack("!HHHH", source.port, to.port, 8 + len(payload), 0)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp) + len(payload), 0, 0, 64, _UDP, 0,
                         socket.inet_aton(source.host), socket.inet_aton(to.host))
        packet = ip + udp + payload
        now = time.time_ns()
        self._file.write(struct.pack("=IIII", now // 10**9, now % 10**9, len(packet), len(packet)) + packet)
