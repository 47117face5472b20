"""Makes an address of a running program dead: packets to it vanish without a
trace, as behind a firewall that drops them.

The program's socket is borrowed (pidfd_getfd(2), Linux 5.6) and gets a socket
filter that drops everything.  No privilege beyond that of a debugger is needed,
and nothing of the machine's network is touched.
"""

import ctypes
import errno
import os
import socket
import struct

from net import Addr

_SYS_PIDFD_GETFD = 438  # the same on all architectures
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # classic BPF: "ret 0"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class NotPermitted(Exception):
    """This machine does not let one process borrow a socket of another."""


def _borrow(pid: int, addr: Addr) -> socket.socket:
    pidfd = os.pidfd_open(pid)
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                if not os.readlink(entry.path).startswith("socket:["):
                    continue
            except FileNotFoundError:
                continue  # closed meanwhile
            fd = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, int(entry.name), 0)
            if fd < 0:
                if ctypes.get_errno() == errno.EBADF:
                    continue
                raise NotPermitted(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
            sock = socket.socket(fileno=fd)
            if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.getsockname()[:2] == addr:
                return sock
            sock.close()
    finally:
        os.close(pidfd)
    raise LookupError(f"process {pid} has no socket on {addr}")


def deafen(pid: int, addr: Addr) -> None:
    """From now on the process receives nothing on `addr`."""
    program = ctypes.create_string_buffer(_DROP_ALL)
    with _borrow(pid, addr) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                        struct.pack("HP", 1, ctypes.addressof(program)))


def cure(pid: int, addr: Addr) -> None:
    """Takes deafen() back."""
    with _borrow(pid, addr) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
