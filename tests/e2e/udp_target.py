"""A target for proxies that is nothing but a UDP socket, and packets of which only
that is QUIC what a proxy looks at."""

import select
import socket
import time

import net
from proxy_client import PATIENCE, ProxyClient
from quic_packets import QuicError

# How long nothing comes of what must not come
SILENCE = 0.3
# The first byte of a packet
LONG, SHORT = 0xc0, 0x40


def packet(first: int, dcid: bytes, text: bytes) -> bytes:
    if first == LONG:
        return bytes([first]) + b"\0\0\0\1" + bytes([len(dcid)]) + dcid + b"\0" + text
    return bytes([first]) + dcid + text


class Target:
    """A UDP socket that a flow leads to."""

    def __init__(self, host: str = "127.0.0.2"):
        self.addr, = net.free_addrs(host)
        self.authority = str(self.addr)
        self.sock = socket.socket(self.addr.family, socket.SOCK_DGRAM)
        self.sock.bind(self.addr)
        self.source: tuple = ()

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()

    def receive(self, client: ProxyClient) -> bytes:
        """The next packet; meanwhile `client` lives on."""
        deadline = time.monotonic() + PATIENCE
        while not select.select([self.sock], [], [], 0)[0]:
            if time.monotonic() > deadline:
                raise QuicError("nothing arrives at the target")
            client.work(0.01)
        data, self.source = self.sock.recvfrom(65536)
        return data

    def silent(self, client: ProxyClient) -> bool:
        """Whether nothing comes for a while."""
        deadline = time.monotonic() + SILENCE
        while time.monotonic() < deadline:
            client.work(0.02)
            if select.select([self.sock], [], [], 0)[0]:
                return False
        return True

    def send(self, data: bytes) -> None:
        """To where the last packet came from."""
        self.sock.sendto(data, self.source)
