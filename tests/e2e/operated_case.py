"""Tests of ngmasque-proxy with a client that speaks for itself, and UDP sockets as targets."""

import unittest
from pathlib import Path

import tap
from operated import Operated
from udp_case import UdpCase

ALLOW = "allow = '127.0.0.0/8'"


class OperatedCase(UdpCase, unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)

    def operated(self, *options: str, **how) -> Operated:
        """With these lines in its configuration; not started."""
        return Operated(self.build, self.work / self._testMethodName, *options, **how)
