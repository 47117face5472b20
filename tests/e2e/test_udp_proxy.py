#!/usr/bin/env python3
"""The rules of udp_rules.py, and the proxy of udp_proxy.py.

    tests/e2e/test_udp_proxy.py --build DIR [--filter TEXT]
"""

import os
import sys
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certs
import net
import tap
from procs import Program
from udp_rules import UdpRules

TIMEOUT = 60


class PythonTest(UdpRules, unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.certificate = certs.make(cls.work)

    @contextmanager
    def started(self, *options: str) -> Iterator[net.Addr]:
        addr, = net.free_addrs("127.0.0.1")
        key, cert = self.certificate
        with Program([sys.executable, Path(__file__).with_name("udp_proxy.py"), "--listen", addr.host, str(addr.port),
                      "--key", key, "--cert", cert, "--stats", os.devnull, *options],
                     self.work / f"{self._testMethodName}.log", "udp_proxy") as program:
            program.wait_bound([addr])
            yield addr
            self.assertEqual(program.stop(TIMEOUT), 0, program.log.read_text())


if __name__ == "__main__":
    tap.main(PythonTest)
