#!/usr/bin/env python3
"""Downloads through two proxies, one behind the other: what the second one forwards, the first one
forwards as well.

    tests/e2e/test_two_hops.py --build DIR [--filter TEXT]
"""

import stats
import tap
from proxied import Outcome
from proxy_case import MIB, SEED, ProxyCase
from relay import Impairment
from two_hops import TwoHops

# Of the first proxy and of the second one
DIALECTS = {"draft_00": ("draft-00", "draft-00"), "rfc9298": ("rfc9298", "rfc9298"),
            "rfc9298_first": ("rfc9298", "draft-00"), "draft_00_first": ("draft-00", "rfc9298")}
# Of the short headers of each direction, and at the first proxy of all of its packets
FORWARDED = 0.9
# So slow that the first proxy knows all connection IDs long before the end
WAY = (Impairment(), Impairment(rate=10_000_000, queue=1 << 20))


class TwoHopsCase(ProxyCase):
    SIZES = (6 * MIB, 3 * MIB)

    def hops(self, **how) -> TwoHops:
        run = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        run.mkdir()
        return TwoHops(self.build, how.pop("site", self.site), run, seed=SEED, **how)

    def check_forwarded_twice(self, outcome: Outcome, first: stats.Stats, least: float = FORWARDED) -> None:
        self.check_forwarded(outcome, least)
        for way, back in (("tx", "rx"), ("rx", "tx")):
            inner = outcome.stats["proxy"][f"forwarded_{way}"]["packets"]
            via = outcome.stats["via"][f"forwarded_{way}"]["packets"]
            self.assertGreater(via, least * inner, f"{way}: {outcome.stats}")
            # ... and the first proxy says so, too; what it has sent may have been lost.
            self.assertGreater(first["proxy"][f"forwarded_{back}"]["packets"], least * inner, first["proxy"])

    def check_through(self, name: str, mode: str) -> None:
        with self.hops(way=WAY if mode == "forward" else None) as world:
            outcome = world.start_through(DIALECTS[name], mode=mode).finish()
            first, second, target = world.stop_all()
        via, proxy = outcome.stats["via"], outcome.stats["proxy"]
        self.assertEqual((via["dialect"], proxy["dialect"]), DIALECTS[name])
        self.check_mode(mode, outcome, FORWARDED)
        self.assertEqual((via["fallbacks"], proxy["fallbacks"]), ({}, {}))
        if mode == "forward":
            self.check_forwarded_twice(outcome, first)
        else:
            self.assertEqual((via["forwarded_tx"]["packets"], via["forwarded_rx"]["packets"]), (0, 0))
        # One connection each, from the client to the first one, and to whom it has that through.
        self.assertEqual([s["proxy"]["connections"] for s in (first, second)], [1, 1])
        self.assertEqual([s["proxy"]["refused"] for s in (first, second)], [{}, {}])
        self.assertEqual(target["connections"], 1)
        clients, seen_by_second, seen_by_target = (
            set(stats.by_server_address(s, "remote", "packets_received")) for s in (first, second, target))
        self.assertEqual([len(s) for s in (clients, seen_by_second, seen_by_target)], [1, 1, 1])
        self.assertFalse(clients & seen_by_second | clients & seen_by_target | seen_by_second & seen_by_target)


def _add(name: str, mode: str) -> None:
    setattr(TwoHopsCase, f"test_{name}_{mode}", lambda self: self.check_through(name, mode))


for _name in DIALECTS:
    for _mode in ("forward", "tunnel"):
        _add(_name, _mode)

if __name__ == "__main__":
    tap.main(TwoHopsCase)
