"""The entry point for interoperability runners (tests/interop/runner), both ends of a test case, with folders and
ports of the test's instead of the container's."""

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import files
import net
import qlog
import stats
from procs import Program, ProgramError, environment, udp_sockets
from relay import Impairment, Relay

SCRIPT = Path(__file__).parents[1] / "interop" / "runner" / "run_endpoint.sh"
TIMEOUT = 120


class Endpoint(Program):
    """run_endpoint.sh, and what it starts: all of it ends with the with block."""

    def __init__(self, role: str, case: str, log: Path, **variables: str | Path):
        self.name, self.log = f"{role} of {case}", log
        env = {**environment(), "ROLE": role, "TESTCASE": case,
               **{name: str(value) for name, value in variables.items()}}
        with log.open("wb") as out:
            self._process = subprocess.Popen([SCRIPT], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                             env=env, start_new_session=True)

    def __exit__(self, *_) -> None:
        # The group has the number of its first process as long as one of it is there.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


class Case:
    """A test case from the start of its server to its end in order, when the with block ends.  `up` and `down` are
    what happens to packets on the way, `variables` further ones for both ends."""

    def __init__(self, programs: Path, run: Path, site: "RunnerSite", name: str, up: Impairment = Impairment(),
                 down: Impairment = Impairment(), seed: str = "1", **variables: str):
        self.run, self.site, self.name = run, site, name
        self.server_addr, front, target, self.other = net.free_addrs(*["127.0.0.1"] * 4)
        self.relay = Relay(front, self.server_addr, up, down, seed=seed)
        self.proxied = name in ("connectudp", "forwarded", "both")
        self._bound = [self.server_addr, *([target] if self.proxied else [])]
        self._variables = {
            "CERTS": site.certs, "WWW": site.www, "PROGRAMS": programs, "LISTEN": self.server_addr.host,
            "PORT": self.server_addr.port, "TARGET_PORT": target.port, "OTHER_PORT": self.other.port, **variables}

    def __enter__(self) -> "Case":
        with ExitStack() as stack:
            self.server = stack.enter_context(self._endpoint("server"))
            deadline = time.monotonic() + TIMEOUT
            while not set(self._bound) <= {addr for addr, _ in udp_sockets(os.getpid())}:
                if self.server.status is not None or time.monotonic() > deadline:
                    raise ProgramError(f"the server of {self.name} does not listen: {self.server.log.read_text()}")
                time.sleep(0.01)
            stack.enter_context(self.relay)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        with self._stack:
            if not error[0]:
                self.server.send_signal(signal.SIGTERM)
                if self.server.wait(TIMEOUT) != 0:
                    raise ProgramError(self.server.epitaph())

    def _endpoint(self, role: str, **more: str | Path) -> Endpoint:
        logs = self.run / role
        logs.mkdir(parents=True)
        return Endpoint(role, self.name, self.run / f"{role}.txt", LOGS=logs, **self._variables, **more)

    def start(self, *names: str) -> Endpoint:
        """The client, for these files; all of them without any."""
        self.downloads, self._wanted = self.run / "downloads", names or tuple(self.site.sha256)
        self.downloads.mkdir()
        requests = " ".join(f"https://{self.relay.addr}/{name}" for name in self._wanted)
        self.client = self._stack.enter_context(self._endpoint("client", DOWNLOADS=self.downloads, REQUESTS=requests))
        return self.client

    def received(self) -> int:
        return sum(path.stat().st_size for path in self.downloads.iterdir())

    def wait_received(self, size: int) -> None:
        while self.received() < size:
            if self.client.status is not None:
                raise ProgramError(f"after {self.received()} bytes: {self.client.epitaph()}")
            time.sleep(0.002)

    def finish(self) -> None:
        """The client has ended well, with all files as they are."""
        if self.client.wait(TIMEOUT) != 0:
            raise ProgramError(f"{self.name}: {self.client.log.read_text()} {self.log('client')[-300:]}")
        for name in self._wanted:
            if files.sha256(self.downloads / name) != self.site.sha256[name]:
                raise ProgramError(f"{self.name}: {name} is not what was served")

    # What there is to look at

    def log(self, role: str, name: str = "") -> str:
        return (self.run / role / f"{name or role}.log").read_text(errors="replace")

    def stats(self, role: str, name: str = "", number: str = "") -> stats.Stats:
        return stats.load_json(self.run / role / f"{name or role}-stats{number}.json")

    def events(self, role: str) -> list[list[dict]]:
        """Those of each connection, in the order in which they ended."""
        paths = sorted((self.run / role / "qlog").glob("*.sqlog"), key=lambda path: path.stat().st_mtime_ns)
        return [qlog.read_file(path) for path in paths]


class RunnerSite:
    """What the runner puts into the server's container."""

    def __init__(self, directory: Path, certs: Path, sizes: dict[str, int]):
        self.www, self.certs = directory / "www", certs
        self.www.mkdir(parents=True)
        self.sha256 = {name: files.make(self.www / name, size, name) for name, size in sizes.items()}
