"""What `migration` measures in memory: memory_migration and struct_sizes run, and
what they print is put into tables."""

import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import procs

TIMEOUT = 600
PERIOD = 1000  # milliseconds from move to move
NONE, MOVE, RECONNECT, RESUME = range(4)
SIDES = ("client", "server")

Result = dict[str, Any]


class Case(NamedTuple):
    """A network: 50 Mbit/s to each address, unless both are behind one link."""

    name: str
    rtt_a: int  # milliseconds
    rtt_b: int
    window: int  # bytes of flow control
    buffer: int = 0  # bytes that may wait; 0: nothing is lost

    @property
    def rtt(self) -> int:
        return max(self.rtt_a, self.rtt_b)


RATE = 50_000_000
# As much as the path holds: 125 kB in 20 ms
BDP = RATE // 8 // 50
CASES = (
    Case("RTT 20 ms", 20, 20, 2 * BDP),
    Case("RTT 20 ms, the path never full", 20, 20, BDP),
    Case("RTT 20 ms, long queue", 20, 20, 4 * BDP),
    Case("RTT 20 ms, router drops at one BDP", 20, 20, 8 * BDP, BDP),
    Case("RTT 100 ms", 100, 100, 10 * BDP),
    Case("RTT 60 ms and 9 ms", 60, 9, 4 * BDP),
)
# What is compared: name, mode, only the port changes (and the path is the same)
WAYS = (
    ("no move", NONE, False),
    ("move to another IP address", MOVE, False),
    ("move to another port", MOVE, True),
    ("new connection, full handshake", RECONNECT, False),
    ("new connection, 0-RTT", RESUME, False),
)


def run(program: Path, **options: int) -> Result:
    status, stdout, stderr = procs.run([program, *(f"{key}={value}" for key, value in options.items())], TIMEOUT)
    if status != 0:
        raise procs.ProgramError(f"{program.name} {options}: status {status}: {stderr.decode()}")
    return json.loads(stdout)


def measure(build: Path, case: Case, mode: int, port_only: bool, seconds: int) -> Result:
    # The same address at another port is behind the same link.
    rtt_b = case.rtt_a if port_only else case.rtt_b
    result = run(build / "memory_migration", mode=mode, rate=RATE, rtt_a=case.rtt_a * 1000, rtt_b=rtt_b * 1000,
                 window=case.window, buffer=case.buffer, port_only=int(port_only), shared_link=int(port_only),
                 period=PERIOD, seconds=seconds)
    gaps = [gap / 1e6 for gap in result.pop("gaps_ns")]
    return result | {"gap_ms_median": statistics.median(gaps), "gap_ms_max": max(gaps),
                     "goodput_mbit_s": result["delivered"] * 8 / result["seconds"] / 1e6}


def compare(build: Path, case: Case, seconds: int) -> dict[str, Result]:
    """All ways of one case, and what a move costs as against none."""
    results = {name: measure(build, case, mode, port_only, seconds) for name, mode, port_only in WAYS}
    base = results["no move"]
    for result in results.values():
        usual = base["gap_ms_median"]
        result["gap_rtt_median"] = (result["gap_ms_median"] - usual) / case.rtt
        result["gap_rtt_max"] = (result["gap_ms_max"] - usual) / case.rtt
        result["goodput_ratio"] = result["goodput_mbit_s"] / base["goodput_mbit_s"]
        moves = max(result["moves"], 1)
        result["lost_ms_per_move"] = (1 - result["goodput_ratio"]) * seconds * 1000 / moves
        result["sent_again_per_move"] = (result["sent_again"] + result["thrown_away"]) / moves
    return results


def show(case: Case, results: dict[str, Result]) -> None:
    print(f"\n{case.name}: flow control window {case.window // 1000} kB"
          + (f", buffer {case.buffer // 1000} kB" if case.buffer else ", lossless"))
    print(f"  {'':<32}{'gap median':>12}{'max':>10}{'in RTT':>8}{'max':>7}{'goodput':>10}{'costs':>10}{'sent again':>12}")
    print(f"  {'':<32}{'ms':>12}{'ms':>10}{'':>8}{'':>7}{'ratio':>10}{'ms/move':>10}{'bytes/move':>12}")
    for name, r in results.items():
        print(f"  {name:<32}{r['gap_ms_median']:>12.2f}{r['gap_ms_max']:>10.2f}{r['gap_rtt_median']:>8.2f}"
              f"{r['gap_rtt_max']:>7.2f}{r['goodput_ratio']:>10.4f}{r['lost_ms_per_move']:>10.1f}"
              f"{r['sent_again_per_move']:>12,.0f}", flush=True)


# Two addresses behind different links: bits per second, milliseconds, and what may wait there
FAST, SLOW = (50_000_000, 20, BDP), (10_000_000, 100, BDP)


def in_turn(build: Path, seconds: int) -> Result:
    """A download whose server moves between two different paths, and what each of them carries alone."""

    def download(mode: int, start: int) -> Result:
        (rate_a, rtt_a, buffer), (rate_b, rtt_b, _) = FAST, SLOW
        result = run(build / "memory_migration", mode=mode, start=start, rate=rate_a, rate_b=rate_b, rtt_a=rtt_a * 1000,
                     rtt_b=rtt_b * 1000, window=16 * BDP, buffer=buffer, period=PERIOD, seconds=seconds)
        return result | {"goodput_mbit_s": result["delivered"] * 8 / result["seconds"] / 1e6}

    alone = [download(NONE, start)["goodput_mbit_s"] for start in range(2)]
    result = download(MOVE, 0)
    return result | {"alone_mbit_s": alone, "goodput_ratio": result["goodput_mbit_s"] / statistics.mean(alone)}


