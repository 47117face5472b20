"""Downloads through a proxy: clients, a proxy, a target, and relays in between."""

import itertools
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import files
import net
import stats
from net import Addr
from procs import Program, ProgramError
from relay import Impairment, Relay
from transfer import TIMEOUT, Site, received, wait_received
from wire import Wire

# For loopback, which a proxy does not go to by itself
ALLOW = ("--connect-udp-allow=127.0.0.0/8", "--connect-udp-allow=::1/128")
EXIT = "--exit-on-all-streams-close"
# Lines
LAST_WORDS = 5


@dataclass
class Outcome:
    """What is left of a client that has ended well, apart from the content."""

    seconds: float
    bytes: int
    sha256_ok: bool
    stats: stats.Stats


def _fresh(directory: Path, name: str, suffix: str = "") -> Path:
    """A path that is not there yet: name, name-2, name-3, ..."""
    for number in itertools.count(1):
        path = directory / f"{name}{f'-{number}' if number > 1 else ''}{suffix}"
        if not path.exists():
            return path


class Client:
    """A client from its start to the end of the with block that the Proxied is."""

    def __init__(self, argv: list[str | Path], run: Path, site: Site, inside: list[str]):
        self.run = run
        self._site = site
        self.downloaded = run / "download" / site.file.name
        self.downloaded.parent.mkdir(parents=True)
        self.stats_file = run / "client-stats.json"
        self._began = time.monotonic()
        self.program = Program(
            [*inside, argv[0], "--quiet", "--no-quic-dump", "--no-http-dump", f"--stats={self.stats_file}",
             f"--download={self.downloaded.parent}", *argv[1:]],
            run / "client.log", Path(argv[0]).name)

    def received(self) -> int:
        """Bytes that the client has written so far."""
        return received(self.downloaded)

    def wait_received(self, size: int) -> None:
        wait_received(self.program, self.downloaded, size)

    def wait_all(self) -> None:
        """Waits for the whole file; the client may go on to live."""
        self.wait_received(self._site.size)

    def finish(self, proxied: bool = True) -> Outcome:
        """Waits for the end of the client, and reads what it leaves.  What has arrived is kept
        only if it is not what was served."""
        status = self.program.wait(TIMEOUT)
        seconds = time.monotonic() - self._began
        size = received(self.downloaded)
        if status != 0:
            raise ProgramError(f"after {size:,} bytes {self.program.epitaph()}")
        ok = size == self._site.size and files.sha256(self.downloaded) == self._site.sha256
        if ok:
            shutil.rmtree(self.downloaded.parent)
        return Outcome(seconds, size, ok, stats.load_proxy(self.stats_file, "client") if proxied
                       else stats.load(self.stats_file))

    def leave(self) -> Outcome:
        """Asks a client to end that has all and would stay."""
        self.program.send_signal(signal.SIGINT)
        return self.finish()

    def kill(self) -> None:
        """Ends the client without a word to anybody."""
        self.program.send_signal(signal.SIGKILL)
        self.program.wait(TIMEOUT)

    def fail(self) -> str:
        """Waits for the end of a client that cannot succeed, and returns what it printed."""
        if (status := self.program.wait(TIMEOUT)) <= 0:
            raise ProgramError(f"{self.program.name} ended with status {status}, and should have failed")
        return self.program.log.read_text(errors="replace")


