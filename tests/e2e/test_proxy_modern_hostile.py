#!/usr/bin/env python3
"""What hostile clients and targets, and bad luck, do to our proxy in the dialect of RFC 9298, and that it is nothing to
others.

    tests/e2e/test_proxy_modern_hostile.py --build DIR [--filter TEXT]

In the end there are a client that came before the attack, whose tunnel works on, and one that comes after it; and the
proxy ends in order.
"""

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import stats
import tap
from net import Addr
from proxied import Proxied
from proxy_case import PacketCase
from proxy_client import PATIENCE, REQUEST_CANCELLED
from quic_aware import CidCapsule, forwarding_field
from quic_packets import varint
from udp_case import CLIENT_ID, TARGET_ID, TEXT, UdpCase, pause
from udp_client import Tunnel, UdpClient
from udp_target import LONG, SHORT, Target, packet

FORWARDING = forwarding_field(["identity"], None)
SHARING = ("proxy-quic-port-sharing", "?1")
# Names under .invalid never exist (RFC 6761); to find that out takes a while.
NAME = "no-such-host-{}.invalid"
# The resolver may have sockets of its own: one for each server, over UDP and over TCP.
RESOLVER = 6
SMALL = bytes(64)


def descriptors(world: Proxied) -> int:
    return len(os.listdir(f"/proc/{world.proxy.pid}/fd"))


class Nested(UdpClient):
    """Its connection goes through another one's tunnel, which has to know its connection ID."""

    def __init__(self, outer: Tunnel, proxy: Addr):
        super().__init__(proxy)
        self._outer = outer
        self.connection.payload_size = 1200  # the least that an Initial packet may have
        outer.send_cid(CidCapsule("REGISTER_CLIENT_CID", self.connection.cids[0]))
        outer.receive_cid("ACK_CLIENT_CID")

    def work(self, seconds: float = 0) -> None:
        self._transmit()
        self._outer.client.work(seconds)
        while self._outer.payloads:
            self.connection.receive(self._outer.payloads.pop(0)[1], time.monotonic())
        self._transmit()

    def _transmit(self) -> None:
        for datagram in self.connection.transmit(time.monotonic()):
            self._outer.send_capsule(datagram)


