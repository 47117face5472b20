#!/usr/bin/env python3
"""Downloads during which the server moves, and some during which it must not.

    tests/e2e/test_migration.py --build DIR [--filter TEXT]
"""

import copy
import signal
import unittest
from pathlib import Path

import deaf
import net
import qlog
import stats
import tap
import timeline
from frame_log import FrameLog
from procs import sanitized
from transfer import Outcome, Site, Transfer

MIB = 1 << 20

# Enough for several moves at every interval used here.
SIZE = 96 * MIB
SIZE_SANITIZED = 64 * MIB

CLIENT = ("--quiet", "--enable-server-migration", "--exit-on-all-streams-close")


class Migration(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        size = SIZE_SANITIZED if sanitized(cls.build) else SIZE
        cls.work = tap.temporary_directory(cls)
        cls.site = Site(cls.work / "site", size)
        cls.small = Site(cls.work / "small", 8 * MIB)

    def transfer(self, ring: list[net.Addr], server: tuple[str, ...] = (),
                 client: tuple[str, ...] = CLIENT, site: Site | None = None) -> Transfer:
        run = self.work / self._testMethodName
        run.mkdir()
        return Transfer(self.build, site or self.site, run, ring, server, client)

    def check(self, transfer: Transfer, outcome: Outcome, often: bool = False) -> None:
        """What must hold after every download that succeeded.  If the server announces faster than packets arrive
        (`often`), one side may skip an address that the other one was at."""
        self.assertTrue(outcome.sha256_ok, "the content differs")
        client, server = outcome.client, outcome.server
        self.assertEqual((client["connections"], server["connections"]), (1, 1))
        self.assertGreaterEqual(client["app_bytes_received"], transfer.site.size)
        self.assertGreaterEqual(server["app_bytes_sent"], client["app_bytes_received"])
        self.assertIsNotNone(client["longest_gap_ms"])
        self.assertIsNotNone(server["longest_gap_ms"])
        # Nothing is received that was not sent, on no address.
        for receiver, sender, ends in ((client, server, ("remote", "local")),
                                       (server, client, ("local", "remote"))):
            for counter in ("packets", "bytes"):
                received = stats.by_server_address(receiver, ends[0], f"{counter}_received")
                sent = stats.by_server_address(sender, ends[1], f"{counter}_sent")
                for address, count in received.items():
                    self.assertLessEqual(count, sent[address], f"{counter} of {address}")
        # The last move may be on its way when the client leaves.
        moves = client["server_migrations"], server["server_migrations"]
        self.assertLessEqual(max(moves), 4 * min(moves) + 8 if often else min(moves) + 1)
        # Nothing comes from an address that the client was not told.
        self.assertLessEqual(set(stats.by_server_address(client, "remote", "packets_received")),
                             set(map(str, transfer.ring)))

    def check_all_used(self, transfer: Transfer, outcome: Outcome) -> None:
        for counter in ("packets_received", "packets_sent"):
            used = stats.by_server_address(outcome.client, "remote", counter)
            for address in transfer.ring:
                self.assertGreater(used[str(address)], 0, f"{counter} at {address}")

    def download_round_the_ring(self, *hosts: str, options: tuple[str, ...] = ()) -> None:
        with self.transfer(net.free_addrs(*hosts), ("--migrate-every=1ms", *options)) as transfer:
            transfer.start()
            outcome = transfer.finish()
            self.check(transfer, outcome, often=True)
            self.check_all_used(transfer, outcome)
            # Once round, and back to the first address at least
            self.assertGreaterEqual(outcome.client["server_migrations"], len(hosts))

    def test_ipv4_ring(self):
        self.download_round_the_ring("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1")

    @unittest.skipUnless(net.has_ipv6(), "no IPv6 loopback address")
    def test_mixed_ring(self):
        self.download_round_the_ring("127.0.0.1", "::1", "127.0.0.2", "::1", "127.0.0.3")

    @unittest.skipUnless(net.has_ipv6(), "no IPv6 loopback address")
    def test_ipv6_to_ipv4(self):
        self.download_round_the_ring("::1", "127.0.0.1")

    def test_back_and_forth(self):
        self.download_round_the_ring("127.0.0.1", "127.0.0.2")

    def test_other_port_only(self):
        self.download_round_the_ring("127.0.0.1", "127.0.0.1")

    def test_packet_loss(self):
        self.download_round_the_ring("127.0.0.1", "127.0.0.2", "127.0.0.3",
                                     options=("--tx-loss=0.01", "--rx-loss=0.01"))

    def test_not_enabled_by_client(self):
        """The server knows from the transport parameters that it must not move."""
        ring = net.free_addrs("127.0.0.1", "127.0.0.2")
        with self.transfer(ring, ("--migrate-every=1ms",), ("--quiet", "--exit-on-all-streams-close"),
                           self.small) as transfer:
            transfer.start()
            outcome = transfer.finish()
            self.check(transfer, outcome)
            self.assertEqual(outcome.client["server_migrations"], 0)
            self.assertEqual(outcome.server["server_migrations"], 0)
            self.assertEqual(set(stats.by_server_address(outcome.client, "remote", "packets_sent")),
                             {str(ring[0])})
            sent = qlog.frames(qlog.read(transfer.qlog_dir("server")), "transport:packet_sent")
            self.assertEqual(sent["server_alternate_address"], 0)

    def test_nothing_to_move_to(self):
        """Enabled by the client, and the server has one address only."""
        with self.transfer(net.free_addrs("127.0.0.1")) as transfer:
            transfer.start()
            outcome = transfer.finish()
            self.check(transfer, outcome)
            self.assertEqual(outcome.client["server_migrations"], 0)

    def test_migrate_after(self):
        ring = net.free_addrs("127.0.0.1", "127.0.0.2", "127.0.0.3")
        with self.transfer(ring, ("--migrate-after=10ms",)) as transfer:
            transfer.start()
            outcome = transfer.finish()
            self.check(transfer, outcome)
            self.assertEqual(outcome.client["server_migrations"], 1)
            self.assertEqual(outcome.server["server_migrations"], 1)
            used = stats.by_server_address(outcome.client, "remote", "packets_received")
            self.assertEqual(set(used), {str(ring[0]), str(ring[1])})

    def test_signal(self):
        """One move for each SIGUSR1, to the next address each time."""
        signals = 3
        ring = net.free_addrs("127.0.0.1", "127.0.0.2", "127.0.0.3")
        with self.transfer(ring) as transfer:
            transfer.start()
            for number in range(signals):
                # That much data is many round trips: the move before is over.
                transfer.wait_received((number + 1) * self.site.size // (signals + 2))
                transfer.server.send_signal(signal.SIGUSR1)
            outcome = transfer.finish()
            self.check(transfer, outcome)
            self.check_all_used(transfer, outcome)
            self.assertEqual(outcome.client["server_migrations"], signals)
            self.assertEqual(outcome.server["server_migrations"], signals)

    def test_signal_without_connection(self):
        with self.transfer(net.free_addrs("127.0.0.1", "127.0.0.2")) as transfer:
            transfer.server.send_signal(signal.SIGUSR1)
            transfer.start()
            outcome = transfer.finish()
            self.check(transfer, outcome)

    def test_qlog(self):
        """The qlogs of both sides can be read and tell of the moves."""
        with self.transfer(net.free_addrs("127.0.0.1", "127.0.0.2"), ("--migrate-every=1ms",),
                           CLIENT[1:], self.small) as transfer:
            transfer.start()
            outcome = transfer.finish()
            self.check(transfer, outcome, often=True)
            moves = outcome.client["server_migrations"]
            self.assertGreater(moves, 0)
            log = FrameLog(transfer.run)
            for side, event, frame in (("server", "sent", "server_alternate_address"),
                                       ("client", "received", "server_alternate_address"),
                                       ("client", "sent", "path_challenge"), ("server", "sent", "path_response")):
                self.assertGreaterEqual(log.count(side, event, frame), moves, f"{frame} {event} by the {side}")

    def test_timeline(self):
        """What ci/migration-plot draws agrees with the statistics."""
        ring = net.free_addrs("127.0.0.1", "127.0.0.2", "127.0.0.3")
        with self.transfer(ring, ("--migrate-every=1ms",), site=self.small) as transfer:
            transfer.start()
            outcome = transfer.finish()
            self.check(transfer, outcome, often=True)
            data = timeline.read(transfer.qlog_dir("client"), transfer.qlog_dir("server"))
            moves = outcome.client["server_migrations"]
            self.assertGreater(moves, 0)
            self.assertEqual(len(data.moves), moves + 1)
            self.assertEqual({address for _, address in data.moves}, set(ring))
            for (_, before), (_, after) in zip(data.moves, data.moves[1:]):
                self.assertNotEqual(before, after)
            self.assertEqual(data.failed, [])
            total = data.received[-1][1]
            self.assertEqual(total, outcome.client["app_bytes_received"])
            for points in (data.received, data.moves):
                self.assertEqual(points, sorted(points, key=lambda point: point[0]))
            self.assertLessEqual(sum(map(len, data.sent.values())), outcome.server["packets_sent"])
            # The server may not have followed the last move.
            self.assertLessEqual({address for _, address in data.moves[:-1]}, set(data.sent))

    def test_dead_address(self):
        """An address that never answers costs nothing, and the next one works."""
        ring = net.free_addrs("127.0.0.1", "127.0.0.2", "127.0.0.3")
        # The client stays after the download, and tells all that happens.
        with self.transfer(ring, client=("--enable-server-migration",), site=self.small) as transfer:
            try:
                deaf.deafen(transfer.server.pid, ring[1])
            except deaf.NotPermitted as err:
                self.skipTest(str(err))
            client = transfer.start()
            transfer.wait_received(1)
            transfer.server.send_signal(signal.SIGUSR1)
            client.wait_output("Path validation", "failed")
            transfer.server.send_signal(signal.SIGUSR1)
            client.wait_output("Path validation", str(ring[2].port), "succeeded")
            # The server has moved when it has got this.
            client.wait_output(" tx ", "PATH_RESPONSE")
            transfer.wait_received(self.small.size)
            client.send_signal(signal.SIGINT)
            outcome = transfer.finish()
            self.check(transfer, outcome)
            self.assertEqual(outcome.client["path_validations_failed"], 1)
            self.assertEqual(outcome.client["server_migrations"], 1)
            self.assertEqual(outcome.server["server_migrations"], 1)
            # Probes went there, nothing else: RFC 9000, section 8.2.4, gives up after
            # three probe timeouts, and every probe fills a datagram of 1200 bytes.
            dead = stats.by_server_address(outcome.client, "remote", "packets_sent")[str(ring[1])]
            self.assertIn(dead, range(1, 5))
            self.assertEqual(stats.by_server_address(outcome.client, "remote", "bytes_sent")[str(ring[1])],
                             dead * 1200)

    def test_server_dies(self):
        """The client reports it and does not wait for ever."""
        site = copy.copy(self.site)
        site.file = site.htdocs / "endless"
        with site.file.open("wb") as file:
            file.truncate(1 << 40)  # takes no space, and far too long to download
        ring = net.free_addrs("127.0.0.1", "127.0.0.2")
        with self.transfer(ring, ("--migrate-every=10ms",), (*CLIENT, "--timeout=2s"), site) as transfer:
            client = transfer.start()
            transfer.wait_received(MIB)
            transfer.server.send_signal(signal.SIGKILL)
            self.assertEqual(client.wait(60), 1)
            self.assertEqual(stats.load(transfer.stats_file("client"))["connections"], 1)


if __name__ == "__main__":
    tap.main(Migration)
