#!/usr/bin/env python3
"""The tests of test_proxy_network.py that a dialect can make a difference to, in that of RFC 9298; and what is on the
wire there.

    tests/e2e/test_proxy_modern_network.py --build DIR [--filter TEXT]
"""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import tap
from net import Addr
from proxy_case import PacketCase
from proxy_client import PATIENCE
from quic_aware import CidCapsule, forwarding_field
from relay import Impairment
from test_proxy_network import EVERY, NetworkTest
from udp_case import CLIENT_ID, TARGET_ID, TEXT, UdpCase, forwarded, pause
from udp_client import Tunnel, UdpClient
from udp_target import LONG, SHORT, SILENCE, Target, packet

FORWARDING = forwarding_field(["identity"], None)
KEPT = ("new_server_ids", "new_client_ids", "rebinding_forwarded", "rebinding_behind_forwarded",
        "change_of_address_forwarded", "change_of_address_without_validation", "proxy_restarted_forwarded",
        "proxy_stopped", "all_before_proxy_forwarded", "all_before_proxy_tunnelled",
        "reordering_behind_proxy_forwarded")
# RFC 9002, section 7.2, in bytes
INITIAL_WINDOW = 14_720
# A connection ID, in hex
ID = "0102030405060708090a"
# The proxy's idle timeout, and how long nothing comes but what is forwarded
IDLE, LONGER = 2, 5


def set_ecn(sock: socket.socket, ecn: int) -> None:
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ecn)


def receive_ecn(sock: socket.socket) -> tuple[bytes, int]:
    """The next packet, which is there already, and its ECN bits."""
    data, ancillary, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(1))
    return data, next((value[0] for level, kind, value in ancillary
                       if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS)), 0) & 3


