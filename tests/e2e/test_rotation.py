#!/usr/bin/env python3
"""Downloads whose server moves a hundred times a second among addresses that the
client knows, all on one path with a round trip of 58 ms.

    tests/e2e/test_rotation.py --build DIR [--filter TEXT]
"""

import qlog
import stats
import tap
from net import Addr
from network_case import A, B, C, MIB, NetworkCase, both_ways, everywhere
from wire import Link, Trace, Wire

OFTEN = ("--migrate-every=10ms", "--alternate-addr-same-path")
# What the client sends to a known address that does not answer any more, and then, as if it had never been there,
# at first, and in ten seconds
DATAGRAMS = 5 + 16 + 4


class Rotation(NetworkCase):

    def one_path(self, *others: Addr, **what) -> Wire:
        """`others` have a path of their own."""
        way = {"delay": 29, "shared": "all", **what}
        links = everywhere((Link(**way), Link(**way, rate=MIB, queue=256 << 10)))
        return self.network({**links, **{addr.host: both_ways(delay=29, rate=MIB) for addr in others}})

    def check_moves(self, outcome) -> None:
        """Many announcements that arrived were followed, by both sides; how many, the queues and the machine decide."""
        self.assertTrue(outcome.sha256_ok, "the content differs")
        events = qlog.read(self.run_directory / "client-qlog")
        announced = qlog.frames(events, "transport:packet_received")["server_alternate_address"]
        moves = outcome.client["server_migrations"], outcome.server["server_migrations"]
        print(f"# {announced} announcements, moves of client and server: {moves}, in {outcome.seconds:.1f} s", flush=True)
        self.assertGreater(announced, 100)
        self.assertGreater(min(moves), announced // 5)

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

    def probes(self, wire: Wire) -> list[Trace]:
        """What the client sent to C only because that was announced.  When it goes away, the client may be there, and
        acknowledges what it has got until it hears from another address."""
        return [p for p in wire.trace() if p.way == "up" and p.far == C.host and p.size >= 1200]


if __name__ == "__main__":
    tap.main(Rotation)
