#!/usr/bin/env python3
"""Downloads whose server moves a hundred times a second among addresses that the
client knows, all on one path with a round trip of 58 ms.

    tests/e2e/test_rotation.py --build DIR [--filter TEXT]
"""

import ipaddress
from collections import Counter

import qlog
import stats
import tap
from frame_log import FrameLog
from net import Addr
from network_case import A, A6, B, C, MIB, NetworkCase, both_ways, everywhere
from wire import Link, Trace, Wire

OFTEN = ("--migrate-every=10ms", "--alternate-addr-same-path")
# What the client sends to a known address that does not answer any more, and then, as if it had never been there,
# at first, and in ten seconds
DATAGRAMS = 5 + 16 + 4
# Large enough that none is chosen twice
PREFIXES = "fd09:2::/64", "10.128.0.0/9"


class Rotation(NetworkCase):

    def one_path(self, *others: Addr, **what) -> Wire:
        """`others` have a path of their own."""
        way = {"delay": 29, "shared": "all", **what}
        links = everywhere((Link(**way), Link(**way, rate=MIB, queue=256 << 10)))
        return self.network({**links, **{addr.host: both_ways(delay=29, rate=MIB) for addr in others}})

    def check_moves(self, outcome) -> None:
        """Many announcements that arrived were followed, by both sides; how many, the queues and the machine decide."""
        self.assertTrue(outcome.sha256_ok, "the content differs")
        announced = FrameLog(self.run_directory).count("client", "received", "server_alternate_address")
        moves = outcome.client["server_migrations"], outcome.server["server_migrations"]
        print(f"# {announced} announcements, moves of client and server: {moves}, in {outcome.seconds:.1f} s", flush=True)
        self.assertGreater(announced, 100)
        self.assertGreater(min(moves), announced // 5)
        # The server does not go back to where the client still is on its way from one address to the next.
        self.assertLessEqual(moves[1], FrameLog(self.run_directory).count("server", "received", "path_challenge"))

    def test_known_addresses(self):
        with self.one_path() as wire, self.transfer(wire, [A, B, C], 4 * MIB, OFTEN) as transfer:
            transfer.start()
            outcome = transfer.finish()
            self.check_moves(outcome)
            self.assertEqual(outcome.client["path_validations_failed"], 0)
            received = stats.by_server_address(outcome.client, "remote", "packets_received")
            for addr in (A, B, C):
                self.assertGreater(received[str(addr)], outcome.client["packets_received"] // 20, str(addr))

    def test_loss(self):
        with (self.one_path(loss=0.01) as wire,
              self.transfer(wire, [A, B, C], 4 * MIB, OFTEN) as transfer):
            transfer.start()
            self.check_moves(transfer.finish())

    def test_address_is_taken_over(self):
        """Who has one of the addresses by now gets a few datagrams, however often the server announces it, and the
        download goes on between the others."""
        with self.one_path(C) as wire, self.transfer(wire, [A, B, C], 6 * MIB, OFTEN) as transfer:
            transfer.start()
            transfer.wait_received(2 * MIB)
            wire.blackhole(C.host)
            before = len(self.probes(wire))
            outcome = transfer.finish()
            self.assertTrue(outcome.sha256_ok, "the content differs")
            after = len(self.probes(wire))
            print(f"# {after - before} datagrams in {outcome.seconds:.1f} s", flush=True)
            self.assertLess(after - before, DATAGRAMS)

    def test_each_path_keeps_its_window(self):
        """Addresses that have a link each, of which the server does not know more than what it has seen there."""
        links = everywhere((Link(delay=29), Link(delay=29, rate=MIB, queue=64 << 10)))
        with (self.network(links) as wire,
              self.transfer(wire, [A, B, C], 6 * MIB, ("--migrate-every=50ms",)) as transfer):
            transfer.start()
            outcome = transfer.finish()
        self.assertTrue(outcome.sha256_ok, "the content differs")
        events = qlog.read(self.run_directory / "server-qlog")
        windows: dict[str, int] = {}  # when the path was left
        path, now, kept, anew = "", 0, 0, 0
        for event, data in ((event["name"], event["data"]) for event in events):
            if event == "connectivity:path_assigned":
                if path:
                    windows[path] = now
                path, now = str(data["path_local"]), 0
            elif event == "recovery:metrics_updated":
                if not now and path in windows:
                    # What was lost since then halves it at most, usually.
                    if data["congestion_window"] >= windows[path] // 2:
                        kept += 1
                    else:
                        anew += 1
                now = data["congestion_window"]
        names = Counter(event["name"] for event in events)
        lost = names["recovery:packet_lost"] / names["transport:packet_sent"]
        print(f"# {kept} times kept, {anew} times not, {100 * lost:.1f} % of the packets lost", flush=True)
        self.assertGreater(kept, 20)
        self.assertLess(anew, kept // 10)
        # Packets that wait at one path while those of others are acknowledged are not lost.
        self.assertLess(lost, 0.2)

    def fresh_addresses(self, first: Addr, prefixes: tuple[str, ...], every: str) -> None:
        """Each address is another one of the prefix, and is left for good; all of the file comes from them."""
        link = Link(delay=29, shared="all"), Link(delay=29, rate=MIB, queue=64 << 10, shared="all")
        with (self.network({**everywhere(link), **dict.fromkeys(PREFIXES, link)}, *PREFIXES) as wire,
              self.transfer(wire, [first], 3 * MIB,
                            (*(f"--alternate-prefix={p}" for p in prefixes), every, "--alternate-addr-same-path")) as transfer):
            transfer.start()
            outcome = transfer.finish()
            moves = outcome.client["server_migrations"], outcome.server["server_migrations"]
            order = [p.far for p in wire.trace() if p.way == "down" and p.size >= 1200]
        self.assertTrue(outcome.sha256_ok, "the content differs")
        used = self.used(outcome)
        print(f"# moves of client and server: {moves}, {len(used)} addresses, in {outcome.seconds:.1f} s", flush=True)
        self.assertGreater(min(moves), 10)
        self.assertEqual(outcome.client["path_validations_failed"], 0)
        others = {address.rsplit(":", 1)[0].strip("[]") for address in used} - {first.host}
        self.assertGreater(len(others), 10)
        networks = [ipaddress.ip_network(p) for p in prefixes]
        for address in others:
            self.assertTrue(any(ipaddress.ip_address(address) in network for network in networks), address)
        # What is on the way when the server moves may come later, and the validation of two addresses overlap.
        first_seen = list(dict.fromkeys(order))
        ages = [len(set(order[:i])) - first_seen.index(far) for i, far in enumerate(order)]
        self.assertLess(max(ages), 5, "an address was used again")

    def test_fresh_addresses_ipv6(self):
        self.fresh_addresses(A6, PREFIXES[:1], "--migrate-every=120ms")

    def test_fresh_addresses_ipv4(self):
        self.fresh_addresses(A, PREFIXES[1:], "--migrate-every=120ms")

    def test_fresh_addresses_both(self):
        self.fresh_addresses(A, PREFIXES, "--migrate-every=120ms")

    def test_fresh_addresses_by_packets(self):
        self.fresh_addresses(A6, PREFIXES[:1], "--migrate-every-packets=150")

    def probes(self, wire: Wire) -> list[Trace]:
        """What the client sent to C only because that was announced.  When it goes away, the client may be there, and
        acknowledges what it has got until it hears from another address."""
        return [p for p in wire.trace() if p.way == "up" and p.far == C.host and p.size >= 1200]


if __name__ == "__main__":
    tap.main(Rotation)
