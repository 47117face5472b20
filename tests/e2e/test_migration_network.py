#!/usr/bin/env python3
"""Downloads during which the server moves, through a network that is bad, changes,
or dies in part.

    tests/e2e/test_migration_network.py --build DIR [--filter TEXT]
"""

import signal

import files
import qlog
import tap
from net import Addr
from network_case import (A, A6, B, B6, C, CLIENT, ENABLED, KIB, MIB, NetworkCase, both_ways, chosen,
                          everywhere, logged)
from transfer import Transfer
from wire import Link, Trace, Wire

MOVE = signal.SIGUSR1
UPLOAD = 2 * MIB
# RFC 9002, section 7.2, for packets of 1,200 to 1,472 bytes
INITIAL_WINDOW = 14720


class MigrationNetwork(NetworkCase):

    def move_at(self, transfer: Transfer, size: int) -> None:
        transfer.wait_received(size)
        transfer.server.send_signal(MOVE)

    # E1

    def test_faster_address(self):
        """From a slow address to a fast one: all that is sent after the switch is sent from there."""
        size = (6 if self.slow else 50) * MIB
        links = {A.host: both_ways(delay=30, rate=MIB if self.slow else 5 * MIB, queue=256 << 10),
                 B.host: both_ways(delay=4.5, rate=12_500_000)}
        with self.network(links) as wire, self.transfer(wire, [A, B], size) as transfer:
            transfer.start()
            self.move_at(transfer, size // 4)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1)
            down = [p for p in wire.trace() if p.way == "down"]
            last = max(n for n, p in enumerate(down) if p.far == A.host)
            # Before, only what validates the new path
            self.assertLessEqual(len([p for p in down[:last] if p.far == B.host]), 4)
            self.assertGreater(sum(p.size for p in down[last + 1:]), size // 2)
            share = sum(p.size for p in down[:last + 1]) * 100 // sum(p.size for p in down)
            print(f"# {share} % from A, longest gap {outcome.client['longest_gap_ms']:.1f} ms", flush=True)

    # E2

    def chain(self, ring: list[Addr], least: int) -> None:
        """Many moves, each to the next address.

        Not as fast as could be: each one needs a new connection ID of the client, and one that is retired keeps
        its place for a probe timeout, which is a second while a client that only receives has no round trip sample."""
        with (self.network(everywhere(both_ways(delay=2, rate=MIB))) as wire,
              self.transfer(wire, ring, 6 * MIB, ("--migrate-every=150ms",)) as transfer):
            transfer.start()
            outcome = transfer.finish()
            self.check(wire, outcome)
            self.assertGreaterEqual(outcome.client["server_migrations"], least)
            self.assertEqual(self.used(outcome), set(map(str, ring)))

    def test_chain_mixed(self):
        self.chain([A, A6, B, B6], 20)

    def test_back_and_forth(self):
        self.chain([A, B], 20)

    def windows(self, *options: str) -> tuple[int, int]:
        """The server's congestion window before and after a move to another IP address."""
        with (self.network(everywhere(both_ways(delay=10, rate=4 * MIB))) as wire,
              self.transfer(wire, [A, B], 4 * MIB, options) as transfer):
            transfer.start()
            self.move_at(transfer, 2 * MIB)
            self.check(wire, transfer.finish(), moves=1)
            events = qlog.read(transfer.qlog_dir("server"))
        switch = max(n for n, event in enumerate(events) if event["name"].endswith(":path_assigned"))
        before, after = ([event["data"]["congestion_window"] for event in part
                          if "congestion_window" in event["data"]] for part in (events[:switch], events[switch:]))
        print(f"# {before[-1]:,} bytes before, {after[0]:,} after", flush=True)
        return before[-1], after[0]

    def test_same_path(self):
        """A server that knows that both addresses share the path keeps its congestion window."""
        before, after = self.windows("--alternate-addr-same-path")
        self.assertGreater(before, 3 * INITIAL_WINDOW)
        self.assertGreaterEqual(after, before // 2)

    def test_other_path(self):
        """A server that does not know it starts over."""
        before, after = self.windows()
        self.assertGreater(before, 3 * INITIAL_WINDOW)
        self.assertLess(after, 2 * INITIAL_WINDOW)

    # E3

    def bad(self, size: int, least: int, **what) -> None:
        ring = [A, B, C]
        with (self.network(everywhere(both_ways(delay=5, **what))) as wire,
              self.transfer(wire, ring, size, ("--migrate-every=100ms",)) as transfer):
            transfer.start()
            outcome = transfer.finish()
            # An address that is not known yet is validated before the connection goes there.
            self.check(wire, outcome, failed=None, answers=len(ring) - 1)
            self.assertGreaterEqual(outcome.client["server_migrations"], least)
            print(f"# {outcome.client['server_migrations']} moves, {outcome.client['path_validations_failed']} "
                  f"failed, longest gap {outcome.client['longest_gap_ms']:.0f} ms", flush=True)

    def test_loss_1_percent(self):
        self.bad(2 * MIB, 3, loss=0.01, rate=MIB)

    def test_loss_5_percent(self):
        self.bad(MIB, 2, loss=0.05)

    def test_loss_20_percent(self):
        self.bad(200 * KIB, 1, loss=0.2)

    def test_jitter(self):
        """Every third packet arrives 50 ms late, behind many that were sent after it."""
        self.bad(MIB, 2, reorder=0.3, reorder_delay=50)

    def test_duplicates(self):
        self.bad(2 * MIB, 3, duplicate=0.05, rate=MIB)

    # E4

    def test_dead_address(self):
        """An address that never answers costs the download nothing, and gets four probes at most."""
        with (self.network({A.host: both_ways(delay=5, rate=MIB)}) as wire,
              self.transfer(wire, [A, B], 4 * MIB, client=ENABLED) as transfer):
            wire.blackhole(B.host)
            client = transfer.start()
            self.move_at(transfer, 1)
            client.wait_output("Path validation", logged(B), "failed")
            transfer.wait_received(transfer.site.size)
            client.send_signal(signal.SIGINT)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=0, failed=1)
            packets, size = wire.sent("up", B.host)
            self.assertIn(packets, range(1, 5))
            self.assertEqual((packets, size), (wire.sent("up", B.host, "short")[0], packets * 1200))
            self.assertEqual(wire.sent("down", B.host), (0, 0))
            self.assertEqual(self.used(outcome), {str(A)})

    # E5

    def moved_to_b(self, wire: Wire, transfer: Transfer) -> None:
        """The download goes on from B."""
        transfer.start()
        self.move_at(transfer, 1)
        transfer.client.wait_output("Path validation", logged(B), "succeeded")
        transfer.wait_received(transfer.received() + 64 * KIB)

    def test_new_address_dies(self):
        """Nobody waits for ever for an address that is gone."""
        with (self.network({A.host: both_ways(delay=5, rate=MIB)}) as wire,
              self.transfer(wire, [A, B], 32 * MIB, ("--timeout=2s",), (*CLIENT, "--timeout=2s")) as transfer):
            wire.link(B.host, "down", Link(rate=MIB))
            self.moved_to_b(wire, transfer)
            wire.blackhole(B.host)
            self.assertEqual(transfer.client.wait(120), 1)
            # The server has nothing to keep any more, and ends in order.
            self.assertEqual(transfer.server.stop(), 0)

    def test_next_address_rescues(self):
        """The server is not heard any more at B, can still say so, and is found at A."""
        with (self.network(everywhere(both_ways(delay=5, rate=MIB))) as wire,
              self.transfer(wire, [A, B], 2 * MIB) as transfer):
            self.moved_to_b(wire, transfer)
            wire.blackhole(B.host, "up")
            transfer.server.send_signal(MOVE)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=2)
            self.check_order(chosen(B), chosen(A))

    def test_server_probes_lost(self):
        """The client is at B, and the server cannot make sure of it: all goes on from A until it can."""
        with (self.network(everywhere(both_ways(delay=5, rate=MIB))) as wire,
              self.transfer(wire, [A, B], 4 * MIB) as transfer):
            # After the answers to the client's two probes nothing comes from B.
            wire.when(B.host, " ".join(f"when {B.host} down" for _ in range(2)) + f" blackhole {B.host} down on", "down")
            transfer.start()
            self.move_at(transfer, 1)
            transfer.client.wait_output("Path validation", logged(B), "succeeded")
            transfer.wait_received(2 * MIB)
            wire.blackhole(B.host, "down", False)
            outcome = transfer.finish()
            self.check(wire, outcome)
            print(f"# longest gap {outcome.client['longest_gap_ms']:.0f} ms", flush=True)

    # E6

    def failover(self, size: int, ways: str, client: tuple[str, ...] = CLIENT) -> None:
        """The old address dies in the moment in which the client first tries the new one."""
        with (self.network(everywhere(both_ways(delay=10, rate=2 * MIB, queue=64 << 10))) as wire,
              self.transfer(wire, [A, B], size, client=client) as transfer):
            wire.when(B.host, f"blackhole {A.host} {ways} on")
            transfer.start()
            self.started(wire, transfer)
            transfer.server.send_signal(MOVE)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1)
            self.assertGreater(wire.counts()["links"][A.host]["down" if ways == "both" else ways]["lost"], 0)
            for side, told in (("client", outcome.client), ("server", outcome.server)):
                print(f"# {side}: {told['longest_gap_ms']:.0f} ms without new data", flush=True)

    def started(self, wire: Wire, transfer: Transfer) -> None:
        """Waits for a quarter of a download, or of an upload of as much."""
        size = transfer.site.size if transfer.site.size > 1 else UPLOAD
        while sum(wire.sent(way, A.host, "short")[1] for way in ("up", "down")) < size // 4:
            if transfer.client.status is not None:
                self.fail(transfer.client.epitaph())

    def test_failover(self):
        """In the middle of a download, with all of the window on its way through a full queue."""
        self.failover(2 * MIB, "both")

    def test_failover_no_answers(self):
        """The server still hears the client at A, and is not heard."""
        self.failover(2 * MIB, "down")

    def test_failover_not_heard(self):
        """The client still hears the server at A, and is not heard."""
        self.failover(2 * MIB, "up")

    def test_failover_upload(self):
        upload = self.work / "upload"
        files.make(upload, UPLOAD, "upload")
        self.failover(1, "both", (*CLIENT, f"--data={upload}", "--http-method=PUT"))

    # E7

    def rebinding(self, trigger: str, command: str) -> None:
        """A NAT forgets its flows while the new address is validated."""
        with (self.network(everywhere(both_ways(delay=20, rate=MIB))) as wire,
              self.transfer(wire, [A, B], 2 * MIB) as transfer):
            wire.when(B.host, command, trigger)
            transfer.start()
            self.move_at(transfer, transfer.site.size // 4)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1)
            self.assertEqual(self.used(outcome), {str(A), str(B)})
            sources = {(p.source, p.source_port) for p in wire.trace()
                       if p.way == "up" and p.far == A.host and p.kind == "short"}
            self.assertEqual(len(sources), 2)

    def test_nat_rebinding(self):
        """At the first PATH_CHALLENGE of the client"""
        self.rebinding("up", "rebind")

    def test_nat_rebinding_at_response(self):
        """At the first packet of the server from there"""
        self.rebinding("down", "rebind")

    def test_nat_address_rebinding(self):
        self.rebinding("up", "rebind 10.9.0.99")

    # E8, E14: what the client does by itself meanwhile.  B answers only afterwards.

    def meanwhile(self, option: str, phrase: str) -> list[Trace]:
        with (self.network(everywhere(both_ways(delay=10, rate=MIB))) as wire,
              self.transfer(wire, [A, B], 3 * MIB, client=(*CLIENT, option)) as transfer):
            wire.blackhole(B.host)
            client = transfer.start()
            self.move_at(transfer, 1)
            client.wait_output(phrase)
            wire.blackhole(B.host, on=False)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1)
            self.check_order(chosen(B), phrase, f"remote:{logged(B)}}} succeeded")
            self.assertEqual(self.used(outcome), {str(A), str(B)})
            return wire.trace()

    def test_own_migration(self):
        trace = self.meanwhile("--change-local-addr=500ms", "Local address is now")
        self.assertEqual(len({p.source_port for p in trace if p.way == "up" and p.far == A.host}), 2)

    def test_key_update(self):
        trace = self.meanwhile("--key-update=500ms", "Initiate key update")
        self.assertTrue(trace)

    # E10

    def test_zero_length_client_connection_id(self):
        with (self.network(everywhere(both_ways(delay=5, rate=MIB))) as wire,
              self.transfer(wire, [A, B], MIB, client=(*CLIENT, "--scid=")) as transfer):
            transfer.start()
            self.move_at(transfer, MIB // 4)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1)

    # E11

    def test_resumption(self):
        """0-RTT does not remember the extension; the move works as always."""
        remember = tuple(f"--{name}={self.work / name}" for name in ("session-file", "tp-file"))
        with (self.network(everywhere(both_ways(delay=10, rate=MIB))) as wire,
              self.transfer(wire, [A, B], MIB, client=(*CLIENT, *remember, "--wait-for-ticket")) as transfer):
            self.assertEqual(transfer.start().wait(120), 0)
            self.assertEqual(wire.sent("up", A.host, "0rtt"), (0, 0))
            transfer.downloaded.unlink()
            transfer.client_options = (*CLIENT, *remember)
            transfer.start()
            self.move_at(transfer, MIB // 4)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1, connections=2)
            kinds = wire.counts()["sent"]["up"][A.host]
            self.assertTrue({"0rtt"} & set(kinds) or any("0RTT" in line for line in self.log()), kinds)

    # E12

    def test_preferred_address_first(self):
        with (self.network(everywhere(both_ways(delay=5, rate=MIB))) as wire,
              self.transfer(wire, [A, C], MIB, (f"--preferred-ipv4-addr={B}",)) as transfer):
            transfer.start()
            self.move_at(transfer, MIB // 4)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1)
            self.assertEqual(self.used(outcome), {str(A), str(B), str(C)})
            self.check_order(f"remote:{logged(B)}}} succeeded", chosen(C))

    # E13

    def test_retry(self):
        with (self.network(everywhere(both_ways(delay=5, rate=MIB))) as wire,
              self.transfer(wire, [A, B], MIB, ("--validate-addr",)) as transfer):
            transfer.start()
            self.move_at(transfer, MIB // 4)
            outcome = transfer.finish()
            self.check(wire, outcome, moves=1)
            self.assertEqual(wire.sent("down", A.host, "retry")[0], 1)


if __name__ == "__main__":
    tap.main(MigrationNetwork)
