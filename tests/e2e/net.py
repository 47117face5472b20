"""Addresses of the loopback interface for the programs under test."""

import errno
import random
import socket
from typing import NamedTuple

# Below the range from which Linux picks ports by itself (32768 and above), so
# that a port that was free a moment ago is not given to some client meanwhile.
# Between some that a proxy refuses to go to, such as 20800 and 27015
PORTS = range(21000, 27000)
# What says to other tests on this machine that a port is taken, from its choice to the end of this
# process, whether it is bound already or not
_taken: list[socket.socket] = []


class Addr(NamedTuple):
    """A UDP address in the notation that the programs use."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def has_ipv6() -> bool:
    """Tells whether ::1 can be bound on this machine."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def free_addrs(*hosts: str) -> list[Addr]:
    """Returns one address per entry of `hosts`, with ports that are all
    different, that nobody uses now, and that nobody else is given by this function
    as long as this process lives."""
    addrs: list[Addr] = []
    ports = random.sample(PORTS, len(PORTS))
    for host in hosts:
        addrs.append(next(a for a in (Addr(host, p) for p in ports)
                          if _is_free(a) and _take(a.port)))
    return addrs


def _take(port: int) -> bool:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.bind(f"\0ngmasque-port-{port}")  # a name without a file, gone with the process
    except OSError as err:
        sock.close()
        if err.errno == errno.EADDRINUSE:
            return False
        raise
    _taken.append(sock)
    return True


def _is_free(addr: Addr) -> bool:
    with socket.socket(addr.family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(addr)
        except OSError as err:
            if err.errno == errno.EADDRINUSE:
                return False
            raise
    return True
