"""What is made of the measurements: medians, ratios, and the files."""

import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from workloads import MIB, Measured, Workload

ROOT = Path(__file__).resolve().parents[3]
FIELDS = ("subject", "direction", "size", "rate", "delivered", "cpu_us", "instructions", "goodput", "p50_us", "p99_us",
          "skipped")
Row = dict[str, Any]


class Key(NamedTuple):
    subject: str
    direction: str
    size: int
    rate: int | str | None


class Results:
    """Of a whole run."""

    def __init__(self) -> None:
        self._runs: dict[Key, list[Measured]] = defaultdict(list)
        self._skipped: dict[Key, str] = {}
        self._instructions: dict[Key, float] = {}
        self._order: dict[Key, None] = {}

    @staticmethod
    def _key(subject: str, load: Workload) -> Key:
        return Key(subject, load.direction, load.size, load.rate)

    def expect(self, subject: str, load: Workload) -> None:
        """The order of these calls is that of the rows."""
        self._order[self._key(subject, load)] = None

    def add(self, subject: str, load: Workload, measured: Measured) -> None:
        self._runs[self._key(subject, load)].append(measured)

    def skip(self, subject: str, load: Workload, reason: str) -> None:
        self._skipped[self._key(subject, load)] = reason

    def set_instructions(self, subject: str, load: Workload, count: float) -> None:
        self._instructions[self._key(subject, load)] = count

    def rows(self) -> list[Row]:
        """The medians, each of its own: null where nothing was measured."""
        rows = []
        for key in self._order:
            runs = self._runs[key]
            values = {name: _median([getattr(run, name) for run in runs]) for name in Measured._fields}
            rows.append({**key._asdict(), **values, "instructions": self._instructions.get(key),
                         "skipped": None if runs else self._skipped.get(key, "not measured")})
        return [{name: row[name] for name in FIELDS} for row in rows]

    def runs(self) -> list[Row]:
        """Each measurement, in the order of the rounds."""
        return [{**key._asdict(), **run._asdict()} for key, runs in self._runs.items() for run in runs]


def _median(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def find(rows: list[Row], subject: str, direction: str, rate: int | str | None = None, size: int | None = None) -> Row:
    return next((row for row in rows if (row["subject"], row["direction"], row["rate"]) == (subject, direction, rate)
                 and size in (None, row["size"])), {})


def ratios(rows: list[Row]) -> list[str]:
    """The lines that the goals are about, and what the parts of forwarding cost."""
    lines = []
    for ours, theirs, field, what, goal in (
            ("forwarded", "nginx", "cpu_us", "processor time", "goal: at most 0.2"),
            ("forwarded-identity", "forwarded", "cpu_us", "processor time", "what virtual connection IDs cost"),
            ("forwarded-scramble", "forwarded-identity", "cpu_us", "processor time", "what scramble-dt costs"),
            ("tunnelled", "nginx", "cpu_us", "processor time", "goal: at most 0.7"),
            ("tunnelled", "direct", "goodput", "goodput", "goal: at least 0.7")):
        for direction in ("down", "up"):
            a, b = (find(rows, subject, direction).get(field) for subject in (ours, theirs))
            ratio = f"{a / b:.2f}" if a is not None and b else "not measured"
            lines.append(f"{ours} / {theirs}, {what}, {direction}: {ratio} ({goal})")
    for direction in ("down", "up"):
        rate = datagrams_per_second(find(rows, "tunnelled", direction, "max", 64))
        lines.append(f"64-byte datagrams tunnelled {direction}, flat out: "
                     + (f"{rate:,.0f} a second" if rate is not None else "not measured"))
    return lines


def datagrams_per_second(row: Row) -> float | None:
    """That arrived."""
    return row["goodput"] / row["size"] if row and row["goodput"] is not None else None


def caption(size: int, rounds: int) -> str:
    """Where and of what all this is."""
    try:
        cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        cpu = None
    return (f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
            f"commit {_commit()}, {time.strftime('%Y-%m-%d', time.gmtime())}; transfers of {size / MIB:g} MiB, "
            + (f"medians of {rounds} rounds" if rounds > 1 else "one round"))


def _commit() -> str:
    def git(*argv: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *argv], capture_output=True, text=True, check=True).stdout.strip()
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cell(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else format(value / scale, form)


def markdown(rows: list[Row], title: str) -> str:
    """Transfers first, then a table for each size of datagrams."""
    lines = [f"{title}.", ""]
    instructions = any(row["instructions"] is not None for row in rows)
    lines += ["| HTTP/3 | | processor time of the relay, µs per 1350 bytes | goodput, MB/s |"
              + (" instructions per 1350 bytes |" if instructions else ""),
              "|---|---|--:|--:|" + ("--:|" if instructions else "")]
    for row in (row for row in rows if row["rate"] is None):
        lines.append(f"| {row['subject']} | {row['direction']} | " + (f"skipped: {row['skipped']} | - |" if row["skipped"] else
                     f"{_cell(row['cpu_us'], '.2f')} | {_cell(row['goodput'], '.1f', 1e6)} |")
                     + (f" {_cell(row['instructions'], ',.0f')} |" if instructions else ""))
    for size in dict.fromkeys(row["size"] for row in rows if row["rate"] is not None):
        lines += ["", f"| datagrams of {size} bytes | | asked for, a second | arrived, a second | share | "
                  "processor time of the relay, µs each | p50, µs | p99, µs |", "|---|---|--:|--:|--:|--:|--:|--:|"]
        left_out: dict[str, str] = {}
        for row in (row for row in rows if row["rate"] is not None and row["size"] == size):
            if row["skipped"]:
                left_out[row["subject"]] = row["skipped"]
                continue
            rate = row["rate"] if row["rate"] == "max" else f"{row['rate']:,}"
            lines.append(f"| {row['subject']} | {row['direction']} | {rate} | {_cell(datagrams_per_second(row), ',.0f')} | "
                         f"{_cell(row['delivered'], '.1%')} | {_cell(row['cpu_us'], '.2f')} | "
                         f"{_cell(row['p50_us'], ',.0f')} | {_cell(row['p99_us'], ',.0f')} |")
        lines += ["", *(f"{subject} skipped: {reason}." for subject, reason in left_out.items())]
    return "\n".join([*lines, "", *(f"- {line}" for line in ratios(rows))]) + "\n"


def write(out: Path, results: Results, title: str) -> list[Row]:
    rows = results.rows()
    for name, what in (("bench.json", rows), ("runs.json", results.runs())):
        (out / name).write_text("[\n" + ",\n".join(json.dumps(row) for row in what) + "\n]\n")
    (out / "bench.md").write_text(markdown(rows, title))
    return rows
