#!/usr/bin/env python3
"""Hostile servers that use server migration against their clients, or by means of
them against others; in a network of our own, where every packet is seen.

    tests/e2e/test_migration_hostile.py --build DIR [--filter TEXT]
"""

import socket
import time
from collections.abc import Iterator

import stats
import tap
from hostile_case import HostileCase
from hostile_flood import FLOODS, PORTS, PROBE_SIZE, Flood, Herd, Patient
from net import Addr
from procs import Program, run
from quic_hostile import HostileServer, Peer, Script
from wire import Wire

CLIENT, CLIENT6 = "10.9.0.1", "fd09::1"
A, B, C6 = Addr("10.9.1.1", 4433), Addr("10.9.1.2", 4434), Addr("fd09:1::1", 4435)
VICTIM, VICTIM6 = "10.9.2.1", "fd09:2::1"
HOSTS = {"cli": [CLIENT, CLIENT6], "srv": [A.host, B.host, C6.host], "victim": [VICTIM, VICTIM6]}

OURS = ["127.0.0.1", "127.1.2.3", "::1", CLIENT, CLIENT6]
SPECIAL = [
    *OURS, "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::2", "fe80::1", "febf::1", "ff02::1", "ff05::1:3", "ff0e::1",
    f"::ffff:{VICTIM}", f"::{VICTIM}", "::ffff:127.0.0.1", "::127.0.0.1"]
# An address without a port, and the reverse
PORTS_OF_OTHERS = (53, 123, 1, 19, 67, 69, 80, 137, 161, 389, 500, 514, 1900, 3478, 5353, 11211)
HALF = [Addr(VICTIM, 0), Addr(VICTIM6, 0), Addr("0.0.0.0", 53), Addr("::", 53)]