class ModernTest(UdpCase, PacketCase, NetworkTest):
    DIALECT = "rfc9298"

    # Downloads

    def test_new_ids_and_much_loss(self):
        """Registrations, their answers and what they are about are lost and overtake each other."""
        bad = Impairment(delay=5, loss=0.05, reorder=0.05, reorder_delay=5)
        with self.proxied(python_target=True, target=(f"--new-ids-every={EVERY}", f"--change-ids-every={EVERY}"),
                          site=self.small, front=(bad, bad)) as world:
            outcome = world.start().finish()
            proxy, target = world.stop()
        self.check(outcome)
        self.assertEqual(outcome.stats["proxy"]["dialect"], "rfc9298")
        for way in ("forwarded_rx", "forwarded_tx"):
            self.assertGreater(outcome.stats["proxy"][way]["packets"], 0)
        self.assertGreater(target["rotations"], 0)
        self.assertEqual(self.unknown_ids(proxy), 0, proxy["proxy"]["dropped"])

    def test_conflicts(self):
        """Another client of the shared socket has the same connection ID, or one that begins like it: the client begins
        anew with another one."""
        for first, second in ((ID, ID), (ID, ID[:16]), (ID[:16], ID)):
            with self.proxied() as world:
                one = world.start(f"--scid={first}", staying=True)
                one.wait_all()
                two = world.start(f"--scid={second}")
                self.check_forwarded(two.finish())
                self.assertIn("trying again with another connection ID", two.program.log.read_text())
                self.check_forwarded(one.leave())
                proxy, target = world.stop()
            self.assertEqual((proxy["proxy"]["sockets"], target["connections"]), (1, 2))

    def test_refusals(self):
        """What the proxy says of the reason is what the client says."""
        for how, host, words in ((dict(proxy=()), "", ("403", "destination_ip_prohibited")),
                                 (dict(proxy=()), "localhost", ("403", "destination_ip_prohibited")),
                                 ({}, "no-such-host.invalid", ("502", "dns_error")),
                                 (dict(target_runs=False), "", ("the target refuses packets",))):
            with self.proxied(**how) as world:
                said = [line for line in world.start(host=host).fail().splitlines() if line.startswith("proxy: ")]
                self.assertEqual(len(said), 1, said)
                for word in words:
                    self.assertIn(word, said[0])
                world.stop()

    # Packets

    def test_ecn(self):
        """Forwarded packets keep their bits, both ways; those in tunnels have none, whatever those around them have."""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client:
            for sock in (target.sock, client.sock):
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            tunnel = self.open(client, target, FORWARDING)
            client_vcid, target_vcid = self.register(tunnel, 9)
            tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, client_vcid))
            self.check_tunnel(tunnel, target)
            for ecn in (0, 1, 2, 3, 0):
                set_ecn(client.sock, ecn)
                client.forward(packet(SHORT, target_vcid, TEXT))
                self.arrives(target.sock)
                self.assertEqual(receive_ecn(target.sock), (packet(SHORT, TARGET_ID, TEXT), ecn))
                tunnel.send(packet(LONG, TARGET_ID, TEXT))
                self.arrives(target.sock)
                self.assertEqual(receive_ecn(target.sock), (packet(LONG, TARGET_ID, TEXT), 0))
                set_ecn(client.sock, 0)
                pause(client)  # nothing else comes now
                set_ecn(target.sock, ecn)
                target.send(packet(SHORT, CLIENT_ID, TEXT))
                self.arrives(client.sock)
                self.assertEqual(receive_ecn(client.sock), (packet(SHORT, client_vcid, TEXT), ecn))
                set_ecn(target.sock, 0)
            self.stop(world)

    @contextmanager
    def other_address(self, client: UdpClient, addr: Addr) -> Iterator[None]:
        """The client has another one from then on."""
        sock = socket.socket(addr.family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(addr)
        with client.use(sock):
            yield

    def check_forwards(self, tunnel: Tunnel, target: Target, client_vcid: bytes, target_vcid: bytes) -> None:
        """Both ways; as soon as the proxy knows that the client is where it seems to be."""
        client, deadline = tunnel.client, time.monotonic() + PATIENCE
        client.forward(packet(SHORT, target_vcid, TEXT))
        while target.silent(client):
            self.assertLess(time.monotonic(), deadline, "nothing is forwarded to the target")
            client.forward(packet(SHORT, target_vcid, TEXT))
        while not target.silent(client):
            self.assertEqual(target.receive(client), packet(SHORT, TARGET_ID, TEXT))
        target.send(packet(SHORT, CLIENT_ID, TEXT))
        client.wait(lambda: forwarded(client, client_vcid), "nothing is forwarded to the client")
        client.forwarded.clear()

    def test_rebinding(self):
        """The client's address changes, of which it knows nothing, and changes back: what is registered moves along."""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client, ExitStack() as stack:
            tunnel = self.open(client, target, FORWARDING)
            vcids = self.register(tunnel, 9)
            tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, vcids[0]))
            self.check_tunnel(tunnel, target)
            self.check_forwards(tunnel, target, *vcids)
            for _ in range(3):
                stack.enter_context(self.other_address(client, world.proxy_addr))
                self.check_tunnel(tunnel, target)
                self.check_forwards(tunnel, target, *vcids)
            self.stop(world)

    def test_active_migration(self):
        """The client moves, with another connection ID: nothing is forwarded any more, up to new registrations."""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client, ExitStack() as stack:
            tunnel = self.open(client, target, FORWARDING)
            client.connection.issue_cids(3, retire=False)  # the proxy takes another one, too
            for _ in range(2):
                vcids = self.register(tunnel, 9)
                tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, vcids[0]))
                self.check_tunnel(tunnel, target)
                self.check_forwards(tunnel, target, *vcids)
                self.assertTrue(client.connection.change_peer_cid())
                stack.enter_context(self.other_address(client, world.proxy_addr))
                self.check_tunnel(tunnel, target)
                pause(client)  # for the new path's validation
                client.forward(packet(SHORT, vcids[1], TEXT))
                self.assertTrue(target.silent(client))
                target.send(packet(SHORT, CLIENT_ID, TEXT))
                self.assertEqual(tunnel.receive(), packet(SHORT, CLIENT_ID, TEXT))
                self.assertEqual(forwarded(client, vcids[0]), [])
            self.stop(world)

    def test_unvalidated_address(self):
        """A client seems to be elsewhere, and does not answer there: the address gets a few packets, whatever comes for
        the client, in tunnels or forwarded; and the client is where it was."""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client:
            tunnel = self.open(client, target, FORWARDING)
            vcids = self.register(tunnel, 9)
            tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, vcids[0]))
            self.check_tunnel(tunnel, target)
            self.check_forwards(tunnel, target, *vcids)
            asked = []
            answer, client.connection._challenged = client.connection._challenged, asked.append
            elsewhere = socket.socket(world.proxy_addr.family, socket.SOCK_DGRAM)
            with elsewhere:
                elsewhere.setblocking(False)
                elsewhere.connect(world.proxy_addr)
                here = client.use(elsewhere)
                tunnel.send(b"from elsewhere")
                self.assertEqual(target.receive(client), b"from elsewhere")
                client.use(here)
                got = 0
                for number in range(400):
                    target.send(packet((SHORT, LONG)[number % 2], CLIENT_ID, bytes(1000)))
                    if select.select([elsewhere], [], [], 0.001)[0]:
                        got += len(elsewhere.recv(65536))
                while select.select([elsewhere], [], [], SILENCE)[0]:
                    got += len(elsewhere.recv(65536))
                print(f"# {got} bytes go there", flush=True)
                self.assertTrue(got or asked)  # whether it is the client
                self.assertLessEqual(got, INITIAL_WINDOW)
                client.connection._challenged = answer
                client.forwarded.clear()
                while not target.silent(client):
                    target.receive(client)
                tunnel.payloads.clear()
                self.check_forwards(tunnel, target, *vcids)
            self.stop(world)

    def arrives(self, sock: socket.socket) -> None:
        self.assertTrue(select.select([sock], [], [], PATIENCE)[0], "nothing arrives")

    def test_idle(self):
        """What a client has forwarded counts as activity."""
        with self.proxy(f"--timeout={IDLE}s") as world, Target() as target, UdpClient(world.proxy_addr) as client:
            tunnel = self.open(client, target, FORWARDING)
            _, vcid = self.register(tunnel, 9)
            self.check_tunnel(tunnel, target)
            pause(client)  # and has nothing to say then
            end = time.monotonic() + LONGER
            while time.monotonic() < end:
                client.forward(packet(SHORT, vcid, TEXT))
                self.arrives(target.sock)
                target.sock.recv(65536)
                time.sleep(IDLE / 10)
            self.check_tunnel(tunnel, target)
            self.stop(world)


if __name__ == "__main__":
    for name in [name for name in dir(NetworkTest) if name.startswith("test_") and name[5:] not in KEPT]:
        setattr(ModernTest, name, None)
    tap.main(ModernTest)
