#!/usr/bin/env python3
"""Downloads through a proxy on whose way UDP payloads of less than 1350 bytes get
through: to it, from it, or both.

    tests/e2e/test_proxy_mtu.py --build DIR [--filter TEXT]
"""

import stats
import tap
from proxied import ALLOW, Client
from proxy_case import MIB, ProxyCase
from relay import Impairment

MODES = ("tunnel", "forward")
LEAST, ALL = 1200, 65535
# The first ones take tunnelled packets of 1200 bytes, in datagrams; the last ones do not.
WIDE, NARROW = (1349, 1300, 1250), (1240, LEAST)
# A third of it is for the attempt with large packets.
TIMEOUT = "--handshake-timeout=9s"


class MtuTest(ProxyCase):
    SIZES = (2 * MIB, MIB)

    def on_stream(self, got: stats.Stats, way: str) -> int:
        return got["proxy"][f"on_stream_{way}"]

    def check_path(self, up: int, down: int) -> None:
        """Everything arrives in both modes; what fits no datagram goes on the stream, and only that."""
        for mode in MODES:
            with self.proxied(front=(Impairment(mtu=up), Impairment(mtu=down))) as world:
                outcome = world.start(TIMEOUT, mode=mode).finish()
                counts = world.front.counts()
                proxy, _ = world.stop()
                self.check_mode(mode, outcome, 0.5)
                self.assertEqual(proxy["proxy"]["refused"], {})
                # It was as narrow as it should be.
                for way, size in (("up", up), ("down", down)):
                    self.assertEqual(counts[way]["too_large"] > 0, size != ALL, counts)
                self.assertEqual(self.on_stream(proxy, "tx"), self.on_stream(outcome.stats, "rx"))
                # The first one, before the path has been probed; who waits for SETTINGS may have done that.
                if self.DIALECT == "draft-00" or up in NARROW:
                    self.assertGreater(self.on_stream(outcome.stats, "tx"), 0)
                tunnelled = outcome.stats["proxy"]["tunnelled_rx"]["packets"]
                if mode == "tunnel" and down in NARROW:
                    self.assertGreater(self.on_stream(outcome.stats, "rx"), tunnelled // 2)
                elif mode == "tunnel":
                    self.assertLess(self.on_stream(outcome.stats, "rx"), tunnelled // 2)

    def test_wide(self):
        for size in WIDE:
            self.check_path(size, size)

    def test_narrow(self):
        for size in NARROW:
            self.check_path(size, size)

    def test_to_proxy(self):
        for size in (WIDE[-1], LEAST):
            self.check_path(size, ALL)

    def test_from_proxy(self):
        for size in (WIDE[-1], LEAST):
            self.check_path(ALL, size)

    def test_large_enough(self):
        """With 1350 bytes there is one attempt, and nothing goes on the stream."""
        path = Impairment(mtu=1350), Impairment(mtu=1350)
        with self.proxied(front=path) as world:
            outcome = world.start(mode="tunnel").finish()
            self.assertEqual(world.front.counts()["clients"], 1)
            proxy, _ = world.stop()
        self.check_tunnelled(outcome, fallbacks=False)
        self.assertEqual([self.on_stream(outcome.stats, way) for way in ("tx", "rx")], [0, 0])
        self.assertEqual(proxy["proxy"]["connections"], 1)

    def test_proxy_option(self):
        """The proxy's packets are small because it was told so."""
        for size in (1250, LEAST):
            for options in (("--no-pmtud",), ()):
                for mode in MODES:
                    with self.proxied(proxy=(*ALLOW, f"--max-udp-payload-size={size}", *options)) as world:
                        outcome = world.start(mode=mode).finish()
                        world.stop()
                        self.check_mode(mode, outcome, 0.5)
                        self.assertEqual(self.on_stream(outcome.stats, "rx") > 0, size == LEAST)

    # Where it cannot work

    def failure(self, client: Client) -> str:
        """The one line that the client says of the proxy."""
        lines = [line for line in client.fail().splitlines() if line.startswith("proxy: ")]
        self.assertEqual(len(lines), 1, client.program.log.read_text())
        return lines[0]

    def test_less_than_quic_needs(self):
        for up, down in ((LEAST - 1, ALL), (ALL, LEAST - 1)):
            with self.proxied(front=(Impairment(mtu=up), Impairment(mtu=down))) as world:
                text = self.failure(world.start("--handshake-timeout=3s"))
                self.assertIn("QUIC needs a path for 1200 bytes", text)
                world.stop()

    def test_less_behind(self):
        """The target's handshake does not get through to the proxy, and the client says how far it came."""
        narrow = Impairment(mtu=LEAST - 1)
        for mode in MODES:
            with self.proxied(back=(narrow, narrow)) as world:
                text = self.failure(world.start("--handshake-timeout=3s", mode=mode))
                self.assertIn(f"{world.target_seen}: handshake through the tunnel", text)
                self.assertIn("0 received", text)
                world.stop()

    def test_target_closed(self):
        """What the proxy says of the target gets through."""
        narrow = Impairment(mtu=LEAST)
        with self.proxied(target_runs=False, front=(narrow, narrow)) as world:
            self.assertIn("the target refuses packets", self.failure(world.start(TIMEOUT)))
            world.stop()


if __name__ == "__main__":
    tap.main(MtuTest)
