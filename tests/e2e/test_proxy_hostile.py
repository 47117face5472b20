#!/usr/bin/env python3
"""What a hostile client, a hostile target or bad luck does to the proxy, and that it is nothing to others.

    tests/e2e/test_proxy_hostile.py --build DIR [--filter TEXT]

In the end there are a client that came before the attack, whose flow works on, and one that comes
after it; and the proxy ends in order.
"""

import os
import resource
import signal
import socket
import time
from contextlib import contextmanager
from unittest import mock

import proxy_client
import quic_connection
import stats
import tap
from net import Addr
from procs import sanitized
from proxied import Proxied
from proxy_case import PacketCase
from proxy_client import REQUEST_CANCELLED, ProxyClient
from quic_http import DATA, control_stream, frame
from quic_packets import QuicError, varint
from udp_target import LONG, SHORT, Target, packet

GOOD, BAD, NEXT = b"good-client", b"evil-client", b"next-client"
# Names under .invalid never exist (RFC 6761); to find that out takes a while.
NAME = "no-such-host-{}.invalid:443"
MIB = 1 << 20
# The resolver may have sockets of its own: one for each server, over UDP and over TCP.
RESOLVER = 6


def descriptors(world: Proxied) -> int:
    return len(os.listdir(f"/proc/{world.proxy.pid}/fd"))


