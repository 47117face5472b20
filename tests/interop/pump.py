"""Takes what comes to a UDP port to a target, by a UDP proxy (RFC 9298), for clients that know of none: a tunnel for
each of their sockets, with the client of the e2e tests."""

import select
import socket
from collections.abc import Callable

from net import Addr
from quic_packets import QuicError
from udp_client import Tunnel, UdpClient


class Pump:
    def __init__(self, listen: Addr, proxy: Addr, target: Addr):
        self._listen, self._proxy, self._target = listen, proxy, target
        self._tunnels: dict[tuple, Tunnel] = {}

    def run(self, until: Callable[[], bool]) -> None:
        with (socket.socket(self._listen.family, socket.SOCK_DGRAM) as sock, UdpClient(self._proxy) as client):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.setblocking(False)
            sock.bind(self._listen)
            client.check_settings()
            while not until():
                if select.select([sock, client.sock], [], [], 0.02)[0]:
                    self._take(sock, client)
                client.work()
                for source, tunnel in self._tunnels.items():
                    while tunnel.payloads:
                        sock.sendto(tunnel.payloads.pop(0)[1], source)

    def _take(self, sock: socket.socket, client: UdpClient) -> None:
        while True:
            try:
                payload, source = sock.recvfrom(65536)
            except BlockingIOError:
                return
            if source not in self._tunnels:
                self._tunnels[source] = client.connect(*self._target)
            try:
                self._tunnels[source].send(payload)
            except QuicError:
                pass  # too long for a datagram, and lost, as far as UDP is concerned
