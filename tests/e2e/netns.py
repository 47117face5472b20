"""Network namespaces with a TUN device each, for the process that calls.

They have no names and belong to whoever has them open: when that process ends,
however it does, the kernel removes them.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from typing import NamedTuple, TextIO

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454ca
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_DEVICE = "wire"
# Packets that wait until the owner of the device reads them
_QUEUE = 10_000

_libc = ctypes.CDLL(None, use_errno=True)


class NotPermitted(Exception):
    """This machine has no namespaces or no TUN devices for us."""


class Host(NamedTuple):
    # The namespace; nsenter(1) takes /proc/PID/fd/NUMBER
    namespace: int
    # A file that gives and takes one IP packet at a time
    tun: int
    # /proc/net/dev of the namespace
    statistics: TextIO


def unshare_network() -> None:
    """Puts the calling process into a namespace of its own, in which nothing is up."""
    if _libc.unshare(_CLONE_NEWNET):
        raise NotPermitted(f"unshare: {os.strerror(ctypes.get_errno())}")


def make_host(addresses: list[str], mtu: int = 1500) -> Host:
    """A namespace with `addresses` whose only way out is the device.  All addresses
    of a prefix (one with a length) belong to it as well.  The calling process is in
    it afterwards."""
    unshare_network()
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as err:
        raise NotPermitted(f"/dev/net/tun: {err.strerror}") from None
    lines = ["link set lo up", f"link set {_DEVICE} mtu {mtu} txqueuelen {_QUEUE} up"]
    for prefix in (a for a in addresses if "/" in a):
        lines.append(f"route add local {prefix} dev lo")
    addresses = [a for a in addresses if "/" not in a]
    for address in addresses:
        lines.append(f"address add {address}/128 dev {_DEVICE} nodad" if ":" in address
                     else f"address add {address}/32 dev {_DEVICE}")
    # A source is given, so that packets for nobody in particular leave as well.
    for family, is_ours in (("-4", lambda a: ":" not in a), ("-6", lambda a: ":" in a)):
        if first := next(filter(is_ours, addresses), None):
            lines.append(f"route add {'default' if family == '-4' else '::/0'} dev {_DEVICE} src {first}")
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True)
    if done.returncode:
        raise NotPermitted(f"ip: {done.stderr.strip()}")
    return Host(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), tun, open("/proc/self/net/dev"))


def dropped(host: Host) -> int:
    """Packets that the kernel dropped because nobody read them in time."""
    host.statistics.seek(0)
    line = next(line for line in host.statistics if line.strip().startswith(f"{_DEVICE}:"))
    return int(line.split(":")[1].split()[11])


def open_socket(namespace: str, family: socket.AddressFamily) -> socket.socket:
    """A UDP socket in that namespace; the calling process stays in its own."""
    made: list[socket.socket | OSError] = []

    def work() -> None:
        # A namespace belongs to a thread, and this one ends at once.
        try:
            fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            status = _libc.setns(fd, _CLONE_NEWNET)
            os.close(fd)
            if status:
                raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.socket(family, socket.SOCK_DGRAM))
        except OSError as err:
            made.append(err)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