class HostileTest(UdpCase, PacketCase):
    @contextmanager
    def attacked(self, *options: str) -> Iterator[tuple[Proxied, Target, Tunnel]]:
        with self.proxy(*options) as world, Target() as target:
            with UdpClient(world.proxy_addr) as client:
                good = self.open(client, target)
                self.check_tunnel(good, target)
                yield world, target, good
                pause(client)
                good.payloads.clear()
                while not target.silent(client):
                    target.receive(client)
                self.check_tunnel(good, target)
                with UdpClient(world.proxy_addr) as late:
                    self.check_tunnel(self.open(late, target), target)
            self.stop(world)

    # Floods

    def check_goes_on(self, tunnel: Tunnel, target: Target) -> None:
        """As check_tunnel(); but where so much is sent, sockets may have no room for some of it."""
        there, back = packet(LONG, TARGET_ID, TEXT), packet(LONG, CLIENT_ID, TEXT)
        client, deadline = tunnel.client, time.monotonic() + PATIENCE
        tunnel.send(there)
        while target.silent(client):
            self.assertLess(time.monotonic(), deadline, "nothing arrives at the target")
            tunnel.send(there)
        self.assertEqual(target.receive(client), there)
        while not tunnel.payloads:
            self.assertLess(time.monotonic(), deadline, "nothing comes back")
            target.send(back)
            client.work(0.1)
        while tunnel.payloads:
            self.assertEqual(tunnel.receive(), back)

    def test_small_datagrams(self):
        """A client sends nothing but datagrams of 64 bytes, to a target that does not care."""
        with self.attacked() as (world, target, good), Target() as deaf, UdpClient(world.proxy_addr) as evil:
            tunnel = self.open(evil, deaf)
            for number in range(6000):
                tunnel.send(SMALL if number % 2 else b"")
                if number % 500 == 0:
                    self.check_goes_on(good, target)

    def test_small_capsules(self):
        """And of capsules, known ones and others"""
        with self.attacked() as (world, target, good), Target() as deaf, UdpClient(world.proxy_addr) as evil:
            tunnel = self.open(evil, deaf)
            for number in range(200):
                tunnel.send_bytes(b"\x2b\0\0\1\0" * 200)
                if number % 20 == 0:
                    self.check_goes_on(good, target)

    def test_small_packets(self):
        """A target floods an idle tunnel whose client does not read."""
        with self.attacked() as (world, target, good), Target() as evil, UdpClient(world.proxy_addr) as slow:
            tunnel = self.open(slow, evil)
            tunnel.send(b"first")
            self.assertEqual(evil.receive(slow), b"first")
            for number in range(40_000):
                evil.send(SMALL if number % 2 else b"")
                if number % 200 == 0:  # as many as a socket has room for
                    self.check_goes_on(good, target)

    def test_forwarded_packets(self):
        """Past the connection: some of them to be forwarded, others for nobody"""
        with self.attacked() as (world, target, good), Target() as deaf, UdpClient(world.proxy_addr) as evil:
            tunnel = self.open(evil, deaf, FORWARDING)
            _, vcid = self.register(tunnel, 9)
            for number in range(10_000):
                evil.forward(packet(SHORT, vcid if number % 2 else os.urandom(len(vcid)), SMALL))
                if number % 200 == 0:
                    self.check_goes_on(good, target)
            pause(evil)

    def test_registrations(self):
        """As many as it may, and closes each: nothing is kept, and it may go on."""
        with self.attacked() as (world, target, good), UdpClient(world.proxy_addr) as evil:
            tunnel = self.open(evil, target, FORWARDING)
            for number in range(300):
                side = ("CLIENT", "TARGET")[number % 2]
                cid = b"number-%03d" % number
                tunnel.send_cid(CidCapsule(f"REGISTER_{side}_CID", cid))
                self.assertEqual(tunnel.receive_cid(f"ACK_{side}_CID").cid, cid)
                tunnel.send_cid(CidCapsule(f"CLOSE_{side}_CID", cid))
            self.check_goes_on(good, target)

    # Ends

    def states(self, client: UdpClient, target: Target) -> Iterator[tuple[str, Tunnel]]:
        """Tunnels, each further than the one before."""
        yield "asked for a name", client.connect(NAME.format(os.urandom(4).hex()), 443, [FORWARDING])
        tunnel = client.connect(*target.addr, [FORWARDING])
        yield "asked", tunnel
        tunnel = client.connect(*target.addr, [FORWARDING])
        tunnel.send_cid(CidCapsule("REGISTER_CLIENT_CID", b"state-of-it"))
        yield "asked and registered", tunnel
        yield "opened", self.open(client, target, FORWARDING)
        tunnel = self.open(client, target, FORWARDING)
        self.register(tunnel, 9)
        yield "registered", tunnel
        tunnel = self.open(client, target, FORWARDING)
        tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, self.register(tunnel, 9)[0]))
        yield "acknowledged", tunnel

    def test_stream_ends(self):
        """In each way and in each state: the connection goes on, and nothing is left."""
        cancelled = varint(REQUEST_CANCELLED)
        ways = {
            "reset": lambda c, n: c._control(b"\x04" + varint(n) + cancelled + varint(c._out[n].sent)),
            "stop": lambda c, n: c._control(b"\x05" + varint(n) + cancelled),
            "both": lambda c, n: c.reset_stream(n, REQUEST_CANCELLED),
            "fin": lambda c, n: c.send_stream(n, b"", fin=True),
        }
        with self.attacked() as (world, target, good):
            before = descriptors(world)
            for way, end in ways.items():
                with UdpClient(world.proxy_addr) as evil:
                    evil.check_settings()
                    for state, tunnel in self.states(evil, target):
                        end(evil.connection, tunnel.stream)
                        tunnel.send(b"late")
                        evil.wait(lambda: tunnel.ended, f"{way}, {state}: the stream has not ended")
                        other = self.open(evil, target)
                        other.send(b"next")
                        while (data := target.receive(evil)) != b"next":
                            self.assertEqual(data, b"late")
                        self.check_tunnel(other, target)
            good.client.wait(lambda: descriptors(world) <= before + RESOLVER, "the proxy does not close its sockets")

    def test_connection_ends(self):
        """In the middle of something, many times"""
        with self.attacked() as (world, target, good):
            before = descriptors(world)
            for number in range(60):
                with UdpClient(world.proxy_addr) as evil:
                    evil.check_settings()
                    for at, (_, tunnel) in enumerate(self.states(evil, target)):
                        if at == number % 6:
                            break
            good.client.wait(lambda: descriptors(world) <= before + RESOLVER, "the proxy does not close its sockets")

    def check_told(self, signal_number: int) -> None:
        """The proxy is asked to end with live tunnels, look-ups and registrations on their way, and packets that keep
        coming from both sides."""
        with self.proxy() as world, Target() as target:
            clients = [UdpClient(world.proxy_addr).__enter__() for _ in range(4)]
            try:
                tunnels = [self.open(client, target, FORWARDING) for client in clients]
                vcids = [self.register(tunnel, 9)[1] for tunnel in tunnels]
                for client, tunnel in zip(clients, tunnels):
                    self.check_tunnel(tunnel, target)
                    client.connect(NAME.format(os.urandom(4).hex()), 443)
                for rounds in range(40):
                    if rounds == 20:
                        world.proxy.send_signal(signal_number)
                    for client, tunnel, vcid in zip(clients, tunnels, vcids):
                        try:
                            client.forward(packet(SHORT, vcid, TEXT))
                            tunnel.send(packet(SHORT, TARGET_ID, TEXT))
                            if rounds % 8 == 0:
                                tunnel.send_cid(CidCapsule("REGISTER_TARGET_CID", b"number-%02d" % rounds))
                        except OSError:
                            pass  # nobody listens any more
                        target.send(packet(SHORT, CLIENT_ID, TEXT))
                self.assertEqual(world.proxy.wait(PATIENCE), 0)
                deadline = time.monotonic() + PATIENCE
                while not all(client.connection.closed for client in clients):
                    self.assertLess(time.monotonic(), deadline, "a client was not told")
                    for client in clients:
                        client.work(0.01)
            finally:
                for client in clients:
                    client.__exit__()
            counts = stats.load_proxy(world.run / "proxy-stats.json", "proxy")["proxy"]
            self.assertGreater(counts["forwarded_rx"]["packets"], 0)

    def test_interrupted(self):
        self.check_told(signal.SIGINT)

    def test_terminated(self):
        self.check_told(signal.SIGTERM)

    def test_no_descriptors(self):
        """503, and tunnels that are there work on."""
        with self.attacked() as (world, target, _), UdpClient(world.proxy_addr) as other:
            other.check_settings()
            limit = resource.prlimit(world.proxy.pid, resource.RLIMIT_NOFILE)
            # UBSan opens a pipe to look at an object of a kind that it has not seen: one is refused before.
            self.assertEqual(other.connect("192.0.2.1", 22).status(), 403)
            resource.prlimit(world.proxy.pid, resource.RLIMIT_NOFILE, (descriptors(world) + 1, limit[1]))
            tunnels = [other.connect(*target.addr) for _ in range(4)]
            self.assertEqual([tunnel.status() for tunnel in tunnels], [200, 503, 503, 503])
            self.check_tunnel(tunnels[0], target)
            resource.prlimit(world.proxy.pid, resource.RLIMIT_NOFILE, limit)
            self.assertEqual(other.connect(*target.addr).status(), 200)

    # Loops

    def test_two_proxies(self):
        """Each is a target of the other, and a packet goes to and fro as often as a client has registered for: it
        cannot register what is still to be chosen, and so there is an end."""
        turns, packets = 5, 7
        with self.proxy() as a, self.proxy() as b:
            with UdpClient(a.proxy_addr) as first:
                first.check_settings()
                one = first.connect(*b.proxy_addr, [FORWARDING, SHARING])
                self.assertEqual(one.status(), 200)
                with Nested(one, b.proxy_addr) as second:
                    second.check_settings()
                    two = second.connect(*a.proxy_addr, [FORWARDING, SHARING])
                    self.assertEqual(two.status(), 200)
                    with Nested(two, a.proxy_addr) as third:
                        third.check_settings()
                        three = third.connect(*b.proxy_addr, [FORWARDING, SHARING])
                        self.assertEqual(three.status(), 200)
                        cid, seen = b"of nobody", set()
                        for _ in range(turns):
                            for tunnel in (three, two):
                                tunnel.send_cid(CidCapsule("REGISTER_TARGET_CID", cid))
                                cid = tunnel.receive_cid("ACK_TARGET_CID").vcid
                                self.assertNotIn(cid, seen)
                                seen.add(cid)
                        for _ in range(packets):
                            one.send(packet(SHORT, cid, TEXT))
                        pause(third)
            counts = [self.stop(world) for world in (a, b)]
            self.assertEqual([proxy["forwarded_rx"]["packets"] for proxy in counts], [turns * packets] * 2, counts)


if __name__ == "__main__":
    tap.main(HostileTest)
