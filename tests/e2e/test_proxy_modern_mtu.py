#!/usr/bin/env python3
"""test_proxy_mtu in the dialect of RFC 9298.

    tests/e2e/test_proxy_modern_mtu.py --build DIR [--filter TEXT]
"""

import tap
import test_proxy_mtu


class ModernMtuTest(test_proxy_mtu.MtuTest):
    DIALECT = "rfc9298"


if __name__ == "__main__":
    tap.main(ModernMtuTest)
