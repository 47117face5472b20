"""What is sent through a subject, and what is measured meanwhile."""

import json
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import callgrind  # noqa: E402
import procs  # noqa: E402
import stats  # noqa: E402
from procs import Program, ProgramError  # noqa: E402
from proxied import EXIT  # noqa: E402
from subjects import SUBJECTS, Place, Setting, Way, Wrap, cpu_ns  # noqa: E402
from transfer import TIMEOUT  # noqa: E402

# Of a transfer, processor time is that of so many bytes, about a packet.
UNIT = 1350
DIRECTIONS = ("down", "up")
DATAGRAM_SIZES = (1200, 64)
RATES = (10_000, 20_000, 50_000, "max")
STRIP = Path("/usr/lib/llvm-19/bin/llvm-strip")
# More than a program sends in a second
MOST_DATAGRAMS = 5_000_000
MIB = 1 << 20
# Otherwise the first window decides how fast an upload starts.
_UPLOAD = (f"--max-data={8 * MIB}", f"--max-stream-data-bidi-remote={8 * MIB}")


class Workload(NamedTuple):
    """A transfer of `size` bytes by HTTP/3 if there is no `rate`; otherwise `count` datagrams of `size` bytes,
    `rate` a second, or as many as arrive in `seconds`."""

    direction: str
    size: int
    rate: int | str | None = None
    count: int = 0
    seconds: int = 0

    def __str__(self) -> str:
        if self.rate is None:
            return f"{self.direction}load of {self.size / MIB:g} MiB"
        return f"datagrams of {self.size} bytes {self.direction}, {self.rate}" + ("/s" if self.rate != "max" else "")


class Measured(NamedTuple):
    """None: not measured."""

    delivered: float  # share of what was sent
    cpu_us: float | None  # of the relay, per UNIT or datagram that arrived
    goodput: float  # bytes per second
    p50_us: float | None = None
    p99_us: float | None = None


def workloads(size: int, seconds: int, datagrams: int | None = None) -> Iterator[Workload]:
    """All; transfers of `size` bytes.  The datagrams of `seconds`, or that many."""
    for direction in DIRECTIONS:
        yield Workload(direction, size)
    for size in DATAGRAM_SIZES:
        for rate in RATES:
            count = datagrams or (MOST_DATAGRAMS if rate == "max" else rate * seconds)
            for direction in DIRECTIONS:
                yield Workload(direction, size, rate, count, seconds if rate == "max" else TIMEOUT)


def measure(place: Place, subject: str, load: Workload, run: Path, wrap: Wrap = lambda argv: argv,
            wraps: str = "") -> Measured:
    """In the directory `run`, which is made anew; `wrap` and `wraps` are as in Setting.  Raises Skipped, ProgramError and StatsError."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    with ExitStack() as stack:
        way = SUBJECTS[subject](setting := Setting(place, run, stack, wrap, wraps), load.rate is not None)
        before = cpu_ns(way.relay.pid) if way.relay else 0
        measured, units = (_transfer if load.rate is None else _datagrams)(setting, way, load)
        if not way.relay:
            return measured
        cpu = cpu_ns(way.relay.pid) - before
        way.relay.stop()  # callgrind writes its file then
        return measured._replace(cpu_us=cpu / units / 1000 if units else None)


def _transfer(setting: Setting, way: Way, load: Workload) -> tuple[Measured, float]:
    place, run, up = setting.place, setting.run, load.direction == "up"
    examples, target = place.build / "examples", place.target
    # Not what is measured, and so not under callgrind
    server = setting.start(
        [examples / "gtlsserver", "--quiet", f"--htdocs={(place.small if up else place.site).htdocs}",
         f"--stats={run}/server.json", *(_UPLOAD if up else ()), target.host, str(target.port),
         *place.site.certificate], "gtlsserver", target, wrapped=False)
    began = time.monotonic()
    client = setting.start(
        [examples / "gtlsclient", "--quiet", "--no-quic-dump", "--no-http-dump", EXIT, f"--stats={run}/client.json",
         *((f"--data={place.upload}", "--http-method=PUT") if up else ()), *way.options,
         way.entry.host, str(way.entry.port), f"https://localhost:{target.port}/{place.site.file.name}"],
        "gtlsclient", wrapped=False)
    _wait_end(client)
    seconds = time.monotonic() - began
    status = client.wait(TIMEOUT)
    if status != 0:
        raise ProgramError(client.epitaph())
    if server.stop(TIMEOUT) != 0:
        raise ProgramError(server.epitaph())
    arrived = stats.load(run / ("server.json" if up else "client.json"))["app_bytes_received"]
    if arrived < load.size:
        raise ProgramError(f"{arrived:,} bytes of {load.size:,} arrived")
    return Measured(1.0, None, load.size / seconds), load.size / UNIT


def _wait_end(program: Program) -> None:
    """Exactly: Python's own wait with a time-out looks every 50 ms."""
    fd = os.pidfd_open(program.pid)
    try:
        (waiting := select.poll()).register(fd, select.POLLIN)
        waiting.poll(1000 * TIMEOUT)
    finally:
        os.close(fd)


def _datagrams(setting: Setting, way: Way, load: Workload) -> tuple[Measured, float]:
    status, out, err = procs.run(
        [setting.place.relays / "udp-load", str(way.entry), str(setting.place.target), load.direction, str(load.size),
         str(load.rate), str(load.count), str(load.seconds)], TIMEOUT)
    if status != 0:
        raise ProgramError(f"udp-load: {err.decode(errors='replace').strip()}")
    got = json.loads(out)
    goodput = got["received"] * load.size / got["seconds"] if got["received"] else 0.0
    return (Measured(got["received"] / got["sent"], None, goodput, got["p50_us"], got["p99_us"]), got["received"])


def instructions(places: tuple[Place, Place], subject: str, direction: str, run: Path, program: str = "") -> float:
    """Of the relay, or of `program` as Setting.start names it, per UNIT: what the transfer of the second place takes more than that of the first, which is
    smaller; so start, handshake and end do not count."""
    counts = []
    for place in places:
        out = run.with_suffix(".callgrind")
        measure(place, subject, Workload(direction, place.site.size), run,
                lambda argv: callgrind.argv(out, _stripped(argv[0], run), *argv[1:]), program)
        counts.append(sum(callgrind.read(out).components.values()))
    return (counts[1] - counts[0]) / (places[1].site.size - places[0].site.size) * UNIT


def _stripped(program: str | Path, run: Path) -> Path:
    """A copy that valgrind 3.19 of Debian 12 can read: not so the DWARF 5 that clang writes."""
    copy = run / f"{Path(program).name}.stripped"
    status, _, err = procs.run([STRIP, "--strip-debug", program, "-o", copy])
    if status != 0:
        raise ProgramError(f"{STRIP}: {err.decode(errors='replace').strip()}")
    return copy
