#!/usr/bin/env python3
"""ngmasque-proxy and the service manager.

    tests/e2e/test_ngmasque_proxy_service.py --build build [--filter TEXT]
"""

import os
import re
import shutil
import signal
import socket
import time
import unittest
from pathlib import Path

import net
import tap
from operated import TIMEOUT, Operated, bearer, get
from operated_case import ALLOW, OperatedCase
from procs import Program, run, sanitized
from udp_client import UdpClient
from udp_target import Target

SOURCES = Path(__file__).resolve().parent.parent.parent
UNIT = SOURCES / "examples" / "ngmasque-proxy" / "ngmasque-proxy.service"
# In tenths
EXPOSURE = 20


class ServiceTest(OperatedCase):
    def operated(self, *options: str) -> Operated:
        return super().operated(ALLOW, *options)

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

    def allowed(self) -> set[str]:
        """Names of the system calls that the unit's filter lets through."""
        sets: dict[str, set[str]] = {}
        for line in run(["systemd-analyze", "syscall-filter"])[1].decode().splitlines():
            name = line.split("#")[0].strip()
            if line.startswith("@"):
                members = sets.setdefault(name, set())
            elif name and line.startswith(" "):
                members.add(name)

        def expand(name: str) -> set[str]:
            return set().union(*map(expand, sets[name])) if name.startswith("@") else {name}

        # What every process needs is added to a list of what is allowed.
        names = expand("@default")
        lines = [line.split("=", 1)[1] for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter=")]
        self.assertTrue(lines and not lines[0].startswith("~"))
        for line in lines:
            for name in line.removeprefix("~").split():
                names = names - expand(name) if line.startswith("~") else names | expand(name)
        return names

    @unittest.skipUnless(shutil.which("systemd-analyze") and shutil.which("strace"), "systemd or strace is not installed")
    def test_system_calls_are_those_of_the_unit(self):
        """The unit's filter refuses all others, which may go unnoticed: so whatever the proxy does, it does with these."""
        if sanitized(self.build):
            self.skipTest("sanitizers make calls of their own")
        metrics, other = net.free_addrs("127.0.0.1", "127.0.0.1")
        world = self.operated()
        world.write("allow = '127.0.0.0/8'", f"users = '{world.users}'", f"access-log = '{world.access_log}'",
                    f"metrics = '{metrics}'", f"qlog-dir = '{world.directory}'", f"key-log = '{world.directory}/keys'",
                    f"secret-file = '{world.directory}/secret'", f"alternate-addr = '{other}'", "migrate-every = '100ms'")
        secret = world.add_user("alice")
        calls = world.directory / "calls"
        # Beside it, and not as its parent
        world.program = Program(["strace", "-D", "-f", "-o", calls, *world.argv()], world.directory / "proxy.log")
        with world, Target() as target, UdpClient(world.addr) as client:
            tunnel = self.open(client, target, bearer(secret))
            self.check_tunnel(tunnel, target)
            self.assertEqual(client.connect("localhost", target.addr.port, [bearer(secret)]).status(), 200)
            self.assertIn(client.connect("no-such-host.invalid", 443, [bearer(secret)]).status(), (502, 504))
            self.assertEqual(get(metrics, "/metrics")[0], 200)
            world.program.send_signal(signal.SIGHUP)
            world.program.wait_output("info: reloaded")
            self.check_tunnel(tunnel, target)
            world.program.send_signal(signal.SIGTERM)
            world.program.wait_output("tunnels may go on")
            world.program.send_signal(signal.SIGTERM)
            self.assertEqual(world.program.wait(TIMEOUT), 0)
        deadline = time.monotonic() + TIMEOUT
        while "+++ exited" not in calls.read_text():
            self.assertLess(time.monotonic(), deadline, "strace goes on")
        # After the process, whole calls and beginnings of those that others have interrupted
        made = set(re.findall(r"^\d+ +(\w+)\(", calls.read_text(), re.MULTILINE))
        self.assertTrue({"execve", "recvmmsg", "unlink", "sendmsg"} <= made, made)
        self.assertEqual(made - self.allowed(), set())
        # The filter is one.
        self.assertFalse({"mount", "ptrace", "setuid", "setpriority"} & self.allowed())


if __name__ == "__main__":
    tap.main(ServiceTest)
