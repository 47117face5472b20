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


def load_json(path: Path) -> Stats:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise StatsError(f"{path.name}: {err}") from None


def load(path: Path) -> Stats:
    """Reads and checks a file."""
    stats = load_json(path)
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


PROXY_COUNTERS = ("tunnelled_tx", "tunnelled_rx", "forwarded_tx", "forwarded_rx")


def load_proxy(path: Path, side: Literal["client", "proxy"]) -> Stats:
    """Reads and checks a file of a program that used a proxy or was one."""
    stats = load(path)
    proxy = stats.get("proxy")
    if not isinstance(proxy, dict):
        raise StatsError(f"{path.name}: no object \"proxy\"")
    for kind in PROXY_COUNTERS:
        if not isinstance(proxy.get(kind), dict):
            raise StatsError(f"{path.name}: no {kind}")
        for name in ("packets", "bytes", "long_headers"):
            _check_counter(path, proxy[kind], name)
        if proxy[kind]["long_headers"] > proxy[kind]["packets"]:
            raise StatsError(f"{path.name}: {kind} has more long headers than packets")
    for name in ("dropped", *(("fallbacks",) if side == "client" else ("refused",))):
        if not isinstance(proxy.get(name), dict):
            raise StatsError(f"{path.name}: no {name}")
        for key in proxy[name]:
            _check_counter(path, proxy[name], key)
    if side == "client":
        if proxy.get("mode") not in ("forward", "tunnel"):
            raise StatsError(f"{path.name}: mode is {proxy.get('mode')}")
    else:
        for name in ("connections", "flows", "sockets"):
            _check_counter(path, proxy, name)
    return stats


def short_headers(stats: Stats, way: Literal["tx", "rx"]) -> tuple[int, int]:
    """Packets with a short header that went through the proxy: forwarded, tunnelled."""
    tunnelled = stats["proxy"][f"tunnelled_{way}"]
    return stats["proxy"][f"forwarded_{way}"]["packets"], tunnelled["packets"] - tunnelled["long_headers"]


def forwarded_share(stats: Stats, way: Literal["tx", "rx"]) -> float:
    """The part of the packets with a short header that was forwarded."""
    forwarded, tunnelled = short_headers(stats, way)
    return forwarded / (forwarded + tunnelled) if forwarded else 0.0


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
