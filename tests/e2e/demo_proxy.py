"""The scenarios of the demonstration in which a download goes through a proxy."""

import math
import shutil
from pathlib import Path

import stats
from proxied import Outcome, Proxied
from scenario import Failed, Result, Stage

# Of the packets with a short header in each direction, in the scenarios `forwarded`
LEAST_FORWARDED = 0.95
# How the directions are called in demo.json, as the client and as the proxy calls them
DIRECTIONS = {"to_target": ("tx", "rx"), "to_client": ("rx", "tx")}


def directory(stage: Stage, result: Result) -> Path:
    """For what a scenario leaves, without what an earlier run has left there."""
    run = stage.out / result.name
    run.mkdir(exist_ok=True)
    for name in ("client", "proxy-qlog", "target-qlog"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in ("proxy.log", "first.log"):
        (run / name).unlink(missing_ok=True)
    return run


def record(stage: Stage, result: Result, outcome: Outcome, proxy: stats.Stats | None) -> None:
    """Fills in `result` before anything is judged, so that a failure shows its numbers."""
    result.sha256_ok, result.bytes = outcome.sha256_ok, outcome.bytes
    result.seconds = round(outcome.seconds, 3)
    result.longest_gap_ms = outcome.stats["longest_gap_ms"]
    if proxy:
        result.proxy = {
            way: {"client": packets_of(outcome.stats, at_client), "proxy": packets_of(proxy, at_proxy)}
            for way, (at_client, at_proxy) in DIRECTIONS.items()}
    result.check_content(stage.proxied_site.size)


def _download(stage: Stage, result: Result, mode: str | None, options: tuple[str, ...] = ()) -> None:
    """Downloads the file from the target, through the proxy if there is a `mode`, with further
    `options` of the client."""
    with Proxied(stage.build, stage.proxied_site, directory(stage, result), qlog=True) as world:
        outcome = world.start(*options, mode=mode).finish(proxied=mode is not None)
        proxy, _ = world.stop()
    record(stage, result, outcome, proxy if mode else None)


def packets_of(counted: stats.Stats, way: str) -> dict[str, int | float]:
    """Of one direction, as one side counts them."""
    forwarded, tunnelled = (counted["proxy"][f"{how}_{way}"] for how in ("forwarded", "tunnelled"))
    return {"forwarded": forwarded["packets"], "forwarded_bytes": forwarded["bytes"],
            "forwarded_long_headers": forwarded["long_headers"],
            "tunnelled": tunnelled["packets"], "tunnelled_bytes": tunnelled["bytes"],
            "tunnelled_long_headers": tunnelled["long_headers"],
            "forwarded_share_of_short_headers": math.floor(stats.forwarded_share(counted, way) * 10_000) / 10_000}


def direct(stage: Stage, result: Result) -> None:
    """For comparison: the proxy is there, and has nothing to do."""
    _download(stage, result, None)


def _tunnelled(stage: Stage, result: Result, *options: str) -> None:
    _download(stage, result, "tunnel", options)
    for way, sides in result.proxy.items():
        for side, packets in sides.items():
            if packets["forwarded"]:
                raise Failed(f"the {side} counts {packets['forwarded']} forwarded packets {_name(way)}")
            if not packets["tunnelled"]:
                raise Failed(f"the {side} counts no packets {_name(way)}")


def _forwarded(stage: Stage, result: Result, *options: str) -> None:
    _download(stage, result, "forward", options)
    check_forwarded(result, LEAST_FORWARDED)


def check_forwarded(result: Result, least: float) -> None:
    for way, sides in result.proxy.items():
        for side, packets in sides.items():
            share = packets["forwarded_share_of_short_headers"]
            if share < least:
                raise Failed(f"the {side} counts {share:.1%} of the short headers {_name(way)} as forwarded")
            if packets["forwarded_long_headers"]:
                raise Failed(f"the {side} counts {packets['forwarded_long_headers']} forwarded packets "
                             f"{_name(way)} with a long header")
            if not packets["tunnelled_long_headers"]:
                raise Failed(f"the {side} counts no tunnelled packets {_name(way)} with a long header, "
                             "and no connection begins without")


MODERN, DRAFT_00 = "--proxy-dialect=rfc9298", "--proxy-dialect=draft-00"
SCENARIOS = {
    "direct": direct,
    "tunnelled": lambda stage, result: _tunnelled(stage, result, MODERN),
    "forwarded": lambda stage, result: _forwarded(stage, result, MODERN, "--proxy-transform=identity"),
    "forwarded-scramble-dt": lambda stage, result: _forwarded(stage, result, MODERN, "--proxy-transform=scramble-dt"),
    "tunnelled-draft-00": lambda stage, result: _tunnelled(stage, result, DRAFT_00),
    "forwarded-draft-00": lambda stage, result: _forwarded(stage, result, DRAFT_00),
}


def _name(way: str) -> str:
    return way.replace("_", " the ")


def summary(result: Result) -> str:
    """For the line that says that all is well: what the client counts."""
    if not result.proxy:
        return ""
    ways = []
    for way, sides in result.proxy.items():
        packets = sides["client"]
        ways.append(f"{packets['forwarded']:,} packets {_name(way)} forwarded, {packets['tunnelled']:,} tunnelled "
                    f"({packets['forwarded_share_of_short_headers']:.1%} of the short headers forwarded)")
    return ": " + "; ".join(ways)
