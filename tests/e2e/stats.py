"""What the programs write with --stats."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

_COUNTERS = ("connections", "packets_sent", "packets_received", "bytes_sent", "bytes_received",
             "app_bytes_sent", "app_bytes_received", "server_migrations", "path_validations_failed")
_PATH_COUNTERS = ("packets_sent", "packets_received", "bytes_sent", "bytes_received")

Stats = dict[str, Any]


class StatsError(Exception):
    """The file is incomplete or contradicts itself."""


def load(path: Path) -> Stats:
    """Reads and checks a file."""
    try:
        stats = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise StatsError(f"{path.name}: {err}") from None

    for name in _COUNTERS:
        _check_counter(path, stats, name)
    gap = stats.get("longest_gap_ms", "missing")
    if gap is not None and not (isinstance(gap, (int, float)) and gap >= 0):
        raise StatsError(f"{path.name}: longest_gap_ms is {gap}")
    for entry in stats.get("paths", []):
        for name in _PATH_COUNTERS:
            _check_counter(path, entry, name)
        for name in ("local", "remote"):
            if not isinstance(entry.get(name), str):
                raise StatsError(f"{path.name}: a path without {name} address")
    for name in _PATH_COUNTERS:
        total = sum(entry[name] for entry in stats["paths"])
        if total != stats[name]:
            raise StatsError(f"{path.name}: {name} is {stats[name]}, "
                             f"but {total} when all paths are added up")
    return stats


def _check_counter(path: Path, stats: Stats, name: str) -> None:
    value = stats.get(name)
    if type(value) is not int or value < 0:
        raise StatsError(f"{path.name}: {name} is {value}")


def by_server_address(stats: Stats, end: Literal["local", "remote"], counter: str) -> Counter[str]:
    """Sums `counter` of the paths by server address, which is the remote end in
    the client's file and the local end in the server's."""
    sums: Counter[str] = Counter()
    for entry in stats["paths"]:
        sums[entry[end]] += entry[counter]
    return sums
