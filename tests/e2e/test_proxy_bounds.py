#!/usr/bin/env python3
"""What clients get when a bound of the proxy is reached, and that it is nothing to others.

    tests/e2e/test_proxy_bounds.py --build DIR [--filter TEXT]

Most clients here are the one of proxy_client.py, and targets are UDP sockets.  A client is who has an address, whatever
connections it makes.
"""

import os
import signal
import socket
import time
import unittest
from contextlib import ExitStack

import tap
from proxied import ALLOW
from proxy_case import MIB, PacketCase
from proxy_client import PATIENCE, ProxyClient
from udp_target import LONG, Target, packet

ONE, TWO = b"client-one", b"client-two"
# Another client's address than the one that connections have by themselves
OTHER = "127.0.0.3"
# A name server's that never answers
SILENT = "127.0.0.53"


class BoundsTest(PacketCase):
    def test_flows(self):
        """429; the flows that are there work on, others have their own bound, and one that ends
        makes room for another."""
        with self.proxy("--connect-udp-max-flows-per-client=2") as world, Target() as target:
            with (ProxyClient(world.proxy_addr) as one, ProxyClient(world.proxy_addr, OTHER) as two,
                  ProxyClient(world.proxy_addr) as again):
                streams = [one.request(target.authority, flow, client_cid=b"first-%d" % flow) for flow in (0, 2)]
                self.assertEqual([one.status(stream) for stream in streams], [200, 200])
                for client in (one, again):
                    self.assertEqual(client.ask(target.authority, 4, client_cid=b"first-4"), 429)
                for flow in (0, 2):
                    self.check_flow(one, target, flow, b"first-%d" % flow)
                self.assertEqual(two.ask(target.authority, 0, client_cid=b"second-0"), 200)
                self.check_flow(two, target, 0, b"second-0")
                one.end(streams[0])
                self.assertEqual(one.ask(target.authority, 6, client_cid=b"first-6"), 200)
                self.check_flow(one, target, 6, b"first-6")
            proxy = self.stop(world)
            self.assertEqual((proxy["refused"], proxy["flows"]), ({"429": 2}, 3))

    def test_connection_ids(self):
        """429, as for flows."""
        with self.proxy("--connect-udp-max-connection-ids-per-client=3") as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one, ProxyClient(world.proxy_addr, OTHER) as two:
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                self.assertEqual(one.ask(target.authority, 0, client_cid=b"another-one"), 200)
                third = one.request(target.authority, 0, server_cid=b"of-server")
                self.assertEqual(one.status(third), 200)
                for kind in ("client_cid", "server_cid"):
                    self.assertEqual(one.ask(target.authority, 0, **{kind: b"one-too-many"}), 429)
                for cid in (ONE, b"another-one"):
                    self.check_flow(one, target, 0, cid)
                self.assertEqual(two.ask(target.authority, 0, client_cid=TWO), 200)
                self.check_flow(two, target, 0, TWO)
                one.end(third)
                self.assertEqual(one.ask(target.authority, 0, server_cid=b"one-too-many"), 200)
            self.assertEqual(self.stop(world)["refused"], {"429": 2})

    def test_streams(self):
        """The credit for streams follows from the bound: as many requests as that, and another one gets its answer."""
        bound = 300
        with self.proxy(f"--connect-udp-max-connection-ids-per-client={bound}") as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one:
                streams = [one.request(target.authority, 0, client_cid=b"client-%04d" % number) for number in range(bound)]
                self.assertEqual({one.status(stream) for stream in streams}, {200})
                self.assertEqual(one.ask(target.authority, 0, client_cid=b"one-too-many"), 429)
                self.check_flow(one, target, 0, b"client-%04d" % (bound - 1))
            self.assertEqual(self.stop(world)["refused"], {"429": 1})

    def test_connections(self):
        """429 to what is asked on one connection too many; one that ends makes room for another."""
        with self.proxy("--connect-udp-max-connections-per-client=2") as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one:
                with ProxyClient(world.proxy_addr), ProxyClient(world.proxy_addr) as third:
                    self.assertEqual(third.ask(target.authority, 0, client_cid=TWO), 429)
                    with ProxyClient(world.proxy_addr, OTHER) as other:
                        self.assertEqual(other.ask(target.authority, 0, client_cid=TWO), 200)
                        self.check_flow(other, target, 0, TWO)
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                deadline = time.monotonic() + PATIENCE
                while True:  # the proxy keeps a closed connection for a few round trips
                    with ProxyClient(world.proxy_addr) as again:
                        if again.ask(target.authority, 0, client_cid=TWO) == 200:
                            self.check_flow(again, target, 0, TWO)
                            break
                    self.assertLess(time.monotonic(), deadline)
                self.check_flow(one, target, 0, ONE)
            self.stop(world)

    def test_one_client_with_many_connections(self):
        """It gets what one client gets, and leaves the others their sockets."""
        options = ("--connect-udp-max-sockets=6", "--connect-udp-max-flows-per-client=3")
        with self.proxy(*options) as world, Target() as target, ExitStack() as stack:
            greedy = [stack.enter_context(ProxyClient(world.proxy_addr)) for _ in range(5)]
            # Plain flows have a socket each.
            answers = [client.ask(target.authority, flow) for client in greedy for flow in range(0, 6, 2)]
            self.assertEqual(answers, [200] * 3 + [429] * 12)
            with ProxyClient(world.proxy_addr, OTHER) as other:
                self.assertEqual([other.ask(target.authority, flow) for flow in range(0, 6, 2)], [200] * 3)
                other.send(4, packet(LONG, b"server-id", b"other"))
                self.assertEqual(target.receive(other), packet(LONG, b"server-id", b"other"))
            self.assertEqual(self.stop(world)["sockets"], 6)

    def test_sockets(self):
        """503, whoever asks; an unused one is closed."""
        with self.proxy("--connect-udp-max-sockets=2", "--connect-udp-port-sharing=off") as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one, ProxyClient(world.proxy_addr) as two:
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                second = one.request(target.authority, 2, client_cid=b"another-one")
                self.assertEqual(one.status(second), 200)
                self.assertEqual(two.ask(target.authority, 0, client_cid=TWO), 503)
                self.check_flow(one, target, 0, ONE)
                one.end(second)
                self.assertEqual(two.ask(target.authority, 2, client_cid=TWO), 200)
                self.check_flow(two, target, 2, TWO)
            proxy = self.stop(world)
            self.assertEqual((proxy["refused"], proxy["sockets"]), ({"503": 1}, 2))

    def test_sockets_shared(self):
        """Flows to a target that has a socket need no other one."""
        with self.proxy("--connect-udp-max-sockets=1") as world, Target() as target, Target() as other:
            with ProxyClient(world.proxy_addr) as one, ProxyClient(world.proxy_addr) as two:
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                self.assertEqual(two.ask(other.authority, 0, client_cid=TWO), 503)
                self.assertEqual(two.ask(target.authority, 2, client_cid=TWO), 200)
                # Plain and QUIC-aware flows never share one.
                self.assertEqual(two.ask(target.authority, 4), 503)
                for client, flow, cid in ((one, 0, ONE), (two, 2, TWO)):
                    self.check_flow(client, target, flow, cid)
            self.assertEqual(self.stop(world)["sockets"], 1)

    @unittest.skipIf(os.geteuid() != 0, "only root may give the proxy another name server")
    def test_lookups(self):
        """429 for one too many of a client's, 503 for one too many of all; addresses need none.  Those
        that never end are given up with 504, and make room."""
        options = ("--connect-udp-max-lookups-per-client=2", "--connect-udp-max-lookups=3")
        with ExitStack() as stack:
            silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            silent.bind((SILENT, 53))
            conf = self.work / "resolv.conf"
            conf.write_text(f"nameserver {SILENT}\n")
            other_conf = ("unshare", "--mount", "sh", "-c", f'mount --bind {conf} /etc/resolv.conf && exec "$@"', "sh")
            world = stack.enter_context(self.proxy(*options, proxy_by=other_conf))
            target = stack.enter_context(Target())
            one, two = (stack.enter_context(ProxyClient(world.proxy_addr, source)) for source in ("", OTHER))
            waiting = [client.request(f"{flow}.example:443", flow, client_cid=b"waiting-%d" % flow)
                       for client, flow in ((one, 0), (one, 2), (two, 0))]
            self.assertEqual(one.ask("4.example:443", 4, client_cid=b"waiting-4"), 429)
            self.assertEqual(two.ask("2.example:443", 2, client_cid=b"waiting-2"), 503)
            for client, flow, cid in ((one, 6, ONE), (two, 6, TWO)):
                self.assertEqual(client.ask(target.authority, flow, client_cid=cid), 200)
                self.check_flow(client, target, flow, cid)
            self.assertEqual([client.status(stream) for client, stream in zip((one, one, two), waiting)], [504] * 3)
            self.assertEqual(two.status(two.request("8.example:443", 8, client_cid=b"waiting-8")), 504)
            self.assertEqual(self.stop(world)["refused"], {"429": 1, "503": 1, "504": 4})

    def check_waiting(self, option: str, bulk: int = 300):
        """What may not wait is dropped and counted, and the flow goes on."""
        with self.proxy(option) as world, Target() as target, ProxyClient(world.proxy_addr) as one:
            self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
            self.check_flow(one, target, 0, ONE)
            # The client reads nothing and acknowledges nothing meanwhile.
            for number in range(bulk):
                target.send(packet(LONG, ONE, bytes(1000)))
                if number % 50 == 49:  # what a socket has room for
                    time.sleep(0.05)
            last = packet(LONG, ONE, b"last")
            while last not in [payload for _, payload in one.tunnelled]:
                target.send(last)
                one.work(0.1)
            arrived = len(one.tunnelled) - 1
            proxy = self.stop(world)
            print(f"# {arrived} arrive, dropped: {proxy['dropped']}", flush=True)
            # A window of a new connection and the 20 that may wait
            self.assertLess(arrived, 100)
            self.assertGreaterEqual(sum(proxy["dropped"].values()), bulk - arrived)

    def test_waiting_for_a_client(self):
        self.check_waiting("--connect-udp-max-waiting-per-client=20K")

    def test_waiting_for_all(self):
        self.check_waiting("--connect-udp-max-waiting=20K")

    def test_early_datagrams(self):
        """As many as the bound are kept until the request comes; the others are dropped and counted."""
        with self.proxy("--connect-udp-max-early-datagrams=3") as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one, ProxyClient(world.proxy_addr) as two:
                early = [packet(LONG, b"server-id", b"%d" % number) for number in range(10)]
                for data in early:
                    one.send(0, data)
                self.assertEqual(two.ask(target.authority, 0, client_cid=TWO), 200)
                self.check_flow(two, target, 0, TWO)
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                self.assertEqual([target.receive(one) for _ in range(3)], early[:3])
                self.assertTrue(target.silent(one))
                self.check_flow(one, target, 0, ONE)
            self.assertEqual(sum(self.stop(world)["dropped"].values()), 7)

    def test_no_early_datagrams(self):
        """A client whose first flight is dropped sends it again."""
        with self.proxied(proxy=(*ALLOW, "--connect-udp-max-early-datagrams=0")) as world:
            self.check_forwarded(world.start().finish(), 0.9)
            world.stop()

    def test_unknown_flows(self):
        """Datagrams of flows that nobody asks for cost the connection nothing."""
        with self.proxy() as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one:
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                for flow in range(2, 2000, 2):
                    one.send(flow, packet(LONG, b"server-id", bytes(500)))
                    if flow % 100 == 0:  # not more at a time than a socket has room for
                        self.check_flow(one, target, 0, ONE)
                self.assertTrue(target.silent(one))
            self.stop(world)

    def test_turns(self):
        """What waits in one flow of a client delays another flow by a few packets, and not by all of them."""
        bulk = 300
        with self.proxy() as world, Target() as busy, Target() as quiet:
            with ProxyClient(world.proxy_addr) as one:
                for flow, target, cid in ((0, busy, ONE), (2, quiet, TWO)):
                    self.assertEqual(one.ask(target.authority, flow, client_cid=cid), 200)
                    self.check_flow(one, target, flow, cid)
                # The client reads nothing and acknowledges nothing meanwhile.
                for number in range(bulk):
                    busy.send(packet(LONG, ONE, b"%d " % number + bytes(1000)))
                    if number % 50 == 49:  # what a socket has room for
                        time.sleep(0.05)
                quiet.send(packet(LONG, TWO, b"quiet"))
                time.sleep(0.2)
                one.wait(lambda: (2, packet(LONG, TWO, b"quiet")) in one.tunnelled, "nothing of the quiet flow")
                before = [flow for flow, _ in one.tunnelled].index(2)
                print(f"# {before} datagrams before it", flush=True)
                # Those that had left already, the window of a new connection and a few probes
                self.assertLess(before, 60)
                # The others follow in their order; a datagram that the network loses is not sent again.
                numbers = [int(payload[len(packet(LONG, ONE, b"")):].split()[0]) for flow, payload in one.tunnelled if flow == 0]
                self.assertEqual(numbers, sorted(numbers))
            self.stop(world)

    def test_rate(self):
        """What exceeds a client's rate is dropped, and the client slows down, on all of its connections
        together; another client, whose rate is its own, is not disturbed."""
        rate, burst = 512 << 10, 1 << 20
        with self.proxied(proxy=(*ALLOW, f"--connect-udp-rate-per-client={rate}")) as world, Target() as target:
            slow = world.start(site=self.endless)
            slow.wait_received(MIB // 2)
            outcome = world.start("--timeout=60s").finish()
            self.check(outcome)
            # Less than this is impossible.
            self.assertGreaterEqual(outcome.seconds, (self.site.size - burst) / rate)
            self.assertIsNone(slow.program.status)
            with ProxyClient(world.proxy_addr, OTHER) as other:
                self.assertEqual(other.ask(target.authority, 0, client_cid=ONE), 200)
                for _ in range(100):  # none of them is lost
                    self.check_flow(other, target, 0, ONE)
            slow.kill()
            self.assertGreater(sum(self.stop(world)["dropped"].values()), 0)

    def test_bounds_of_sample_client(self):
        """A client that gets no more than two connection IDs has all the same, forwarded."""
        with self.proxied(proxy=(*ALLOW, "--connect-udp-max-connection-ids-per-client=2")) as world:
            outcome = world.start().finish()
            proxy = self.stop(world)
        self.check_forwarded(outcome, 0.9)
        self.assertGreater(proxy["refused"]["429"], 0)
        self.assertGreater(sum(outcome.stats["proxy"]["fallbacks"].values()), 0)

    def test_socket_for_sample_client(self):
        """A client that gets no socket says so, and the one that has it is not disturbed."""
        options = (*ALLOW, "--connect-udp-max-sockets=1", "--connect-udp-port-sharing=off")
        with self.proxied(proxy=options) as world:
            first = world.start(site=self.endless)
            first.wait_received(MIB)
            text = world.start().fail()
            self.assertIn("proxy: ", text)
            self.assertIn("503", text)
            first.wait_received(first.received() + MIB)
            first.kill()
            self.assertEqual(self.stop(world)["refused"], {"503": 1})

    @unittest.skipIf(os.geteuid() != 0, "only root may have larger buffers than the system's bound")
    def test_shared_socket(self):
        """Its buffer grows with the flows: a burst for all of them waits there until the proxy has
        time for it."""
        flows, packets = 32, 600  # By default there is room for about a hundred.
        with self.proxy() as world, Target() as target, ProxyClient(world.proxy_addr) as client:
            for flow in range(flows):
                self.assertEqual(client.ask(target.authority, 2 * flow, client_cid=b"client-%02d" % flow), 200)
            client.send(0, packet(LONG, b"server-id", b"begin"))
            target.receive(client)
            world.proxy.send_signal(signal.SIGSTOP)
            for number in range(packets):
                target.send(packet(LONG, b"client-%02d" % (number % flows), bytes(1000)))
            world.proxy.send_signal(signal.SIGCONT)
            client.wait(lambda: len(client.tunnelled) >= packets // 2, "too few of the packets arrive")
            proxy = self.stop(world)
            self.assertEqual((proxy["sockets"], proxy["tunnelled_tx"]["packets"]), (1, packets), proxy["dropped"])


if __name__ == "__main__":
    tap.main(BoundsTest)
