"""What tests of UDP proxies (RFC 9298, draft-ietf-masque-quic-proxy) share that go packet by packet."""

import os
import time

from quic_aware import CidCapsule
from udp_client import Tunnel, UdpClient
from udp_target import LONG, SILENCE, Target, packet

CLIENT_ID, TARGET_ID = b"client-id", b"target-id"
# More than the sixteen bytes behind a connection ID that the transform needs
TEXT = b"a packet's number, its payload, and what proves them"


def forwarded(client: UdpClient, vcid: bytes) -> list[bytes]:
    """What has come past the connection, with that virtual connection ID: the rest are stateless resets, by which a
    proxy may answer what it does not know (RFC 9000, section 10.3)."""
    return [packet for packet in client.forwarded if packet[1:].startswith(vcid)]


def pause(*clients: UdpClient) -> None:
    """They take what comes for a while."""
    deadline = time.monotonic() + SILENCE
    while time.monotonic() < deadline:
        for client in clients:
            client.work(0.02)


class UdpCase:
    """For a unittest.TestCase."""

    def open(self, client: UdpClient, target: Target, *fields: tuple[str, str]) -> Tunnel:
        client.check_settings()
        tunnel = client.connect(*target.addr, [*fields])
        self.assertEqual(tunnel.status(), 200)
        return tunnel

    def check_tunnel(self, tunnel: Tunnel, target: Target) -> None:
        """It works, both ways; tunnelled, since both packets have long headers."""
        text = os.urandom(16)
        tunnel.send(packet(LONG, TARGET_ID, text))
        self.assertEqual(target.receive(tunnel.client), packet(LONG, TARGET_ID, text))
        target.send(packet(LONG, CLIENT_ID, text))
        self.assertEqual(tunnel.receive(), packet(LONG, CLIENT_ID, text))

    def check_ends(self, client: UdpClient, tunnel: Tunnel, what: str) -> None:
        """With an error."""
        self.assertIsNotNone(tunnel.wait_ended(), f"{what}: the stream ends as if nothing was wrong")
        self.assertIsNone(client.connection.closed, what)

    def register(self, tunnel: Tunnel, revision: int) -> tuple[bytes, bytes]:
        """The virtual connection IDs of the client, which it does not acknowledge yet, and of the target."""
        found = []
        for side, cid in (("CLIENT", CLIENT_ID), ("TARGET", TARGET_ID)):
            tunnel.send_cid(CidCapsule(f"REGISTER_{side}_CID", cid), revision)
            answer = tunnel.receive_cid(f"ACK_{side}_CID")
            self.assertEqual(answer.cid, cid)
            self.assertGreaterEqual(len(answer.vcid), len(cid))
            self.assertNotEqual(answer.vcid, cid)
            found.append(answer.vcid)
        outer = tunnel.client.connection
        for other in (*outer.cids.values(), *outer.peer_cids.values()):
            self.assertFalse(any(vcid.startswith(other) or other.startswith(vcid) for vcid in found))
        return found[0], found[1]
