"""A tunnel of the proxy in udp_proxy_server.py: a client's stream, and a socket of its own."""

import socket
from typing import TYPE_CHECKING

from qpack import Fields
from quic_aware import CidCapsule
from quic_packets import QuicError, Reader
from rfc9298 import DATAGRAM, MAX_PAYLOAD, UDP, Capsules, datagram, datagram_capsule
from udp_proxy_ids import Ids

if TYPE_CHECKING:
    from udp_proxy_server import Peer

# Datagrams that are read before answers are sent
BATCH = 32


class Tunnel:
    def __init__(self, peer: "Peer", stream: int, addr: tuple, family: int, fields: Fields):
        self.peer, self.stream = peer, stream
        self.capsules = Capsules()
        self.ids = Ids(peer.proxy.options, fields, peer.proxy.cids)
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect(addr)

    def close(self) -> None:
        self.sock.close()
        self.ids.close()

    def send_bytes(self, data: bytes, fin: bool = False) -> None:
        """In a DATA frame, be they capsules or anything else."""
        self.peer.http.send_data(self.stream, data, fin)

    def send_cid(self, what: CidCapsule, revision: int = 9) -> None:
        self.send_bytes(what.write(revision))

    def forward(self, packet: bytes) -> None:
        """Sends it to the client past the connection, as it is."""
        self.peer.proxy.send(packet, self.peer.address)

    def tunnel(self, payload: bytes) -> None:
        """Sends it to the client, in a datagram or in a capsule."""
        proxy = self.peer.proxy
        if self.peer.takes_datagrams and not proxy.options.capsules:
            try:
                self.peer.connection.send_datagram(self.in_datagram(payload))
                proxy.to_client["datagrams"] += 1
            except QuicError:
                pass  # too long
        else:
            self.send_bytes(self.in_capsule(payload))
            proxy.to_client["capsules"] += 1

    def in_datagram(self, payload: bytes) -> bytes:
        return datagram(self.stream, payload)

    def in_capsule(self, payload: bytes) -> bytes:
        return datagram_capsule(payload)

    def to_target(self, payload: bytes, way: str) -> None:
        self.peer.proxy.to_target[way] += 1
        try:
            self.sock.send(payload)
        except OSError:
            pass  # lost, as far as UDP is concerned

    def on_data(self, data: bytes) -> None:
        """QuicError: the stream is to be reset."""
        for kind, value in self.capsules.feed(data):
            if kind == DATAGRAM:
                r = Reader(value)
                context, payload = r.varint(), r.rest()
                if context == UDP and len(payload) > MAX_PAYLOAD:
                    raise QuicError("a payload that is too long")
                if context == UDP:
                    self.to_target(payload, "capsules")
            elif answers := self.peer.proxy.on_capsule(self, kind, value):
                self.send_bytes(answers)

    def from_target(self) -> None:
        proxy = self.peer.proxy
        for _ in range(BATCH):
            try:
                payload = self.sock.recv(65536)
            except OSError:  # nothing is there, or it is an ICMP error
                return
            proxy.on_target(self, payload)