class Proxied:
    """A target and a proxy from the beginning of a with block to its end, and clients
    that start() starts.  `front` and `back` are what a relay does to packets, up and
    down, before the proxy and behind it; `pcap` is a capture of what comes through the first one.  `ring` are further addresses of the proxy.  On a `wire`
    clients run on its host "cli", the proxy on "srv" with the addresses of `ring` alone, and the target
    on "tgt" with `target_addr`.

    The empty directory `run` gets logs and statistics, and with `qlog` the qlogs of the
    inner connection in client/qlog and target-qlog, of the outer one in client/proxy-qlog
    and proxy-qlog."""

    def __init__(self, build: Path, site: Site, run: Path, *, proxy: tuple[str, ...] = ALLOW,
                 proxy_by: tuple[str, ...] = (), target: tuple[str, ...] = (), python_target: bool = False, target_runs: bool = True,
                 hosts: tuple[str, str] = ("127.0.0.1", "127.0.0.2"),
                 front: tuple[Impairment, Impairment] | None = None,
                 back: tuple[Impairment, Impairment] | None = None, seed: str = "1", qlog: bool = False,
                 dialect: str = "draft-00", ring: tuple[Addr, ...] = (), wire: Wire | None = None,
                 target_addr: Addr | None = None, pcap: Path | None = None):
        self.site, self.run, self._qlog, self._dialect = site, run, qlog, dialect
        if wire:
            (self.proxy_addr, *ring), self.target_addr = ring, target_addr
        else:
            self.proxy_addr, self.target_addr, front_addr, back_addr = net.free_addrs(*hosts, *hosts)
        self._ring = ring
        self._inside = {host: wire.inside(host) if wire else [] for host in ("cli", "srv", "tgt")}
        # Where clients find the proxy, and the target by its way
        self.proxy_seen, self.target_seen = self.proxy_addr, self.target_addr
        self.front = self.back = None
        if front:
            self.proxy_seen = front_addr
            self.front = Relay(front_addr, self.proxy_addr, *front, seed=f"{seed}/front", pcap=pcap)
        if back:
            self.target_seen = back_addr
            self.back = Relay(back_addr, self.target_addr, *back, seed=f"{seed}/back")
        self._gtlsserver, self._gtlsclient = build / "examples" / "gtlsserver", build / "examples" / "gtlsclient"
        self._proxy_options, self._target_options, self._proxy_by = proxy, target, proxy_by
        self._python_target, self._target_runs = python_target, target_runs
        self.proxy: Program
        self.target: Program | None = None
        self._programs: list[Program] = []
        self.clients: list[Client] = []

    def __enter__(self) -> "Proxied":
        self._entered: list[Relay] = []
        try:
            if self._target_runs:
                self.start_target()
            self.start_proxy()
            for relay in filter(None, (self.front, self.back)):
                self._entered.append(relay.__enter__())
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error) -> None:
        for relay in self._entered:
            relay.__exit__(*error)
        for program in (*(client.program for client in self.clients), *self._programs):
            program.__exit__()
            # A test that has failed shows what they have said: as TAP, a comment.
            if error[0]:
                for line in program.log.read_text(errors="replace").splitlines()[-LAST_WORDS:]:
                    print(f"# {program.log.relative_to(self.run)}: {line}", flush=True)

    def _qlog_option(self, directory: Path, option: str = "--qlog-dir") -> list[str]:
        if not self._qlog:
            return []
        directory.mkdir(parents=True, exist_ok=True)
        return [f"{option}={directory}"]

    def start_target(self) -> None:
        key, cert = self.site.certificate
        addr, stats_file = self.target_addr, self.run / "target-stats.json"
        if self._python_target:
            argv = [sys.executable, Path(__file__).with_name("quic_target.py"), "--listen", addr.host,
                    str(addr.port), f"--key={key}", f"--cert={cert}", f"--file={self.site.file}",
                    f"--stats={stats_file}", *self._target_options]
        else:
            argv = [*self._inside["tgt"], self._gtlsserver, "--quiet", f"--stats={stats_file}", f"--htdocs={self.site.htdocs}",
                    *self._qlog_option(self.run / "target-qlog"), *self._target_options,
                    addr.host, str(addr.port), key, cert]
        self.target = Program(argv, self.run / "target.log", "target")
        self._programs.append(self.target)
        self.target.wait_bound([addr])

    def start_proxy(self) -> None:
        """Called by entering; again after the proxy has been killed."""
        addr = self.proxy_addr
        self.proxy = Program(
            [*self._inside["srv"], *self._proxy_by, self._gtlsserver, "--quiet", "--connect-udp", f"--stats={self.run}/proxy-stats.json",
             f"--htdocs={self.site.htdocs}", *self._qlog_option(self.run / "proxy-qlog"), *self._proxy_options,
             *(f"--alternate-addr={other}" for other in self._ring),
             addr.host, str(addr.port), *self.site.certificate],
            _fresh(self.run, "proxy", ".log"), "proxy")
        self._programs.append(self.proxy)
        self.proxy.wait_bound([addr, *self._ring])

    def start(self, *options: str, mode: str | None = "forward", target: Addr | None = None,
              host: str = "", site: Site | None = None, staying: bool = False) -> Client:
        """Starts a client; without a `mode` it does without the proxy.  `host` instead of
        the target's address is for the proxy to resolve.  It ends by itself when it has
        all, unless it is `staying`."""
        addr, site = target or self.target_seen, site or self.site
        run = _fresh(self.run, "client")
        through = [] if mode is None else [
            f"--proxy=https://{self.proxy_seen}", f"--proxy-mode={mode}", f"--proxy-dialect={self._dialect}",
            *self._qlog_option(run / "proxy-qlog", "--proxy-qlog-dir")]
        client = Client(
            [self._gtlsclient, *(() if staying else (EXIT,)), *through, *self._qlog_option(run / "qlog"), *options,
             host or addr.host, str(addr.port), f"https://localhost:{addr.port}/{site.file.name}"], run, site, self._inside["cli"])
        self.clients.append(client)
        return client

    def stop(self) -> tuple[stats.Stats, stats.Stats]:
        """Ends proxy and target, and returns the statistics of both."""
        for program in (self.proxy, self.target):
            if program and program.stop(TIMEOUT) != 0:
                raise ProgramError(program.epitaph())
        return stats.load_proxy(self.run / "proxy-stats.json", "proxy"), self._target_stats()

    def _target_stats(self) -> stats.Stats:
        if not self.target:
            return {}
        return (stats.load_json if self._python_target else stats.load)(self.run / "target-stats.json")