class HostileTest(HostileCase):
    # Of a flood, and clients of a herd; soak.py has more of both
    seconds, clients = 15, 20

    def network(self, **how) -> Wire:
        return self.enterContext(Wire(HOSTS, trace=self.work / f"{self._testMethodName}.trace", **how))

    def on(self, wire: Wire, scripts: dict[Addr, Script], others: list[Addr] = []) -> HostileServer:
        def make(addr: Addr) -> socket.socket:
            sock = wire.open_socket("srv", *addr)
            sock.setblocking(False)
            return sock
        return self.server(scripts, others, make=make)

    def sink(self, wire: Wire, host: str, addr: Addr) -> socket.socket:
        """Something that gets packets and says nothing."""
        sock = wire.open_socket(host, *addr)
        sock.setblocking(False)
        self.addCleanup(sock.close)
        return sock

    def client_on(self, wire: Wire, addr: Addr, name: str, *options: str) -> Program:
        return self.client(addr, name, *options, prefix=tuple(wire.inside("cli")))

    def test_flood(self):
        """E16: all kinds of floods, each with a client of its own.  Of one the victim has sockets for what
        comes, of the others it says that there is nobody (A13), which is nothing to the client."""
        wire = self.network()
        floods: dict[Addr, Flood] = {}
        for number, kind in enumerate(FLOODS):
            # Of other hosts than the next: a flood's friend is nobody else's
            addr, friend = Addr(A.host, 4433 + number), Addr(B.host, 4433 + number)
            floods[addr] = kind(VICTIM, 10_000 + number * PORTS, self.seconds, friend)
        server = self.on(wire, {addr: flood.script for addr, flood in floods.items()},
                         [flood.friend for flood in floods.values()])
        first = next(flood for flood in floods.values() if isinstance(flood, Patient))
        sinks = [self.sink(wire, "victim", addr) for addr in first.named()]
        clients = [self.client_on(wire, addr, type(flood).__name__, "--quiet") for addr, flood in floods.items()]
        self.ended(server, *clients)
        for client in clients:
            self.check_download(client)
        trace = wire.trace()
        for flood in floods.values():
            print(f"# {flood.check(trace)}", flush=True)
        # What the victim has got is what was seen on the way.
        got = [size for sock in sinks for size in received(sock)]
        self.assertEqual(set(got), {PROBE_SIZE})
        self.assertEqual(len(got), sum(t.destination == VICTIM and t.way == "up"
                                       and first.port <= t.destination_port < first.port + PORTS for t in trace))
        self.assertTrue(any(t.source == VICTIM and t.kind == "icmp" and t.copies for t in trace))

    def herd(self, *options: str) -> None:
        wire = self.network()
        herd = Herd(Addr(VICTIM, 10_000), self.clients, delayed=bool(options))
        server = self.on(wire, {A: herd.script})
        clients = []
        for number in range(self.clients):
            clients.append(self.client_on(wire, A, f"client{number}", "--quiet", "--timeout=2m", *options))
            # The first ones do not wait until the last one has been started.
            server.run(lambda: len(server.all) > number)
        self.ended(server, *clients)
        for client in clients:
            self.check_download(client)
        print(f"# {herd.check(wire.trace())}", flush=True)

    def test_herd(self):
        """E15, A12: many clients are told the same dead address at once."""
        self.herd()

    def needs(self, option: str) -> None:
        if option.encode() not in run([self.build / "examples" / "gtlsclient", "--help"])[1]:
            self.skipTest(f"the client has no {option}")

    def test_herd_with_delay(self):
        """Each one waits for a while of its own choice."""
        self.needs("--server-migration-delay")
        self.herd("--server-migration-delay=3s")

    # Where no packet may go

    def forbidden(self, addresses: list[Addr], options: tuple[str, ...] = ()) -> None:
        """Each one is announced and refused, and then one that answers is not."""
        wire = self.network()

        def script(peer: Peer) -> Iterator:
            peer.answers.add(B)
            yield peer.established
            for addr in addresses + [Addr(*peer.source[:2])]:
                number = peer.next_number
                peer.announce(addr)
                # Long enough for a probe to leave; shorter if the client has retired the connection ID.
                soon = time.monotonic() + 0.25
                yield lambda: number in peer.connection.retired or time.monotonic() > soon
            peer.announce(B)
            yield lambda: peer.here == B
            peer.finish()

        server = self.on(wire, {A: script}, [B])
        sinks = [self.sink(wire, "cli", addr) for addr in addresses if addr.host in OURS]
        client = self.client_on(wire, A, "client", "--quiet", *options)
        self.ended(server, client)
        self.check_download(client)
        # When the client has gone, its host says so.
        self.assertEqual({Addr(t.destination, t.destination_port) for t in wire.trace()
                          if t.way == "up" and t.kind != "icmp"}, {A, B})
        self.assertEqual([received(sock) for sock in sinks], [[]] * len(sinks))
        # No validation was begun, so none has failed.
        self.assertEqual(stats.load(client.log.with_name("stats.json"))["path_validations_failed"], 0)

    def test_special_addresses(self):
        """A2, A3, A4 of the rules, and our own."""
        self.forbidden([Addr(host, 9000 + n) for n, host in enumerate(SPECIAL)] + HALF)

    def test_dangerous_ports(self):
        """A6: services that others are asked to bother with answers."""
        self.needs("--server-migration-any-port")
        self.forbidden([Addr(host, port) for port in PORTS_OF_OTHERS for host in (VICTIM, VICTIM6)])

    def test_dangerous_ports_on_demand(self):
        """The test before this one can fail: with an option the same ports are tried."""
        self.needs("--server-migration-any-port")
        with self.assertRaisesRegex(AssertionError, "Items in the first set but not the second"):
            self.forbidden([Addr(VICTIM, port) for port in PORTS_OF_OTHERS[:2]], ("--server-migration-any-port",))


def received(sock: socket.socket) -> list[int]:
    sizes = []
    while True:
        try:
            sizes.append(len(sock.recv(65536)))
        except BlockingIOError:
            return sizes


if __name__ == "__main__":
    tap.main(HostileTest)
