#!/usr/bin/env python3
"""The options that say when, how and where to a client moves, and how a server announces it.

    tests/e2e/test_migration_options.py --build DIR [--filter TEXT]
"""

import signal

import tap
from net import Addr
from network_case import (A, A6, B, B6, C, CLIENT, KIB, MIB, PORT, Links, NetworkCase, both_ways, chosen,
                          everywhere, logged)
from transfer import Outcome, Transfer
from wire import Wire

MOVE, WITHDRAW = signal.SIGUSR1, signal.SIGUSR2
SIZE = 768 * KIB
SLOW: Links = everywhere(both_ways(delay=5, rate=MIB))


class MigrationOptions(NetworkCase):

    def move(self, transfer: Transfer) -> Outcome:
        """A download during which the server asks the client to move once."""
        transfer.start()
        transfer.wait_received(SIZE // 4)
        transfer.server.send_signal(MOVE)
        return transfer.finish()

    def sources(self, wire: Wire, addr: Addr) -> set[int]:
        """The client's ports that are seen there."""
        return {p.source_port for p in wire.trace() if p.way == "up" and p.far == addr.host and p.kind == "short"}

    # E9

    def test_disable_active_migration(self):
        """The client must not move by itself, and follows the server all the same."""
        with (self.network(SLOW) as wire,
              self.transfer(wire, [A, B], SIZE, ("--disable-active-migration",),
                            (*CLIENT, "--change-local-addr=1ms")) as transfer):
            outcome = self.move(transfer)
            self.check(wire, outcome, moves=1)
            self.check_order("ngtcp2_conn_initiate_immediate_migration: ERR_INVALID_STATE", chosen(B))

    # --server-migration-delay

    def test_delay(self):
        with (self.network(SLOW) as wire,
              self.transfer(wire, [A, B], SIZE, client=(*CLIENT, "--server-migration-delay=100ms")) as transfer):
            self.check(wire, self.move(transfer), moves=1)
            self.check_order("Server migration is delayed by", chosen(B), f"remote:{logged(B)}}} succeeded")

    def test_delay_does_not_start_over(self):
        """A server that announces addresses all the time does not keep its client from moving."""
        with (self.network(SLOW) as wire,
              self.transfer(wire, [A, B, C], SIZE, client=(*CLIENT, "--server-migration-delay=300ms")) as transfer):
            transfer.start()
            transfer.wait_received(1)
            while transfer.client.status is None and "succeeded" not in "".join(self.log()):
                transfer.server.send_signal(MOVE)
                transfer.wait_received(min(transfer.received() + 4 * KIB, SIZE))
            self.check(wire, transfer.finish(), failed=None)
            waits = sum("delayed" in line for line in self.log())
            # The last one may not be over when the client leaves.
            self.assertIn(waits - sum("selected server alternate" in line for line in self.log()), (0, 1))

    # Dangerous ports

    def test_dangerous_port(self):
        """Nothing leaves for the port of another service."""
        victim = Addr(B.host, 53)
        with self.network(SLOW) as wire, self.transfer(wire, [A, victim], SIZE) as transfer:
            self.check(wire, self.move(transfer), moves=0)
            self.check_order(f"Refused server alternate address {logged(victim)}: dangerous port")
            self.assertEqual(wire.sent("up", victim.host), (0, 0))

    def test_any_port(self):
        victim = Addr(B.host, 53)
        with (self.network(SLOW) as wire,
              self.transfer(wire, [A, victim], SIZE, client=(*CLIENT, "--server-migration-any-port")) as transfer):
            outcome = self.move(transfer)
            self.assertTrue(outcome.sha256_ok)
            self.assertEqual(outcome.client["server_migrations"], 1)
            self.assertGreater(wire.sent("up", victim.host)[0], 0)

    # Local ports

    def test_local_port_changes(self):
        with self.network(SLOW) as wire, self.transfer(wire, [A, B], SIZE) as transfer:
            self.check(wire, self.move(transfer), moves=1)
            self.assertEqual((len(self.sources(wire, A)), len(self.sources(wire, B))), (1, 1))
            self.assertNotEqual(self.sources(wire, A), self.sources(wire, B))

    def test_local_port_stays(self):
        with (self.network(SLOW) as wire,
              self.transfer(wire, [A, B], SIZE,
                            client=(*CLIENT, "--no-server-migration-local-port-change")) as transfer):
            self.check(wire, self.move(transfer), moves=1)
            self.assertEqual(self.sources(wire, A), self.sources(wire, B))

    def test_local_ports_are_bounded(self):
        """However often the server wants to move, to whatever addresses."""
        ring = [Addr(A.host, PORT + n) for n in range(12)]
        with (self.network(everywhere(both_ways(delay=2, rate=MIB))) as wire,
              self.transfer(wire, ring, 3 * MIB, ("--migrate-every=10ms",)) as transfer):
            transfer.start()
            outcome = transfer.finish()
            self.assertTrue(outcome.sha256_ok)
            self.assertGreaterEqual(outcome.client["server_migrations"], len(ring))
            self.assertEqual(len(self.sources(wire, A)), 8)

    def test_known_address_keeps_local_port(self):
        """An address that comes back is reached from the port that was used there before."""
        with (self.network(everywhere(both_ways(delay=2, rate=MIB))) as wire,
              self.transfer(wire, [A, B], 3 * MIB, ("--migrate-every=50ms",)) as transfer):
            transfer.start()
            outcome = transfer.finish()
            self.check(wire, outcome)
            self.assertGreaterEqual(outcome.client["server_migrations"], 8)
            self.assertEqual([len(self.sources(wire, addr)) for addr in (A, B)], [1, 1])
            self.assertNotEqual(self.sources(wire, A), self.sources(wire, B))

    # The server

    def both_families(self, first: Addr, expected: Addr) -> None:
        """Both addresses are in one frame, and the client takes that of its own family."""
        with (self.network(SLOW) as wire,
              self.transfer(wire, [first], SIZE, (f"--alternate-addr={B},{B6}",)) as transfer):
            outcome = self.move(transfer)
            self.check(wire, outcome, moves=1)
            self.assertEqual(self.used(outcome), {str(first), str(expected)})
            self.check_order(f"ipv4_addr={B.host} ipv4_port={B.port} ipv6_addr={B6.host} ipv6_port={B6.port}",
                             chosen(expected))

    def test_both_families_from_ipv4(self):
        self.both_families(A, B)

    def test_both_families_from_ipv6(self):
        self.both_families(A6, B6)

    def test_withdraw(self):
        """The client stops validating the address that was taken back, and takes the next one."""
        with (self.network(SLOW) as wire,
              self.transfer(wire, [A, B, C], 2 * SIZE) as transfer):
            wire.blackhole(B.host)
            client = transfer.start()
            transfer.wait_received(SIZE // 4)
            transfer.server.send_signal(MOVE)
            client.wait_output(chosen(B))
            transfer.server.send_signal(WITHDRAW)
            client.wait_output("Path validation", logged(B))
            wire.blackhole(B.host, on=False)
            transfer.server.send_signal(MOVE)
            outcome = transfer.finish()
            # It did not fail, it was given up.
            self.check(wire, outcome, moves=1, failed=0)
            self.assertEqual(self.used(outcome), {str(A), str(C)})
            self.assertLessEqual(wire.sent("up", B.host)[0], 4)


if __name__ == "__main__":
    tap.main(MigrationOptions)
