#!/usr/bin/env python3
"""The demonstration: real downloads over HTTP/3, one during which the server moves
from address to address, others through a proxy.  ci/demo calls it after set-up.

    tests/e2e/demo.py --build DIR [--out DIR]

Every scenario is one function in SCENARIOS: it gets a Stage, runs something and
fills in a Result, or raises Failed.  demo.json is {"scenarios": [...]} with one
object per scenario; the README says what is in it.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import demo_moves
import demo_operator
import demo_proxy
import demo_rotation
import net
import stats
from procs import ProgramError
from scenario import Failed, Result, Stage, packets_by_address, step
from transfer import Outcome, Site, Transfer

# Long enough for five times as many moves as it takes on a machine that
# transfers 100 MB/s, and still for enough of them on one that is five times as fast.
FILE_SIZE = 256 << 20
MOVE_EVERY = "20ms"
LEAST_MOVES = 20
PROXIED_SIZE = 64 << 20
# The sources, a download, and the qlogs of all sides for all scenarios.
SPACE = 2 * FILE_SIZE + PROXIED_SIZE + 2 * demo_rotation.SIZE + (600 << 20)


def _download(stage: Stage, result: Result, *server_options: str) -> Outcome:
    """Downloads the file with server migration enabled, and fills in `result`."""
    run = stage.out / result.name
    run.mkdir(exist_ok=True)
    with Transfer(stage.build, stage.site, run, stage.ring, server_options,
                  ("--quiet", "--enable-server-migration", "--exit-on-all-streams-close")) as transfer:
        outcome = None
        try:
            transfer.start()
            outcome = transfer.finish()
        finally:
            if outcome is None or outcome.sha256_ok:  # what differs is kept
                shutil.rmtree(transfer.downloaded.parent)
    result.record(outcome)
    result.addresses = packets_by_address(outcome, stage.ring)
    result.check_content(stage.site.size)
    return outcome


def no_migration(stage: Stage, result: Result) -> None:
    outcome = _download(stage, result)
    for side in (outcome.client, outcome.server):
        if moves := side["server_migrations"]:
            raise Failed(f"{moves} moves, though nobody asked for any")


def migration(stage: Stage, result: Result) -> None:
    outcome = _download(stage, result, f"--migrate-every={MOVE_EVERY}")
    moves = outcome.client["server_migrations"]
    if moves < LEAST_MOVES:
        raise Failed(f"the server moved {moves} times, which is less than {LEAST_MOVES}")
    # The last move may be on its way when the download ends.
    counted = outcome.server["server_migrations"]
    if abs(counted - moves) > 1:
        raise Failed(f"the client counts {moves} moves and the server {counted}")
    for address, packets in result.addresses.items():
        if not (packets["received"] and packets["sent"]):
            raise Failed(f"{address} carried {packets['received']} packets to the client "
                         f"and {packets['sent']} from it")


SCENARIOS = {"no-migration": no_migration, "migration": migration, **demo_rotation.SCENARIOS, **demo_proxy.SCENARIOS,
             **demo_moves.SCENARIOS, **demo_operator.SCENARIOS}


def run_scenario(stage: Stage, name: str) -> Result:
    size = (demo_rotation.SIZE if name in demo_rotation.SCENARIOS else
            (stage.proxied_site if name in (*demo_proxy.SCENARIOS, *demo_moves.SCENARIOS, *demo_operator.SCENARIOS) else stage.site).size)
    step(f"{name}: downloading {size >> 20} MiB")
    result = Result(name)
    try:
        SCENARIOS[name](stage, result)
        result.ok = True
        step(f"{name}: ok{demo_moves.summary(result)}{demo_proxy.summary(result)}")
    except (Failed, ProgramError, stats.StatsError, OSError) as err:
        result.reason = str(err)
        step(f"{name}: FAILED: {err}")
    return result


def print_table(results: list[Result]) -> None:
    def show(value, form: str) -> str:
        return "-" if value is None else format(value, form)

    width = max(len(r.name) for r in results)
    print(f"\n{'scenario':<{width}}  ok   {'bytes':>13}  {'seconds':>8}  {'moves':>6}  {'longest gap':>11}")
    for r in results:
        gap = "-" if r.longest_gap_ms is None else f"{r.longest_gap_ms:.1f} ms"
        print(f"{r.name:<{width}}  {'yes' if r.ok else 'NO ':<3}  {show(r.bytes, ','):>13}  "
              f"{show(r.seconds, '.2f'):>8}  {show(r.server_migrations, ','):>6}  {gap:>11}")

    moving = [r for r in results if r.addresses]
    addresses = list(dict.fromkeys(a for r in moving for a in r.addresses))
    if addresses:
        left = max(map(len, addresses))
        print(f"\n{'packets received/sent by the client':<{left}}")
        print(" " * left + "".join(f"  {r.name:>18}" for r in moving))
        for address in addresses:
            cells = []
            for r in moving:
                packets = r.addresses.get(address, {"received": 0, "sent": 0})
                cells.append(f"{packets['received']:,} / {packets['sent']:,}" if any(packets.values()) else "-")
            print(f"{address:<{left}}" + "".join(f"  {cell:>18}" for cell in cells))
    for r in results:
        if not r.ok:
            print(f"\n{r.name} FAILED: {r.reason}")


def choose_ring() -> list[net.Addr]:
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]
    if net.has_ipv6():
        hosts = ["127.0.0.1", "::1", "127.0.0.2", "127.0.0.3", "::1", "127.0.0.1"]
    else:
        step("no IPv6 loopback address on this machine: IPv4 addresses only")
    return net.free_addrs(*hosts)


def play(build: Path, out: Path, work: Path) -> list[Result]:
    step(f"making files of {FILE_SIZE >> 20} and {PROXIED_SIZE >> 20} MiB")
    site = Site(work / "large", FILE_SIZE, "demonstration")
    proxied_site = Site(work / "small", PROXIED_SIZE, "proxies")
    stage = Stage(build, site, proxied_site, choose_ring(), out)
    step(f"the server has {len(stage.ring)} addresses: {', '.join(map(str, stage.ring))}")
    return [run_scenario(stage, name) for name in SCENARIOS]


class Unusable(Exception):
    """The command line or the machine does not allow to begin."""


def check_build(build: Path) -> None:
    for name in ("gtlsclient", "gtlsserver", "ngmasque-client/ngmasque-client", "ngmasque-proxy/ngmasque-proxy"):
        if not os.access(build / "examples" / name, os.X_OK):
            raise Unusable(f"{build}/examples/{name} is missing: run ci/setup first")


def check_out(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as err:
        raise Unusable(f"--out {out}: {err.strerror}") from None


def check_space(directory: Path) -> None:
    if (free := shutil.disk_usage(directory).free) < SPACE:
        raise Unusable(f"{directory} has {free >> 20} MiB left, and {SPACE >> 20} are needed; "
                       "set TMPDIR to a directory with more")


def main() -> int:
    parser = argparse.ArgumentParser(usage="%(prog)s --build DIR [--out DIR]", allow_abbrev=False)
    parser.add_argument("--build", type=Path, required=True, metavar="DIR", help="the build directory")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where demo.json, qlogs and logs go")
    args = parser.parse_args()

    check_build(args.build)
    if args.out:
        check_out(args.out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="ngmasque-demo-"))
    keep = False
    try:
        check_space(work)
        out = args.out or work / "out"
        out.mkdir(exist_ok=True)
        results = play(args.build, out, work / "site")
        (out / "demo.json").write_text(
            json.dumps({"scenarios": [asdict(r) for r in results]}, indent=2) + "\n")
        print_table(results)
        ok = all(r.ok for r in results)
        keep = not ok and not args.out
        if args.out or keep:
            print(f"\ndemo.json, qlogs and program logs are in {out}")
        return 0 if ok else 1
    finally:
        shutil.rmtree(work / "site", ignore_errors=True)
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unusable as err:
        print(f"demo: {err}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
