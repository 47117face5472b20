"""What the tests of server migration through a Wire share."""

import os
import unittest
from pathlib import Path

import stats
import tap
from frame_log import FrameLog
from net import Addr
from procs import sanitized
from transfer import Outcome, Site, Transfer
from wire import Link, Wire

KIB, MIB = 1 << 10, 1 << 20
# The network's decisions; another one is to be tried by hand.
SEED = os.environ.get("NGMASQUE_SEED", "1")
PORT = 4433
CLIENT4, CLIENT6 = "10.9.0.1", "fd09::1"
A, B, C, A6, B6 = (Addr(host, PORT) for host in ("10.9.1.1", "10.9.1.2", "10.9.1.3", "fd09:1::1", "fd09:1::2"))
HOSTS = {"cli": [CLIENT4, CLIENT6], "srv": [addr.host for addr in (A, B, C, A6, B6)]}

# Packets and bytes of a connection's end that may be on one address
GOODBYE = (3, 300)

ENABLED = ("--enable-server-migration",)
# The client tells all that happens, and leaves after the download.
CLIENT = (*ENABLED, "--exit-on-all-streams-close")

Links = dict[str, tuple[Link, Link]]


def logged(addr: Addr) -> str:
    """As the programs write addresses in their logs."""
    return f"[{addr.host}]:{addr.port}"


def chosen(addr: Addr) -> str:
    """What the client writes when it is going to validate an address."""
    return f"selected server alternate address is {logged(addr)}"


def both_ways(**what) -> tuple[Link, Link]:
    return Link(**what), Link(**what)


def everywhere(link: tuple[Link, Link]) -> Links:
    return {host: link for host in HOSTS["srv"]}


class NetworkCase(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.slow = sanitized(cls.build)
        cls.sites: dict[int, Site] = {}

    def network(self, links: Links, *prefixes: str) -> Wire:
        """The server has all addresses of `prefixes` as well."""
        hosts = {**HOSTS, "srv": [*HOSTS["srv"], *prefixes]}
        return Wire(hosts, links, SEED, self.work / f"{self._testMethodName}.trace")

    def transfer(self, wire: Wire, ring: list[Addr], size: int, server: tuple[str, ...] = (),
                 client: tuple[str, ...] = CLIENT) -> Transfer:
        if size not in self.sites:
            self.sites[size] = Site(self.work / f"site-{size}", size)
        self.run_directory = self.work / self._testMethodName
        self.run_directory.mkdir()
        return Transfer(self.build, self.sites[size], self.run_directory, ring, server, client, wire)

    def log(self, side: str = "client") -> list[str]:
        return (self.run_directory / f"{side}.log").read_text(errors="replace").splitlines()

    def check_order(self, *phrases: str) -> None:
        """The client's log has lines with these phrases, in this order."""
        lines = iter(self.log())
        for phrase in phrases:
            self.assertTrue(any(phrase in line for line in lines), f"{phrase!r} is not in the client's log, "
                            f"or not after what precedes it in {phrases}")

    def check_logs(self, moves: int, answers: int) -> None:
        """The logs of both sides tell of so many moves: announced, and validated in both directions."""
        log = FrameLog(self.run_directory)
        for side, others in (("client", ("server_alternate_address", "received")),
                             ("server", ("server_alternate_address", "sent"))):
            for (frame, event), least in ((others, moves), (("path_challenge", "sent"), moves),
                                          (("path_response", "received"), answers)):
                self.assertGreaterEqual(log.count(side, event, frame), least, f"{side} {event} {frame}")

    def check(self, wire: Wire, outcome: Outcome, moves: int | None = None, failed: int | None = 0,
              connections: int = 1, answers: int | None = None) -> None:
        """What must hold after every download: content, and what the programs say is what was on the wire.  If the
        wire loses packets, only so many validations need have got their answer: a known address is used at once,
        and the next move may come before a lost answer has been asked for again."""
        client, server = outcome.client, outcome.server
        self.assertTrue(outcome.sha256_ok, "the content differs")
        self.assertEqual((client["connections"], server["connections"]), (1, connections))
        counts = wire.counts()
        self.assertEqual(counts["kernel_dropped"], 0)
        ends = [("up", client, "remote"), ("down", server, "local")]
        for way, sender, end in ends if connections == 1 else ends[1:]:
            for counter, index in (("packets_sent", 0), ("bytes_sent", 1)):
                said = stats.by_server_address(sender, end, counter)
                for host in HOSTS["srv"]:
                    # A host by itself says ICMP to what comes for a program that has left.
                    seen = sum(count[index] for kind, count in counts["sent"][way].get(host, {}).items()
                               if kind != "icmp")
                    # The programs do not count the packets that say goodbye.
                    missing = seen - said[str(Addr(host, PORT))]
                    self.assertIn(missing, range(0, GOODBYE[index] + 1), f"{counter} {way} {host}")
        # Nothing goes where no server is.
        self.assertLessEqual({*counts["sent"]["up"], *counts["sent"]["down"]}, set(HOSTS["srv"]))
        if moves is not None:
            self.assertEqual((client["server_migrations"], server["server_migrations"]), (moves, moves))
        if connections == 1:
            # The last move may be on its way when the client leaves.
            done = min(client["server_migrations"], server["server_migrations"])
            self.check_logs(done, done if answers is None else min(done, answers))
        if failed is not None:
            self.assertEqual(client["path_validations_failed"], failed)

    def used(self, outcome: Outcome) -> set[str]:
        """The addresses from which the client got anything."""
        received = stats.by_server_address(outcome.client, "remote", "packets_received")
        return {address for address, count in received.items() if count}
