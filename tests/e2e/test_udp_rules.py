#!/usr/bin/env python3
"""The rules of udp_rules.py, and our proxy.

    tests/e2e/test_udp_rules.py --build DIR [--filter TEXT]
"""

from collections.abc import Iterator
from contextlib import contextmanager

import net
import tap
from proxy_case import PacketCase
from udp_rules import UdpRules


class RulesTest(UdpRules, PacketCase):
    @contextmanager
    def started(self, *_: str) -> Iterator[net.Addr]:
        with self.proxy() as world:
            yield world.proxy_addr
            self.stop(world)


if __name__ == "__main__":
    tap.main(RulesTest)
