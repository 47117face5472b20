#!/usr/bin/env python3
"""ngmasque-client while the addresses of its machine change: in a network namespace, where the way to the proxy begins
at one address and then at another.

    tests/e2e/test_ngmasque_client_network.py --build DIR [--filter TEXT]
"""

import subprocess
import unittest

import tap
from net import Addr
from netns import NotPermitted, unshare_network
from ngmasque_client_case import ClientCase, Echo, Peer
from procs import udp_sockets

PROXY, FIRST, SECOND = "10.9.0.1", "10.9.0.2", "10.9.0.3"
# Seconds between attempts to connect, when several have failed
PAUSE = 600


def ip(*lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, timeout=60)


def source(address: str) -> str:
    """Packets to the proxy leave from there."""
    return f"route replace local {PROXY} dev lo table local src {address}"


class NetworkTest(ClientCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            unshare_network()
        except NotPermitted as err:
            raise unittest.SkipTest(str(err)) from None
        ip("link set lo up", *(f"address add {host}/32 dev lo" for host in (PROXY, FIRST, SECOND)), source(FIRST))

    def setUp(self):
        super().setUp()
        ip(f"address replace {FIRST}/32 dev lo", source(FIRST))
        self.target = Echo()
        self.addr, _ = self.proxy(addr=Addr(PROXY, 4433))

    def locals_of(self, client) -> set[str]:
        """Where its sockets to the proxy are."""
        sockets = dict((inode, addr) for addr, inode in udp_sockets(client.pid))
        return {sockets[inode].host for addr, inode in udp_sockets(client.pid, remote=True) if addr == self.addr}

    def test_address_changes(self):
        """It is told, and the connection moves: it is the same one, and so is the tunnel."""
        client, port = self.forward_to(self.addr, self.target.addr)
        peer = Peer(port)
        self.assertEqual(peer.ask(b"before", self.target), b"before")
        self.assertEqual(self.locals_of(client), {FIRST})
        ip(source(SECOND), f"address del {FIRST}/32 dev lo")
        client.wait_output("this machine has another address")
        client.wait_output("moved to a new local address")
        while peer.ask(b"after", self.target) != b"after":
            pass
        self.assertIn(SECOND, self.locals_of(client))
        stats = client.finish()
        self.assertEqual((stats["connections"], stats["moves"], stats["total"]["tunnels"]), (1, 1, 1))
        self.assertEqual(len(self.target.sources), 1)

    def test_other_changes(self):
        """What has nothing to do with the way to the proxy moves nothing."""
        client, port = self.forward_to(self.addr, self.target.addr)
        peer = Peer(port)
        self.assertEqual(peer.ask(b"before", self.target), b"before")
        ip("address add 10.9.0.9/32 dev lo")
        ip("address del 10.9.0.9/32 dev lo")
        # By the time that this one is noticed the others have been.
        ip(source(SECOND))
        client.wait_output("moved to a new local address")
        self.assertEqual(client.finish()["moves"], 1)

    def test_no_way_for_a_while(self):
        """The connection is lost, and made again as soon as there is a way; the local port stays."""
        client, port = self.forward_to(self.addr, self.target.addr, "--proxy-timeout=1", f"--retry-pause={PAUSE}")
        peer = Peer(port)
        self.assertEqual(peer.ask(b"before", self.target), b"before")
        ip(f"route replace blackhole {PROXY} table local")
        client.wait_output("connection to the proxy", "next attempt in")
        ip(source(SECOND))
        # Sooner than its pause is over
        while peer.ask(b"after", self.target, patience=PAUSE / 2) != b"after":
            pass
        self.assertEqual(client.finish()["connections"], 2)


if __name__ == "__main__":
    tap.main(NetworkTest)
