#!/usr/bin/env python3
"""Downloads through ngmasque-proxy: forwarded, and while it sends its clients to other addresses.

    tests/e2e/test_ngmasque_proxy_downloads.py --build build [--filter TEXT]
"""

import time

import net
import tap
from operated import TIMEOUT, Operated, get, metrics
from procs import ProgramError
from proxied import Proxied
from proxy_case import MIB, ProxyCase

DIALECTS = "draft-00", "rfc9298"
MOVES = 5


class Behind(Proxied):
    """With that proxy; `proxy` are lines of its configuration."""

    operated: Operated

    def start_proxy(self) -> None:
        self.metrics_addr, = net.free_addrs("127.0.0.1")
        lines = ("allow = '127.0.0.0/8'", f"metrics = '{self.metrics_addr}'",
                 f"access-log = '{self.run / 'operated' / 'access.json'}'", *self._proxy_options)
        self.operated = Operated(self._gtlsserver.parent.parent, self.run / "operated", *lines)
        self.proxy_seen = self.proxy_addr = self.operated.addr
        self.operated.start().__enter__()
        self.proxy = self.operated.program
        self._programs.append(self.proxy)

    def metrics(self) -> dict[str, int]:
        return metrics(get(self.metrics_addr, "/metrics")[1])

    def wait_metric(self, name: str, least: int) -> dict[str, int]:
        deadline = time.monotonic() + TIMEOUT
        while (now := self.metrics())[name] < least:
            if time.monotonic() > deadline:
                raise ProgramError(f"{name} is {now[name]}, and not {least}")
            time.sleep(0.01)
        return now


class Downloads(ProxyCase):
    SIZES = (4 * MIB, 2 * MIB)

    def behind(self, *lines: str, site=None) -> Behind:
        run = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        run.mkdir()
        return Behind(self.build, site or self.site, run, proxy=lines)

    def test_forwarded(self):
        """And the access log agrees with the client."""
        for dialect in DIALECTS:
            with self.subTest(dialect), self.behind() as world:
                outcome = world.start(f"--proxy-dialect={dialect}").finish()
                self.check_forwarded(outcome)
                record, = world.operated.records(1)
                self.assertEqual((record["event"], record["dialect"], record["status"]), ("tunnel", dialect, 200))
                ours = outcome.stats["proxy"]
                for mode in ("tunnelled", "forwarded"):
                    for counter in ("packets", "bytes"):
                        self.assertLessEqual(ours[f"{mode}_rx"][counter], record["to_client"][mode][counter])
                        self.assertGreaterEqual(ours[f"{mode}_tx"][counter], record["to_target"][mode][counter])
                self.assertEqual(world.metrics()["ngmasque_tunnels"], 0)

    def test_moves(self):
        """Again and again, and tunnels with them: nothing is begun anew."""
        alternates = net.free_addrs("127.0.0.1", "127.0.0.4")
        listed = ", ".join(f"'{addr}'" for addr in alternates)
        for dialect in DIALECTS:
            with (self.subTest(dialect),
                  self.behind(f"alternate-addr = [{listed}]", "migrate-every = '20ms'", site=self.endless) as world):
                client = world.start(f"--proxy-dialect={dialect}", "--quiet")
                now = world.wait_metric("ngmasque_moves_total", MOVES)
                size = client.received()
                client.wait_received(size + MIB)
                self.assertEqual((now["ngmasque_handshakes_total"], now["ngmasque_tunnels"]), (1, 1))
                client.kill()

    def test_moves_on_handshake(self):
        """The first packets come to where it listens, and the others to where clients are sent."""
        alternate, = net.free_addrs("127.0.0.4")
        with self.behind(f"alternate-addr = '{alternate}'", "migrate-on-handshake = true", site=self.endless) as world:
            for number in (1, 2):
                client = world.start()
                world.wait_metric("ngmasque_moves_total", number)
                client.wait_received(MIB)
                client.kill()


if __name__ == "__main__":
    tap.main(Downloads)
