#!/usr/bin/env python3
"""Draws a download during which the server moved: the bytes that the client has
received over time with the moves, and below the packets that the server sent from
each of its addresses.

    ci/migration-plot [--from SECONDS] [--to SECONDS] DIR FILE.svg

DIR is a scenario's directory that ci/demo --out has left, for example OUT/migration
or OUT/both: it has the qlogs of both sides.  Where the download went through a proxy,
the addresses at which the client found that are drawn on the same axis.  --from and
--to draw a part of it.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

import qlog
import timeline
from net import Addr
from timeline import Timeline

MIB = 1 << 20
# So many moves can be told apart in one picture; more of them get no labels.
LABELS = 30


def draw(data: Timeline, begin: float, end: float, file: Path) -> None:
    addresses = list(dict.fromkeys([a for _, a in data.moves] + [a for _, a in data.failed] + list(data.sent)))
    colours = {a: f"C{i % 10}" for i, a in enumerate(addresses)}
    plt.rcParams.update({"svg.fonttype": "none", "font.size": 9})
    proxies = list(dict.fromkeys(a for _, a in data.outer))
    heights = [4, 0.4 * len(addresses) + 0.6, *([0.3 * len(proxies) + 0.4] if proxies else [])]
    figure, (above, below, *outer) = plt.subplots(
        len(heights), sharex=True, figsize=(10, sum(heights) - 0.6), layout="constrained",
        gridspec_kw={"height_ratios": heights})
    _draw_received(above, data, colours, begin, end)
    _draw_packets(below, data, addresses, colours, begin, end)
    if proxies:
        _draw_proxy(outer[0], data, proxies, begin, end)
    (outer or [below])[0].set_xlabel("seconds since the client began")
    above.set_xlim(begin, end)
    figure.savefig(file)


def _draw_received(axes, data: Timeline, colours: dict[Addr, str], begin: float, end: float) -> None:
    """One line, which has the colour of the address that the client uses."""
    changes = [*data.moves, (float("inf"), None)]
    moves = 0
    last = (0.0, 0)
    for (since, address), (until, _) in pairwise(changes):
        part = [last, *((t, n) for t, n in data.received if since <= t < until)]
        last = part[-1]
        axes.plot([t for t, _ in part], [n / MIB for _, n in part], color=colours[address],
                  drawstyle="steps-post", linewidth=1.5)
        if begin <= since <= end and address != changes[0][1] or since > changes[0][0]:
            moves += begin <= since <= end
            axes.axvline(since, color=colours[address], linewidth=0.6, alpha=0.6)
    for time, address in data.failed:
        axes.axvline(time, color=colours[address], linewidth=0.8, linestyle=":")
    if 0 < moves <= LABELS:
        for time, address in data.moves[1:]:
            if begin <= time <= end:
                axes.annotate(f" {address}", (time, 1), xycoords=("data", "axes fraction"), rotation=90,
                              va="top", ha="left", fontsize=7, color=colours[address])
    shown = [n / MIB for t, n in data.received if begin <= t <= end]
    if shown:
        axes.set_ylim(min(shown) if begin else 0, max(shown) * 1.02)
    failed = sum(begin <= t <= end for t, _ in data.failed)
    axes.set_title(f"{moves} moves of the server" + (f", {failed} addresses tried in vain (dotted)" if failed else ""))
    axes.set_ylabel("received, MiB")
    axes.grid(axis="y", linewidth=0.3)


def _draw_packets(axes, data: Timeline, addresses: list[Addr], colours: dict[Addr, str], begin: float,
                  end: float) -> None:
    """A strip for each address: how many packets left it, in 400 steps of time."""
    bins = 400
    most = 1
    counts = {}
    for address in addresses:
        counted = [0] * bins
        for time in data.sent.get(address, []):
            if begin <= time < end:
                counted[int((time - begin) / (end - begin) * bins)] += 1
        counts[address] = counted
        most = max(most, *counted)
    step = (end - begin) / bins
    for row, address in enumerate(addresses):
        heights = [-0.85 * n / most for n in counts[address]]  # the axis points downwards
        axes.bar([begin + i * step for i in range(bins)], heights, width=step, align="edge", bottom=row + 0.9,
                 color=colours[address], linewidth=0)
    total = {a: sum(counts[a]) for a in addresses}
    axes.set_yticks([row + 0.5 for row in range(len(addresses))],
                    [f"{a}\n{total[a]:,} packets" for a in addresses], fontsize=7)
    axes.set_ylim(len(addresses), 0)
    axes.set_title(f"packets sent by the server, by its address (a full strip: {most} in {1000 * step:.3g} ms)")


def _draw_proxy(axes, data: Timeline, proxies: list[Addr], begin: float, end: float) -> None:
    """For each address of the proxy a bar for as long as the client used it."""
    for (since, address), (until, _) in pairwise([*data.outer, (max(end, data.outer[-1][0]), None)]):
        axes.barh(proxies.index(address), until - since, left=since, height=0.8, color="0.5", linewidth=0)
    axes.set_yticks(range(len(proxies)), map(str, proxies), fontsize=7)
    axes.set_ylim(len(proxies) - 0.5, -0.5)
    moves = sum(begin <= time <= end for time, _ in data.outer[1:])
    axes.set_title(f"{moves} moves of the proxy, by its address")


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/migration-plot", allow_abbrev=False,
                                     usage="%(prog)s [--from SECONDS] [--to SECONDS] DIR FILE.svg")
    parser.add_argument("--from", dest="begin", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--to", dest="end", type=float, metavar="SECONDS")
    parser.add_argument("directory", type=Path, metavar="DIR",
                        help="has client-qlog/ and server-qlog/, or client/qlog/, client/proxy-qlog/ and target-qlog/")
    parser.add_argument("file", type=Path, metavar="FILE.svg")
    args = parser.parse_args()
    try:
        proxied = args.directory / "client" / "qlog"
        if proxied.exists():
            outer = args.directory / "client" / "proxy-qlog"
            data = timeline.read(proxied, args.directory / "target-qlog", outer if outer.exists() else None)
        else:
            data = timeline.read(args.directory / "client-qlog", args.directory / "server-qlog")
        if not data.moves or not data.received:
            raise qlog.QlogError("no data was received, or the qlogs are of programs that do not log paths")
        end = data.received[-1][0] if args.end is None else args.end
        if not args.begin < end:
            parser.error("--from is not before --to")
        draw(data, args.begin, end, args.file)
    except (qlog.QlogError, OSError) as err:
        print(f"migration-plot: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
