#!/usr/bin/env python3
"""A server that moves to an address with a smaller MTU, or with congestion that is
told by ECN (E19): what was learnt of the old path does not hold for the new one.

    tests/e2e/test_migration_mtu.py --build DIR [--filter TEXT]
"""

import os
import signal
import unittest
from pathlib import Path

import tap
from net import Addr
from transfer import Outcome, Site, Transfer
from wire import Link, Trace, Wire

MIB = 1 << 20
SEED = os.environ.get("NGMASQUE_SEED", "1")
A, B = Addr("10.9.1.1", 4433), Addr("10.9.1.2", 4434)
A6, B6 = Addr("fd09:1::1", 4433), Addr("fd09:1::2", 4434)
HOSTS = {"cli": ["10.9.0.1", "fd09::1"], "srv": [A.host, B.host, A6.host, B6.host]}
# What every path of QUIC has to carry, and IP and UDP headers
LEAST, HEADERS, HEADERS6 = 1200, 28, 48
# Packets by which two endpoints find the MTU: some sizes, three times each
PMTUD = 2 * 3 * 4


class MtuTest(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.site = Site(cls.work / "site", 8 * MIB)

    def moves(self, old: Addr, new: Addr, link: Link) -> tuple[Outcome, list[Trace], dict]:
        """A download, in the course of which the server moves from one to the other."""
        run = self.work / self._testMethodName
        run.mkdir()
        # Slow enough for the move to come before the end of the download
        links = {old.host: (Link(delay=2), Link(delay=2, rate=4 * MIB)), new.host: (link, link)}
        with Wire(HOSTS, links, SEED, run / "trace") as wire:
            with Transfer(self.build, self.site, run, [old, new], wire=wire, client_options=(
                    "--quiet", "--enable-server-migration", "--exit-on-all-streams-close")) as transfer:
                transfer.start()
                transfer.wait_received(MIB)
                transfer.server.send_signal(signal.SIGUSR1)
                outcome = transfer.finish()
            trace, counts = wire.trace(), wire.counts()["links"][new.host]
        self.assertTrue(outcome.sha256_ok, f"the content differs, {wire}")
        self.assertEqual((outcome.client["server_migrations"], outcome.server["server_migrations"]), (1, 1), wire)
        return outcome, trace, counts

    def smaller(self, mtu: int, old: Addr = A, new: Addr = B, too_big: bool = False) -> None:
        payload = mtu - (HEADERS6 if new.family != A.family else HEADERS)
        _, trace, _ = self.moves(old, new, Link(delay=2, mtu=payload, too_big=too_big))
        at_old, at_new = ([t for t in trace if t.far == addr.host and t.kind != "icmp"] for addr in (old, new))
        # It was more before, and would be lost here.
        self.assertGreater(max(t.size for t in at_old if t.way == "down" and t.copies), payload)
        for way in ("up", "down"):
            packets = [t for t in at_new if t.way == way]
            # It begins with what is safe, asks for more, and gives that up again.
            self.assertLessEqual(packets[0].size, LEAST)
            self.assertTrue(any(t.size > LEAST for t in packets), f"no discovery of the MTU, {way}")
        lost = [t.size for t in at_new if not t.copies]
        self.assertTrue(all(size > payload for size in lost), lost)
        self.assertLessEqual(len(lost), PMTUD, lost)
        self.assertGreater(sum(t.size for t in at_new if t.way == "down" and t.copies), 100 * LEAST)

    def test_1280(self):
        self.smaller(1280)

    def test_1300(self):
        self.smaller(1300)

    def test_1280_ipv6(self):
        self.smaller(1280, A6, B6)

    def test_1280_told_by_icmp(self):
        self.smaller(1280, too_big=True)

    def test_congestion(self):
        """Marks on the new path: ECN is in use there, and the download goes on with a smaller window."""
        _, _, counts = self.moves(A, B, Link(delay=2, ce=0.05))
        self.assertGreater(counts["down"]["ce"], 0)

    def test_all_marked(self):
        _, _, counts = self.moves(A, B, Link(delay=2, ce=1))
        self.assertGreater(counts["down"]["ce"], 0)


if __name__ == "__main__":
    tap.main(MtuTest)
