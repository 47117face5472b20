"""What `migration` measures with the real programs: gtlsclient and gtlsserver in
network namespaces, with the relay of the end-to-end tests between them."""

import statistics
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import procs
import qlog
import variants
from net import Addr
from transfer import TIMEOUT, Outcome, Site, Transfer
from wire import Link, Wire

RATE = 2_500_000  # bytes per second; what the relay, in Python, does on two slow cores
RTTS = (20, 100)  # milliseconds
PORT = 4433
CLIENT, SERVER, OTHER = "10.9.0.1", "10.9.1.1", "10.9.1.2"
# Where the download is when the server moves first
WARM_UP = 1.0  # seconds
RING = {"no move": [Addr(SERVER, PORT)], "move to another IP address": [Addr(SERVER, PORT), Addr(OTHER, PORT)],
        "move to another port": [Addr(SERVER, PORT), Addr(SERVER, PORT + 1)]}
FULL, RESUMED = "new connection, full handshake", "new connection, 0-RTT"

Result = dict[str, Any]


class NotPossible(Exception):
    pass


class Arrival(NamedTuple):
    time: float  # milliseconds
    end: int  # of the data that has arrived without a hole


def stream_frames(event: dict) -> Iterator[dict]:
    return (frame for frame in event["data"].get("frames", [])
            if frame["frame_type"] == "stream" and frame["stream_id"] == 0)


def arrivals(events: list[dict]) -> tuple[list[Arrival], list[float]]:
    """When there was new data for the application, and when the server announced an address."""
    got: list[Arrival] = []
    moves = []
    end = 0
    later: dict[int, int] = {}
    for event in events:
        if event["name"] != "transport:packet_received":
            continue
        for frame in stream_frames(event):
            later[frame["offset"]] = max(later.get(frame["offset"], 0), frame["offset"] + frame["length"])
        before = end
        while starts := [start for start in later if start <= end]:
            for start in starts:
                end = max(end, later.pop(start))
        if end > before:
            got.append(Arrival(event["time"], end))
        if any("alternate" in frame["frame_type"] for frame in event["data"].get("frames", [])):
            moves.append(event["time"])
    return got, moves


def longest_gaps(got: list[Arrival], starts: list[float], end: float) -> list[float]:
    """The longest time without new data from each of `starts` to the next."""
    gaps = [0.0] * len(starts)
    index = -1
    for before, after in zip(got, got[1:]):
        while index + 1 < len(starts) and starts[index + 1] <= after.time:
            index += 1
        if index >= 0 and after.time <= end:
            gaps[index] = max(gaps[index], after.time - before.time)
    return gaps


def sent_again(events: list[dict]) -> int:
    """Bytes of application data that the server sent more than once."""
    frames = [frame for event in events if event["name"] == "transport:packet_sent" for frame in stream_frames(event)]
    return sum(frame["length"] for frame in frames) - max(frame["offset"] + frame["length"] for frame in frames)


@contextmanager
def relayed(site: Site, run: Path, ring: list[Addr], links: tuple[Link, Link], server: tuple[str, ...],
            client: tuple[str, ...], *prefixes: str) -> Iterator[Transfer]:
    """A server behind the relay, which has all addresses of `prefixes` as well, and a client that lets itself be
    moved; `links`: the way up and the way down."""
    run.mkdir(parents=True)
    hosts = sorted({addr.host for addr in ring} | set(prefixes))
    with (Wire({"cli": [CLIENT], "srv": hosts}, dict.fromkeys(hosts, links)) as wire,
          Transfer(variants.ROOT / "build", site, run, ring, server,
                   ("--enable-server-migration", "--exit-on-all-streams-close", *client), wire) as transfer):
        yield transfer
        if dropped := wire.counts()["kernel_dropped"]:
            raise procs.ProgramError(f"{run.name}: the relay was too slow, {dropped} packets were dropped")


def download(transfer: Transfer) -> Outcome:
    """All of the file, as it was served."""
    transfer.start()
    outcome = transfer.finish()
    if not outcome.sha256_ok:
        raise procs.ProgramError(f"{transfer.run.name}: the content is not what was served")
    return outcome


@contextmanager
def transfer_over(site: Site, run: Path, rtt: int, ring: list[Addr], server: tuple[str, ...],
                  client: tuple[str, ...]) -> Iterator[Transfer]:
    """On a path of RATE."""
    # As much as the path holds, and a queue of as much: nothing is lost.
    window = 2 * RATE * rtt // 1000
    link = Link(delay=rtt / 2, rate=RATE, queue=4 * window)
    flow_control = (f"--max-data={window}", f"--max-stream-data-bidi-local={window}", "--max-window=0",
                    "--max-stream-window=0")
    with relayed(site, run, ring, (link, link), server, (*flow_control, *client)) as transfer:
        yield transfer


