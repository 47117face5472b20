"""One download from gtlsserver by gtlsclient."""

import time
from dataclasses import dataclass
from pathlib import Path

import certs
import files
import stats
from net import Addr
from procs import Program, ProgramError
from wire import Wire

# How long a program may take that is expected to end: not a measure of speed,
# only so that a hang is reported and does not last for ever.
TIMEOUT = 600


class Site:
    """What a server serves: one file, and a certificate."""

    def __init__(self, directory: Path, size: int, seed: str = "site"):
        self.htdocs = directory / "htdocs"
        self.htdocs.mkdir(parents=True)
        self.file = self.htdocs / "file"
        self.size = size
        self.sha256 = files.make(self.file, size, seed)
        self.certificate = certs.make(directory)


@dataclass
class Outcome:
    """What is left of a download that has ended well, apart from its content."""

    seconds: float
    bytes: int
    sha256_ok: bool
    client: stats.Stats
    server: stats.Stats


def received(file: Path) -> int:
    """Bytes that a client has written to its download so far."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def wait_received(client: Program, file: Path, size: int) -> None:
    """Waits until the client has written at least `size` bytes."""
    while True:
        status = client.status  # before the size: it may write and end in between
        if (there := received(file)) >= size:
            return
        if status is not None:
            raise ProgramError(f"after {there} bytes {client.epitaph()}")
        time.sleep(0.002)


class Transfer:
    """A server from the beginning of a with block to its end, and a client that
    start() starts.  The first address of `ring` is the one that the client is
    told; the others are the server's --alternate-addr.  With `wire`, the client runs
    on its host "cli" and the server on "srv".

    The directory `run` gets logs, qlogs and statistics."""

    def __init__(self, build: Path, site: Site, run: Path, ring: list[Addr],
                 server_options: tuple[str, ...] = (), client_options: tuple[str, ...] = (),
                 wire: Wire | None = None):
        self.site = site
        self.run = run
        self.ring = ring
        self.server_options = server_options
        self.client_options = client_options
        self._inside = {host: wire.inside(host) if wire else [] for host in ("cli", "srv")}
        self._examples = build / "examples"
        self.client: Program | None = None
        for side in ("client", "server"):
            self.qlog_dir(side).mkdir(parents=True, exist_ok=True)
            for old in self.qlog_dir(side).glob("*.sqlog"):
                old.unlink()
            self.stats_file(side).unlink(missing_ok=True)
        self.downloaded = run / "download" / site.file.name
        self.downloaded.parent.mkdir(exist_ok=True)
        self.downloaded.unlink(missing_ok=True)

    def qlog_dir(self, side: str) -> Path:
        return self.run / f"{side}-qlog"

    def stats_file(self, side: str) -> Path:
        return self.run / f"{side}-stats.json"

    def _common(self, side: str) -> list[str]:
        return [f"--stats={self.stats_file(side)}", f"--qlog-dir={self.qlog_dir(side)}"]

    def __enter__(self) -> "Transfer":
        main, *alternates = self.ring
        self.server = Program(
            [*self._inside["srv"], self._examples / "gtlsserver", "--quiet", *self._common("server"),
             f"--htdocs={self.site.htdocs}", *(f"--alternate-addr={a}" for a in alternates),
             *self.server_options, main.host, str(main.port), *self.site.certificate],
            self.run / "server.log", "gtlsserver")
        try:
            self.server.wait_bound(self.ring)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for program in (self.client, self.server):
            if program:
                program.__exit__()

    def start(self) -> Program:
        main = self.ring[0]
        self._began = time.monotonic()
        self.client = Program(
            [*self._inside["cli"], self._examples / "gtlsclient", *self._common("client"),
             "--no-quic-dump", "--no-http-dump", f"--download={self.downloaded.parent}", *self.client_options,
             main.host, str(main.port), f"https://localhost:{main.port}/{self.site.file.name}"],
            self.run / "client.log", "gtlsclient")
        return self.client

    def received(self) -> int:
        """Bytes that the client has written so far."""
        return received(self.downloaded)

    def wait_received(self, size: int) -> None:
        """Waits until the client has written at least `size` bytes."""
        wait_received(self.client, self.downloaded, size)

    def finish(self) -> Outcome:
        """Waits for the end of the client, stops the server, reads the results."""
        deadline = self._began + TIMEOUT
        while self.client.status is None and self.server.status is None and time.monotonic() < deadline:
            time.sleep(0.002)
        seconds = time.monotonic() - self._began
        if self.server.status is not None:
            raise ProgramError(f"after {self.received():,} bytes {self.server.epitaph()}")
        if self.client.wait(0) != 0:
            raise ProgramError(f"after {self.received():,} bytes {self.client.epitaph()}")
        if self.server.stop(TIMEOUT) != 0:
            raise ProgramError(self.server.epitaph())
        size = self.received()
        return Outcome(seconds, size,
                       size == self.site.size and files.sha256(self.downloaded) == self.site.sha256,
                       stats.load(self.stats_file("client")), stats.load(self.stats_file("server")))
