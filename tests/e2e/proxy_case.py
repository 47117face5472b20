"""What the tests of downloads through a proxy share."""

import copy
import os
import time
import unittest
from pathlib import Path

import stats
import tap
from procs import sanitized
from proxied import ALLOW, Client, Outcome, Proxied
from proxy_client import ProxyClient
from transfer import Site
from udp_target import LONG, Target, packet

MIB = 1 << 20
# The relays' decisions; another one is to be tried by hand.
SEED = os.environ.get("NGMASQUE_SEED", "1")
# Of the short headers of each direction, when the way is free
FORWARDED = 0.95


class ProxyCase(unittest.TestCase):
    build: Path
    # What clients speak, unless an option says otherwise
    DIALECT = "draft-00"
    # Sizes of the files, for programs as they are and with sanitizers
    # A client acknowledges what has come together: of so much in some ninety packets, of which three or
    # four may go before the proxy has answered.
    SIZES = (8 * MIB, 8 * MIB)

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.site = Site(cls.work / "site", cls.SIZES[sanitized(cls.build)])
        # Takes no space, and far too long to download
        cls.endless = copy.copy(cls.site)
        cls.endless.file = cls.site.htdocs / "endless"
        cls.endless.size = 1 << 40
        with cls.endless.file.open("wb") as file:
            file.truncate(cls.endless.size)

    def proxied(self, **how) -> Proxied:
        """For a with statement."""
        run = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        run.mkdir()
        return Proxied(self.build, how.pop("site", self.site), run, seed=SEED, dialect=how.pop("dialect", self.DIALECT), **how)

    # What must hold of a client that has all; `outcome.stats` are its own

    def check(self, outcome: Outcome) -> None:
        self.assertTrue(outcome.sha256_ok, f"the content differs, {outcome.bytes:,} bytes")
        proxy = outcome.stats["proxy"]
        for kind in ("forwarded_tx", "forwarded_rx"):
            self.assertEqual(proxy[kind]["long_headers"], 0, f"long headers were forwarded: {proxy}")
        # A handshake cannot do without them.
        for kind in ("tunnelled_tx", "tunnelled_rx"):
            self.assertGreater(proxy[kind]["long_headers"], 0, f"no long headers were tunnelled: {proxy}")

    def check_tunnelled(self, outcome: Outcome, fallbacks: bool) -> None:
        """Nothing was forwarded; `fallbacks`: because the proxy did not want to."""
        self.check(outcome)
        proxy = outcome.stats["proxy"]
        for kind in ("forwarded_tx", "forwarded_rx"):
            self.assertEqual(proxy[kind]["packets"], 0, proxy)
        self.assertEqual(sum(proxy["fallbacks"].values()) > 0, fallbacks, proxy["fallbacks"])

    def check_forwarded(self, outcome: Outcome, least: float = FORWARDED) -> None:
        self.check(outcome)
        self.assertEqual(outcome.stats["proxy"]["mode"], "forward")
        for way in ("tx", "rx"):
            self.assertGreaterEqual(stats.forwarded_share(outcome.stats, way), least,
                                    f"{way}: {outcome.stats['proxy']}")

    def check_mode(self, mode: str, outcome: Outcome, least: float = FORWARDED) -> None:
        """Everything was tunnelled as wanted, or at least that much was forwarded."""
        if mode == "tunnel":
            self.check_tunnelled(outcome, fallbacks=False)
        else:
            self.check_forwarded(outcome, least)

    # What must hold of a proxy

    def check_proxy(self, proxy: stats.Stats, *clients: Outcome) -> None:
        """The proxy's counters agree with those of its clients, which all have ended
        well, where no relay loses or doubles packets."""
        for ours, theirs in (("tx", "rx"), ("rx", "tx")):
            for how in ("tunnelled", "forwarded"):
                at_proxy = proxy["proxy"][f"{how}_{ours}"]
                for counter in ("packets", "bytes", "long_headers"):
                    at_clients = sum(c.stats["proxy"][f"{how}_{theirs}"][counter] for c in clients)
                    if ours == "rx":  # from clients: nothing that they have not sent
                        self.assertLessEqual(at_proxy[counter], at_clients, f"{how}_{ours} {counter}")
                    else:
                        self.assertGreaterEqual(at_proxy[counter], at_clients, f"{how}_{ours} {counter}")
        for kind in ("forwarded_tx", "forwarded_rx"):
            self.assertEqual(proxy["proxy"][kind]["long_headers"], 0, proxy["proxy"])

    def refused(self, proxy: stats.Stats, status: int) -> int:
        return proxy["proxy"]["refused"].get(str(status), 0)

    def all_hold(self, clients: list[Client]) -> list[Outcome]:
        """Waits until all clients have all, and lets them go only then."""
        for client in clients:
            client.wait_all()
        return [client.leave() for client in clients]


class PacketCase(ProxyCase):
    """Tests with the client of proxy_client.py, and with UDP sockets as targets."""

    def proxy(self, *options: str, **how) -> Proxied:
        return self.proxied(proxy=(*ALLOW, *options), target_runs=False, **how)

    def check_flow(self, client: ProxyClient, target: Target, flow: int, cid: bytes) -> None:
        """The flow works, both ways; tunnelled, since both packets have long headers."""
        text = f"{flow} {time.monotonic_ns()}".encode()
        client.send(flow, packet(LONG, b"server-id", text))
        self.assertEqual(target.receive(client), packet(LONG, b"server-id", text))
        client.tunnelled.clear()
        target.send(packet(LONG, cid, text))
        client.wait(lambda: client.tunnelled, "no answer by the tunnel")
        self.assertEqual(client.tunnelled.pop(), (flow, packet(LONG, cid, text)))
        self.assertEqual(client.forwarded, [])

    def stop(self, world: Proxied) -> dict:
        """The proxy ends in order; its object "proxy"."""
        return world.stop()[0]["proxy"]