def memory(world: Proxied) -> int:
    """Resident, in bytes."""
    with open(f"/proc/{world.proxy.pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def parameters(**others: int | None):
    """Clients that are made meanwhile send these transport parameters; None: not that one."""
    encode = quic_connection.encode_parameters
    return mock.patch.object(quic_connection, "encode_parameters", lambda values: encode(
        {name: value for name, value in {**values, **others}.items() if value is not None}))


class Nested(ProxyClient):
    """Its connection goes through the stream of a request of another one's, which has no datagrams either."""

    def __init__(self, outer: ProxyClient, proxy: Addr):
        super().__init__(proxy, datagrams=False)
        self._outer, self._received = outer, 0
        self.connection.payload_size = 1200  # the least that an Initial packet may have
        self._request = outer.request(str(proxy), 0, client_cid=self.connection.cids[0])
        assert outer.status(self._request) == 200

    def work(self, seconds: float = 0) -> None:
        self._transmit()
        self._outer.work(seconds)
        payloads = self._outer.on_stream(self._request)
        for payload in payloads[self._received:]:
            self.connection.receive(payload, time.monotonic())
        self._received = len(payloads)
        self._transmit()

    def _transmit(self) -> None:
        for datagram in self.connection.transmit(time.monotonic()):
            self._outer.send_on_stream(self._request, datagram)


class HostileTest(PacketCase):
    @contextmanager
    def attacked(self, *options: str):
        """A proxy, a target, and a client with a flow that has to outlive what is done meanwhile."""
        with self.proxy(*options) as world, Target() as target:
            with ProxyClient(world.proxy_addr) as good:
                self.assertEqual(good.ask(target.authority, 0, client_cid=GOOD), 200)
                self.check_flow(good, target, 0, GOOD)
                yield world, target, good
                self.check_flow(good, target, 0, GOOD)
                with ProxyClient(world.proxy_addr) as late:
                    self.assertEqual(late.ask(target.authority, 0, client_cid=NEXT), 200)
                    self.check_flow(late, target, 0, NEXT)
            self.stop(world)

    def check_descriptors(self, world: Proxied, client: ProxyClient, before: int) -> None:
        client.wait(lambda: descriptors(world) <= before + RESOLVER, "the proxy does not close its sockets")

    # From clients

    def test_tiny_packets(self):
        """Of 0 bytes and more, past all connections."""
        with self.attacked() as (world, _, _), socket.socket(world.proxy_addr.family, socket.SOCK_DGRAM) as sock:
            for first in (b"\x00", b"\x40", b"\xc0"):
                for size in range(24):
                    sock.sendto((first * size)[:size], world.proxy_addr)

    def test_stream_ends(self):
        """A request ends in each way and at each moment: the connection goes on, and nothing is left."""
        cancelled = varint(REQUEST_CANCELLED)
        ways = {
            "reset": lambda c, n: c._control(b"\x04" + varint(n) + cancelled + varint(c._out[n].sent)),
            "stop": lambda c, n: c._control(b"\x05" + varint(n) + cancelled),
            "both": lambda c, n: c.reset_stream(n, REQUEST_CANCELLED),
            "fin": lambda c, n: c.send_stream(n, b"", fin=True),
            "close": lambda c, n: c.close(),
        }
        with self.attacked("--connect-udp-port-sharing=off") as (world, target, good):
            before = descriptors(world)
            for way, end in ways.items():
                for authority, answered in ((NAME.format(way), False), (target.authority, False),
                                            (target.authority, True)):
                    with ProxyClient(world.proxy_addr) as evil:
                        stream = evil.request(authority, 0, client_cid=BAD)
                        if answered:
                            self.assertEqual(evil.status(stream), 200)
                        end(evil.connection, stream)
                        if way == "close":
                            continue
                        evil.send(0, packet(LONG, b"server-id", b"late"))
                        evil.wait(lambda: evil.ended(stream), f"after {way} the stream has not ended")
                        self.assertEqual(evil.ask(target.authority, 2, client_cid=NEXT), 200)
                        self.assertLessEqual(descriptors(world), before + 1 + RESOLVER)
            self.check_descriptors(world, good, before)
            # What was late is not for the good client's flow.
            while target.silent(good) is False:
                target.receive(good)

    def test_many_connections(self):
        """One after the other, each leaves in the middle of something."""
        with self.attacked("--connect-udp-port-sharing=off") as (world, target, good):
            before, settled = descriptors(world), 0
            for number in range(150):
                with ProxyClient(world.proxy_addr) as evil:
                    first = evil.request(target.authority, 0, client_cid=BAD)
                    evil.request(target.authority, 2)
                    evil.request(NAME.format(number), 4)
                    if number % 2:
                        self.assertEqual(evil.status(first), 200)
                    settled = settled or (number > 75 and memory(world))
            self.check_descriptors(world, good, before)
            if not sanitized(self.build):  # there, freed memory is kept
                self.assertLess(memory(world) - settled, 4 * MIB)

    def test_malformed_datagram(self):
        """Too short for a flow id: H3_GENERAL_PROTOCOL_ERROR."""
        with self.attacked() as (world, target, _), ProxyClient(world.proxy_addr) as evil:
            self.assertEqual(evil.ask(target.authority, 0, client_cid=BAD), 200)
            evil.connection.send_datagram(b"")
            with self.assertRaisesRegex(QuicError, "closed with 0x101"):
                evil.wait(lambda: False, "it goes on")

    def test_small_packets(self):
        """A client takes smaller packets than the proxy likes: what fits arrives, and the rest is dropped."""
        with self.attacked() as (world, target, _):
            with parameters(max_udp_payload_size=1200):
                evil = ProxyClient(world.proxy_addr)
            with evil:
                self.assertEqual(evil.ask(target.authority, 0, client_cid=BAD), 200)
                self.check_flow(evil, target, 0, BAD)
                target.send(packet(LONG, BAD, bytes(1230)))
                self.check_flow(evil, target, 0, BAD)

    def test_stream_form(self):
        """A client without datagrams has its payloads on the stream, both ways, and byte by byte."""
        with self.attacked() as (world, target, _):
            with parameters(max_datagram_frame_size=None), \
                    mock.patch.object(proxy_client, "control_stream", lambda _: control_stream()):
                plain = ProxyClient(world.proxy_addr).__enter__()
            try:
                stream = plain.request(target.authority, 0, client_cid=BAD)
                self.assertEqual(plain.status(stream), 200)
                data = packet(LONG, b"server-id", b"by stream")
                for byte in len(data).to_bytes(2) + data:
                    plain.connection.send_stream(stream, frame(DATA, bytes([byte])))
                self.assertEqual(target.receive(plain), data)
                answer = packet(LONG, BAD, b"answer")
                target.send(answer)
                plain.wait(lambda: plain._streams[stream][0].endswith(
                    frame(DATA, len(answer).to_bytes(2) + answer)), "no answer on the stream")
                self.assertEqual(plain.tunnelled, [])
            finally:
                plain.__exit__()

    # From targets

    def test_empty_payloads(self):
        """A target floods a client that does not read: what waits for the client has a bound, in memory too."""
        with self.attacked() as (world, target, good), Target() as evil_target, ProxyClient(world.proxy_addr) as slow:
            self.assertEqual(slow.ask(evil_target.authority, 0), 200)
            slow.send(0, b"first")
            self.assertEqual(evil_target.receive(slow), b"first")
            before = memory(world)
            for number in range(150_000):
                evil_target.send(b"")
                # As many as a socket has room for, and the proxy takes them before this.
                if number % 200 == 0:
                    self.check_flow(good, target, 0, GOOD)
            if not sanitized(self.build):  # there, freed memory is kept
                self.assertLess(memory(world) - before, 4 * MIB)

    # From elsewhere

    def test_no_descriptors(self):
        """503, and flows that are there work on."""
        with self.attacked("--connect-udp-port-sharing=off") as (world, target, _):
            limit = resource.prlimit(world.proxy.pid, resource.RLIMIT_NOFILE)
            with ProxyClient(world.proxy_addr) as other:
                # UBSan opens a pipe to look at an object of a kind that it has not seen: one is refused before.
                self.assertEqual(other.ask("192.0.2.1:22", 100, client_cid=b"100" + BAD), 403)
                resource.prlimit(world.proxy.pid, resource.RLIMIT_NOFILE, (descriptors(world) + 1, limit[1]))
                self.assertEqual([other.ask(target.authority, flow, client_cid=b"%d" % flow + BAD)
                                  for flow in range(0, 8, 2)], [200, 503, 503, 503])
                self.check_flow(other, target, 0, b"0" + BAD)
                resource.prlimit(world.proxy.pid, resource.RLIMIT_NOFILE, limit)
                self.assertEqual(other.ask(target.authority, 8, client_cid=b"8" + BAD), 200)

    def test_terminated(self):
        """SIGTERM, with live flows, look-ups on their way, and packets that keep coming from both sides."""
        with self.proxy() as world, Target() as target:
            clients = [ProxyClient(world.proxy_addr).__enter__() for _ in range(4)]
            try:
                for number, client in enumerate(clients):
                    self.assertEqual(client.ask(target.authority, 0, client_cid=b"%d" % number + GOOD), 200)
                    self.assertEqual(client.ask(target.authority, 0, server_cid=b"%d" % number + NEXT), 200)
                    self.check_flow(client, target, 0, b"%d" % number + GOOD)
                    client.request(NAME.format(number), 2)
                for rounds in range(40):
                    if rounds == 20:
                        world.proxy.send_signal(signal.SIGTERM)
                    for number, client in enumerate(clients):
                        try:
                            client.forward(packet(SHORT, b"%d" % number + NEXT, bytes(500)))
                        except OSError:
                            pass  # nobody listens any more
                        client.send(0, packet(SHORT, b"server-id", bytes(500)))
                        target.send(packet(SHORT, b"%d" % number + GOOD, bytes(500)))
                self.assertEqual(world.proxy.wait(60), 0)
                deadline = time.monotonic() + proxy_client.PATIENCE
                while not all(client.connection.closed for client in clients):
                    self.assertLess(time.monotonic(), deadline, "a client was not told")
                    for client in clients:
                        client.work(0.01)
            finally:
                for client in clients:
                    client.__exit__()
            self.assertGreater(stats.load_proxy(world.run / "proxy-stats.json", "proxy")
                               ["proxy"]["forwarded_rx"]["packets"], 0)

    # Loops

    def test_two_proxies(self):
        """They forward to each other what has one connection ID, by sockets that are shared; and there is an end."""
        looping, packets, rounds = b"in loops", 50, 200
        with self.proxy() as a, self.proxy() as b:
            to_a, to_b = (str(world.proxy_addr) for world in (a, b))
            with ProxyClient(a.proxy_addr, datagrams=False) as first, Nested(first, b.proxy_addr) as second:
                with Nested(second, a.proxy_addr) as third:
                    self.assertEqual(third.ask(to_b, 0, client_cid=NEXT), 200)
                    for client, authority in ((second, to_a), (third, to_b)):
                        self.assertEqual(client.ask(authority, 0, server_cid=looping), 200)
                    for number in range(packets):
                        first.send_on_stream(0, packet(SHORT, looping, b"%d" % number))
                    # Each question goes the way of half a round.  (The third one hears no more: what comes for it is
                    # forwarded, too.)
                    for number in range(rounds):
                        self.assertEqual(second.ask("192.0.2.1:22", 2 * number + 2, client_cid=NEXT), 403)
            counts = [self.stop(world) for world in (a, b)]
            dropped = [proxy["dropped"].get("it goes round between proxies", 0) for proxy in counts]
            self.assertEqual(sum(dropped), packets, counts)
            # By the bound of one of them: what the other one passes has gone through it.
            for proxy in counts:
                self.assertLessEqual(proxy["forwarded_rx"]["packets"], 21 * packets + 128, counts)


if __name__ == "__main__":
    tap.main(HostileTest)