def moving(site: Site, run: Path, rtt: int, way: str) -> Result:
    server = () if way == "no move" else ("--migrate-every=1s",)
    with transfer_over(site, run, rtt, RING[way], server, ()) as transfer:
        outcome = download(transfer)
    got, moves = arrivals(qlog.read(transfer.qlog_dir("client")))
    first, last = got[0].time, got[-1].time
    if way == "no move":
        moves = [first + 1000 * n for n in range(1, int((last - first) // 1000))]
    # The end of a download is no gap.
    gaps = longest_gaps(got, [move for move in moves if move > first + 1000 * WARM_UP / 2], last)
    return {"gaps_ms": gaps, "goodput": site.size / (last - first) * 1000, "sent_again": sent_again(qlog.read(transfer.qlog_dir("server"))),
            "moves": outcome.client["server_migrations"], "failed": outcome.client["path_validations_failed"]}


def first_bytes(site: Site, run: Path, rtt: int) -> dict[str, float]:
    """Milliseconds from a new connection's first packet to the first data of the
    response: the first connection, and another one with what it has left."""
    times = {}
    files = tuple(f"--{name}={run / name}" for name in ("session-file", "tp-file"))
    with transfer_over(site, run, rtt, RING["no move"], (), ()) as transfer:
        for way, options in ((FULL, (*files, "--wait-for-ticket")), (RESUMED, files)):
            transfer.client_options = ("--exit-on-all-streams-close", *options)
            transfer.downloaded.unlink(missing_ok=True)
            if transfer.start().wait(TIMEOUT) != 0:
                raise procs.ProgramError(transfer.client.epitaph())
            events = qlog.read(transfer.qlog_dir("client"))
            sent = next(event["time"] for event in events if event["name"] == "transport:packet_sent")
            times[way] = arrivals(events)[0][0].time - sent
            for old in transfer.qlog_dir("client").iterdir():
                old.unlink()
    return times


def summary(runs: list[Result]) -> Result:
    gaps = [gap for run in runs for gap in run["gaps_ms"]]
    return {"gap_ms_median": statistics.median(gaps), "gap_ms_max": max(gaps), "runs": runs,
            "goodput": statistics.median(run["goodput"] for run in runs),
            "spread": (max(run["goodput"] for run in runs) - min(run["goodput"] for run in runs))
                      / statistics.median(run["goodput"] for run in runs),
            "sent_again": statistics.median(run["sent_again"] for run in runs),
            "moves": sum(run["moves"] for run in runs), "failed": sum(run["failed"] for run in runs)}


def compare(work: Path, rtt: int, seconds: int, runs: int) -> Result:
    site = Site(work / f"site-{rtt}", seconds * RATE)
    small = Site(work / f"small-{rtt}", 4096)
    by_way: dict[str, list[Result]] = {way: [] for way in RING}
    new_connections: dict[str, list[float]] = {FULL: [], RESUMED: []}
    for number in range(runs):
        for way in sorted(RING, reverse=bool(number % 2)):
            by_way[way].append(moving(site, work / f"{rtt}-{number}-{way}".replace(" ", "-"), rtt, way))
        for way, time in first_bytes(small, work / f"{rtt}-{number}-new", rtt).items():
            new_connections[way].append(time)
    results = {way: summary(list_) for way, list_ in by_way.items()}
    base = results["no move"]
    for result in results.values():
        result["goodput_ratio"] = result["goodput"] / base["goodput"]
        for kind in ("median", "max"):
            result[f"gap_rtt_{kind}"] = (result[f"gap_ms_{kind}"] - base["gap_ms_median"]) / rtt
    return results | {way: {"first_byte_ms": times} for way, times in new_connections.items()}


def show(rtt: int, results: Result, runs: int) -> None:
    print(f"\n  RTT {rtt} ms, {runs} downloads of each kind"
          f"\n  {'':<32}{'gap median':>12}{'max':>10}{'in RTT':>8}{'max':>7}{'goodput':>10}{'spread':>8}{'sent again':>12}{'moves':>7}{'failed':>7}")
    for way, r in results.items():
        if times := r.get("first_byte_ms"):
            print(f"  {way:<32}{statistics.median(times):>12.2f}{max(times):>10.2f}{statistics.median(times) / rtt:>8.2f}"
                  f"{max(times) / rtt:>7.2f}   (until the first byte)")
        else:
            print(f"  {way:<32}{r['gap_ms_median']:>12.2f}{r['gap_ms_max']:>10.2f}{r['gap_rtt_median']:>8.2f}"
                  f"{r['gap_rtt_max']:>7.2f}{r['goodput_ratio']:>10.4f}{r['spread']:>8.3f}{r['sent_again']:>12,.0f}"
                  f"{r['moves']:>7}{r['failed']:>7}", flush=True)


def measure(work: Path, seconds: int, runs: int) -> Result:
    load = Path("/proc/loadavg").read_text().split()[0]
    print(f"\nThrough the network: {RATE * 8 // 1_000_000} Mbit/s, {seconds} s, a move every second (load {load})")
    results = {}
    try:
        for rtt in RTTS:
            results[rtt] = compare(work, rtt, seconds, runs)
            show(rtt, results[rtt], runs)
    except unittest.SkipTest as err:
        raise NotPossible(err) from None
    return results
