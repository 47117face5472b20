#!/usr/bin/env python3
"""Downloads through a proxy in the dialect of RFC 9298 and draft-ietf-masque-quic-proxy.

    tests/e2e/test_proxy_modern.py --build build [--filter TEXT]
"""

import itertools

import tap
from proxied import ALLOW
from proxy_case import MIB, ProxyCase

REVISIONS = ("06", "08", "09")
TRANSFORMS = ("identity", "scramble-dt")


class Modern(ProxyCase):
    DIALECT = "rfc9298"
    SIZES = (64 * MIB, 8 * MIB)

    def download(self, *options: str, mode: str = "forward", proxy_options: tuple = (), expect: str = "rfc9298"):
        with self.proxied(proxy=(*ALLOW, *proxy_options)) as world:
            outcome = world.start(*options, mode=mode).finish()
            proxy, _ = world.stop()
        self.assertEqual(outcome.stats["proxy"]["dialect"], expect)
        return outcome, proxy

    def test_tunnelled(self) -> None:
        outcome, _ = self.download(mode="tunnel")
        self.check_tunnelled(outcome, fallbacks=False)

    def test_transform_that_the_proxy_prefers_not(self) -> None:
        """It takes the client's second choice."""
        outcome, _ = self.download("--proxy-transform=scramble-dt,identity",
                                   proxy_options=("--connect-udp-transforms=identity",))
        self.check_forwarded(outcome)

    def test_no_transform_in_common(self) -> None:
        outcome, _ = self.download("--proxy-transform=scramble-dt", proxy_options=("--connect-udp-transforms=identity",))
        self.check_tunnelled(outcome, fallbacks=True)

    def test_forwarding_off(self) -> None:
        outcome, _ = self.download(proxy_options=("--connect-udp-forwarding=off",))
        self.check_tunnelled(outcome, fallbacks=True)

    def test_without_port_sharing(self) -> None:
        outcome, _ = self.download("--proxy-port-sharing=off")
        self.check_forwarded(outcome)

    def test_auto(self) -> None:
        """What the proxy's SETTINGS allow."""
        outcome, _ = self.download("--proxy-dialect=auto")
        self.check_forwarded(outcome)

    def test_template(self) -> None:
        """One of the proxy's own."""
        path = "/udp{?target_host,target_port}"
        with self.proxied(proxy=(*ALLOW, f"--connect-udp-template={path}",)) as world:
            uri = f"--proxy-template=https://{world.proxy_seen}{path}"
            self.check_forwarded(world.start(uri).finish())

    def test_other_template(self) -> None:
        with self.proxied(proxy=(*ALLOW, "--connect-udp-template=/{target_host}/{target_port}",)) as world:
            self.assertIn("404", world.start().fail())

    def test_auto_falls_back(self) -> None:
        """By the answer: this proxy has another path."""
        outcome, _ = self.download("--proxy-dialect=auto", proxy_options=(
            "--connect-udp-template=/{target_host}/{target_port}",), expect="draft-00")
        self.check_forwarded(outcome)

    def test_both_dialects_on_one_port(self) -> None:
        with self.proxied() as world:
            clients = [world.start(f"--proxy-dialect={dialect}") for dialect in ("rfc9298", "draft-00", "rfc9298")]
            for client in clients:
                self.check_forwarded(client.finish())


def forwarded(revision: str, transform: str):
    def test(self: Modern) -> None:
        outcome, _ = self.download(f"--proxy-revision={revision}", f"--proxy-transform={transform}")
        self.check_forwarded(outcome)

    return test


for revision, transform in itertools.product(REVISIONS, TRANSFORMS):
    setattr(Modern, f"test_forwarded_{revision}_{transform.replace('-', '_')}", forwarded(revision, transform))


if __name__ == "__main__":
    tap.main(Modern)