def show_in_turn(r: Result) -> None:
    print("\nDifferent paths: " + " and ".join(f"{rate // 1_000_000} Mbit/s, RTT {rtt} ms" for rate, rtt, _ in (FAST, SLOW))
          + f"; buffer {BDP // 1000} kB each\n"
          f"  alone {', '.join(f'{rate:.2f}' for rate in r['alone_mbit_s'])} Mbit/s, in turn {r['goodput_mbit_s']:.2f}: "
          f"{r['goodput_ratio']:.4f} of what they could carry\n"
          f"  {r['moves']} moves, {r['packets_dropped']} packets dropped; in the first round trip after a return: "
          f"{r['dropped_at_return']} dropped, {r['excess_at_return']:,} bytes more than have waited there before", flush=True)


# A connection that does not use server migration, and one that does; what both sides of it have
MEMORY_WAYS = {
    # Neither callbacks nor transport parameter: a program that knows nothing of it
    "not-used": {"callbacks": 0},
    # A program that could, with a peer that does not ask for it
    "not-negotiated": {},
    # Asked for, and nothing is announced
    "negotiated": {"negotiate": 1},
    # The first announcement, and one move
    "moved": {"mode": MOVE, "moves": 1},
    "moved-10-times": {"mode": MOVE},
}
_MOMENTS = {
    # moment: is there a download, what memory_migration calls it
    "just created": (0, "memory_new"),
    "idle, handshake done": (0, "memory_warm"),
    "idle, ten seconds later": (0, "memory_end"),
    "peak, idle": (0, "memory_peak"),
    "peak of a download": (1, "memory_peak"),
}


def memory(builds: dict[str, Path]) -> Result:
    """Bytes allocated by a connection, unpatched and patched, in exact numbers."""
    ways = {"unpatched": ("unpatched", {})} | {way: ("patched", how) for way, how in MEMORY_WAYS.items()}
    runs = {(way, request): run(builds[build] / "memory_migration", seconds=10, period=PERIOD, request=request, **how)
            for way, (build, how) in ways.items() for request in (0, 1)}
    rows = [{"moment": moment, "side": side} | {way: runs[way, request][key][number] for way in ways}
            for moment, (request, key) in _MOMENTS.items() for number, side in enumerate(SIDES)]
    return {"sizes": {name: run(build / "struct_sizes") for name, build in builds.items()}, "rows": rows}


def memory_added(results: Result, *ways: str) -> dict[str, int]:
    """Most bytes that an idle connection, ready or not, has more than an unpatched one: of either side."""
    return {side: max(row[way] - row["unpatched"] for row in results["rows"] for way in ways
                      if row["side"] == side and not row["moment"].startswith("peak")) for side in SIDES}


def show_memory(results: Result) -> None:
    print("\nMemory of one connection, bytes allocated: unpatched, and how many more the patched library takes\n"
          f"  {'':<32}{'unpatched':>10}" + "".join(f"{way:>16}" for way in MEMORY_WAYS))
    for row in results["rows"]:
        before = row["unpatched"]
        print(f"  {row['side'] + ', ' + row['moment']:<32}{before:>10,}"
              + "".join(f"{row[way] - before:>+16,}" for way in MEMORY_WAYS))
    before, after = results["sizes"].values()
    print("  sizeof: " + ", ".join(f"{name} {before[name]} -> {size}" for name, size in after.items()
                                   if before[name] != size), flush=True)


def memory_goals(results: Result) -> list[tuple[str, bool, str]]:
    goals = []
    for text, most, ways in (("not negotiated", 64, ("not-used", "not-negotiated")),
                             ("negotiated", 512, ("negotiated",)),
                             ("negotiated and moved", 512, ("moved", "moved-10-times"))):
        added = memory_added(results, *ways)
        goals.append((f"at most {most} bytes added to an idle connection, {text}", max(added.values()) <= most,
                      ", ".join(f"{side} {value:,}" for side, value in added.items())))
    return goals


def show_goals(goals: list[tuple[str, bool, str]]) -> None:
    for goal, met, figure in goals:
        print(f"  {'met' if met else 'NOT MET':<9}{goal}: {figure}")


def in_turn_goals(r: Result) -> list[tuple[str, bool, str]]:
    return [("different paths: goodput of at least 0.9 of what they could carry in turn", r["goodput_ratio"] >= 0.9,
             f"{r['goodput_ratio']:.4f}"),
            ("different paths: no burst above what a path has proven",
             not r["dropped_at_return"] and not r["excess_at_return"],
             f"{r['dropped_at_return']} packets dropped, {r['excess_at_return']:,} bytes too many")]


def goals(results: dict[str, dict[str, Result]]) -> list[tuple[str, bool, str]]:
    """What was aimed at, whether it was met, and the figure."""
    met = []
    for name in ("RTT 20 ms", "RTT 100 ms"):
        for way in ("move to another IP address", "move to another port"):
            move = results[name][way]
            met.append((f"{name}, {way}: gap of at most one RTT", move["gap_rtt_max"] <= 1,
                        f"median {move['gap_rtt_median']:.2f}, max {move['gap_rtt_max']:.2f}"))
            met.append((f"{name}, {way}: nothing sent again", move["sent_again"] == 0,
                        f"{move['sent_again']:,} bytes in all"))
            if name == "RTT 20 ms":
                met.append((f"{name}, {way}: goodput of at least 0.9", move["goodput_ratio"] >= 0.9,
                            f"{move['goodput_ratio']:.4f}"))
    return met
