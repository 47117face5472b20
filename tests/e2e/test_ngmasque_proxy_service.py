#!/usr/bin/env python3
"""ngmasque-proxy and the service manager.

    tests/e2e/test_ngmasque_proxy_service.py --build build [--filter TEXT]
"""

import os
import shutil
import signal
import socket
import unittest
from pathlib import Path

import tap
from operated import TIMEOUT, Operated
from procs import Program, run
from udp_case import UdpCase
from udp_client import UdpClient
from udp_target import Target

SOURCES = Path(__file__).resolve().parent.parent.parent
UNIT = SOURCES / "examples" / "ngmasque-proxy" / "ngmasque-proxy.service"
# In tenths
EXPOSURE = 20


class ServiceTest(UdpCase, unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)

    def operated(self, *options: str) -> Operated:
        return Operated(self.build, self.work / self._testMethodName, "allow = '127.0.0.0/8'", *options)

    def test_tells_how_it_is(self):
        world = self.operated()
        path = self.work / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path))
            manager.settimeout(TIMEOUT)
            os.environ["NOTIFY_SOCKET"] = str(path)
            self.addCleanup(os.environ.pop, "NOTIFY_SOCKET")

            def told(*words: str) -> None:
                """It comes in this order, with other things in between."""
                for word in words:
                    while word not in manager.recv(4096).decode().splitlines():
                        pass

            with world:
                told("READY=1")
                world.program.send_signal(signal.SIGHUP)
                told("RELOADING=1", "READY=1")
                world.write("wrong = 1")
                world.program.send_signal(signal.SIGHUP)
                told("RELOADING=1", "READY=1")
                world.program.send_signal(signal.SIGTERM)
                told("STOPPING=1")
                self.assertEqual(world.program.wait(TIMEOUT), 0)

    def test_priorities_for_the_journal(self):
        """And none if stderr is not its."""
        world = self.operated()
        log = world.directory / "journal"
        log.touch()
        info = log.stat()
        self.addCleanup(os.environ.pop, "JOURNAL_STREAM")
        os.environ["JOURNAL_STREAM"] = f"{info.st_dev}:{info.st_ino}"
        with Program(world.argv(), log) as program:
            program.wait_output("<6>listening on")
        os.environ["JOURNAL_STREAM"] = f"{info.st_dev}:{info.st_ino}0"
        with world:
            self.assertNotIn("<6>", world.log())

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "systemd is not installed")
    def test_socket_activation(self):
        """The port is the manager's; the first packet of the first client starts the proxy, and is not lost."""
        world = self.operated()
        world.file.write_text(world.file.read_text().split("\n", 1)[1])  # without `listen`
        with Program(["systemd-socket-activate", "--datagram", f"--listen={world.addr}", *world.argv()],
                     world.directory / "activated.log") as program:
            program.wait_bound([world.addr])
            with Target() as target, UdpClient(world.addr) as client:
                self.check_tunnel(self.open(client, target), target)
            program.wait_output("listening on", str(world.addr))
            self.assertEqual(program.stop(TIMEOUT), 0)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
    def test_unit_is_hardened(self):
        status, out, err = run(["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", UNIT])
        self.assertEqual(status, 0, (out + err).decode())


if __name__ == "__main__":
    tap.main(ServiceTest)
