"""Starts and stops the programs under test.

A Program is a context manager: leaving the block ends the process, whatever
the reason.  Should this process itself be killed, the kernel ends its children.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from net import Addr

# A sanitizer that finds something ends the program with this status, which no
# program uses by itself.
SANITIZER_STATUS = 99

# What a program prints when it dies of a bug.
_CRASH = re.compile(
    rb"AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|runtime error:|"
    rb"terminate called|libc\+\+abi: terminating|Assertion .* failed")

_POLL_SECONDS = 0.01
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """For a child before it executes: the kernel ends it with this process."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ProgramError(Exception):
    """A program did not do what it had to; the text is for the user."""


def environment() -> dict[str, str]:
    env = dict(os.environ)
    for name, more in (("ASAN_OPTIONS", ""), ("LSAN_OPTIONS", ""),
                       ("UBSAN_OPTIONS", ":halt_on_error=1:print_stacktrace=1")):
        env[name] = ":".join(filter(None, [env.get(name), f"exitcode={SANITIZER_STATUS}{more}"]))
    # The tests decide where logs go.
    for name in ("QLOGDIR", "SSLKEYLOGFILE"):
        env.pop(name, None)
    return env


def sanitized(build: Path) -> bool:
    """Whether the programs have AddressSanitizer in them, which makes them slower by
    a factor of about ten."""
    return b"__asan_init" in (build / "examples" / "gtlsserver").read_bytes()


def crash_report(output: bytes) -> str | None:
    """The line of `output` that shows a bug, if there is one."""
    found = _CRASH.search(output)
    if not found:
        return None
    start = output.rfind(b"\n", 0, found.start()) + 1
    return output[start:].split(b"\n", 1)[0].decode(errors="replace")


class Program:
    """A running program whose output goes to the file `log`."""

    def __init__(self, argv: list[str | Path], log: Path, name: str = ""):
        self.name = name or Path(argv[0]).name
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [str(arg) for arg in argv], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env=environment(), preexec_fn=die_with_parent)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal, None while the program runs."""
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Waits for the end of the program and returns its exit status."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"{self.name} still runs after {timeout:.0f} s") from None
        if crash := crash_report(self.log.read_bytes()):
            raise ProgramError(f"{self.name}: {crash}")
        return status

    def stop(self, timeout: float = 30) -> int:
        """Asks the program to end as ctrl-C does, and waits for it."""
        self.send_signal(signal.SIGINT)
        return self.wait(timeout)

    def epitaph(self) -> str:
        """How a program that has ended did so, for an error message."""
        if self.status < 0:
            return f"{self.name} was killed by {signal.Signals(-self.status).name}"
        lines = self.log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "(no output)")
        return f"{self.name} ended with status {self.status}: {last}"

    def wait_output(self, *words: str, timeout: float = 120) -> None:
        """Waits until the program has written a line with all `words` in it."""
        deadline = time.monotonic() + timeout
        with self.log.open(errors="replace") as lines:
            line = ""
            while True:
                ended = self.status is not None  # before reading: its last words count
                while text := lines.readline():
                    line += text
                    if line.endswith("\n"):
                        if all(word in line for word in words):
                            return
                        line = ""
                if ended or time.monotonic() > deadline:
                    raise ProgramError(f"{self.name} did not write a line with {' and '.join(words)}")
                time.sleep(_POLL_SECONDS)

    def wait_bound(self, addrs: list[Addr], timeout: float = 30) -> None:
        """Waits until the program has a UDP socket on every one of `addrs`."""
        deadline = time.monotonic() + timeout
        while missing := set(addrs) - self.udp_addrs():
            if self.status is not None:
                raise ProgramError(self.epitaph())
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.name} does not listen on "
                                   f"{', '.join(map(str, missing))}")
            time.sleep(_POLL_SECONDS)

    def udp_addrs(self, remote: bool = False) -> set[Addr]:
        """The addresses that the program's UDP sockets are bound to, or connected to."""
        inodes = set()
        try:
            for entry in os.scandir(f"/proc/{self.pid}/fd"):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        except OSError:
            return set()  # the program ended, or closed the descriptor
        return {addr for addr, inode in udp_sockets(self.pid, remote) if inode in inodes}


def udp_sockets(pid: int, remote: bool = False) -> list[tuple[Addr, str]]:
    """All UDP sockets of the network namespace that the process is in: local address, or that of the
    peer, and inode."""
    found = []
    for table in (f"/proc/{pid}/net/udp", f"/proc/{pid}/net/udp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6
        for line in lines:
            fields = line.split()
            host, port = fields[1 + remote].split(":")
            # 32-bit words in the byte order of the machine
            raw = b"".join(int(host[i:i + 8], 16).to_bytes(4, sys.byteorder)
                           for i in range(0, len(host), 8))
            family = socket.AF_INET6 if len(raw) == 16 else socket.AF_INET
            found.append((Addr(socket.inet_ntop(family, raw), int(port, 16)), fields[9]))
    return found


def run(argv: list[str | Path], timeout: float = 60) -> tuple[int, bytes, bytes]:
    """Runs a program that is expected to end by itself: status, stdout, stderr."""
    try:
        done = subprocess.run([str(arg) for arg in argv], stdin=subprocess.DEVNULL,
                              capture_output=True, env=environment(), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{Path(argv[0]).name} still runs after {timeout:.0f} s") from None
    return done.returncode, done.stdout, done.stderr
