#!/usr/bin/env python3
"""Measures what a proxy costs, beside relays that do less and beside none: ours, nginx's, socat, and
the least that a relay can do.

    ci/bench [--size MIB] [--seconds N] [--rounds N] [--only SUBJECT]... [--instructions] [--smoke] [--out DIR]

In each round every subject has its turn with every workload.  Writes bench.json, runs.json, bench.md and
bench.svg into DIR, and prints the ratios.  tests/bench/README.md says what is measured.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from subjects import SUBJECTS, Place, Skipped  # first: it finds the folder of the others

import files
import picture
import report
from procs import ProgramError
from stats import StatsError
from transfer import Site
from workloads import MIB, Workload, instructions, measure, workloads

# Of transfers under callgrind, which is slow: the difference counts.
COUNTED = (2 * MIB, 16 * MIB)
# With --smoke
SMOKE_SIZE, SMOKE_DATAGRAMS = 2 * MIB, 500


def make_place(build: Path, directory: Path, size: int) -> Place:
    """Something to transfer."""
    site = Site(directory / "site", size)
    files.make(directory / "upload", size, "upload")
    return Place(build, site, directory / "upload", Site(directory / "small", 4096))


class Bench:
    """Runs everything; what fails is told, and leaves a hole."""

    def __init__(self, place: Place, run: Path, subjects: list[str]):
        self.results = report.Results()
        self.failed = 0
        self._place, self._run, self._subjects = place, run, subjects

    def round(self, number: int, loads: list[Workload]) -> None:
        """In odd ones the other way round."""
        subjects = self._subjects[::-1 if number % 2 else 1]
        for place, load in enumerate(loads):
            print(f"round {number + 1}: {load}", flush=True)
            for subject in subjects:
                self._once(subject, load, number, place)

    def _once(self, subject: str, load: Workload, number: int, place: int) -> None:
        run = self._run / f"{number}-{place}-{subject}"
        try:
            self.results.add(subject, load, measure(self._place, subject, load, run))
        except Skipped as err:
            self.results.skip(subject, load, str(err))
        except (ProgramError, StatsError, OSError, subprocess.SubprocessError) as err:
            self._fail(subject, load, err)

    def _fail(self, subject: str, load: Workload, err: Exception) -> None:
        print(f"{subject}, {load}: failed: {err}", flush=True)
        self.results.skip(subject, load, f"failed: {err}")
        self.failed += 1

    def count(self, loads: list[Workload], small: tuple[Place, Place]) -> None:
        """The instructions of each relay."""
        for load in (load for load in loads if load.rate is None):
            for subject in self._subjects:
                if subject == "direct":
                    continue
                print(f"instructions of {subject}, {load.direction}", flush=True)
                try:
                    self.results.set_instructions(
                        subject, load, instructions(small, subject, load.direction, self._run / f"counted-{subject}"))
                except Skipped:
                    pass  # has its reason already
                except (ProgramError, StatsError, OSError) as err:
                    print(f"{subject}: failed: {err}", flush=True)
                    self.failed += 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ci/bench", usage="%(prog)s [options]", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)

    def positive(text: str) -> int:
        if (number := int(text)) < 1:
            raise ValueError
        return number
    parser.add_argument("--build", type=Path, default=report.ROOT / "build", metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: build/bench)")
    parser.add_argument("--size", type=positive, default=256, metavar="MIB", help="of a transfer (default: 256)")
    parser.add_argument("--seconds", type=positive, default=1, metavar="N", help="of datagrams (default: 1)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="(default: 5)")
    parser.add_argument("--only", action="append", choices=SUBJECTS, metavar="SUBJECT",
                        help=f"one or more of {', '.join(SUBJECTS)}")
    parser.add_argument("--instructions", action="store_true", help="count those of the relays too, under callgrind")
    parser.add_argument("--smoke", action="store_true",
                        help="all of it once with next to nothing to carry: does it work?")
    return parser.parse_args()


def main() -> int:
    args = parse()
    out = (args.out or report.ROOT / "build" / "bench").resolve()
    out.mkdir(parents=True, exist_ok=True)
    size, rounds = (SMOKE_SIZE, 1) if args.smoke else (args.size * MIB, args.rounds)
    subjects = [subject for subject in SUBJECTS if not args.only or subject in args.only]
    with tempfile.TemporaryDirectory(prefix="ngmasque-bench-") as name:
        work, build = Path(name), args.build.resolve()
        bench = Bench(make_place(build, work / "place", size), work / "runs", subjects)
        loads = list(workloads(size, args.seconds, SMOKE_DATAGRAMS if args.smoke else None))
        for load in loads:
            for subject in subjects:
                bench.results.expect(subject, load)
        title = report.caption(size, rounds)  # of the commit that is measured
        try:
            for number in range(rounds):
                bench.round(number, loads)
                shutil.rmtree(work / "runs", ignore_errors=True)
            if args.instructions:
                (work / "runs").mkdir()
                bench.count(loads, tuple(make_place(build, work / f"counted-{n}", n) for n in COUNTED))
        finally:
            rows = report.write(out, bench.results, title)
            (out / "bench.svg").write_text(picture.draw(rows, title))
    print(title, *report.ratios(rows), f"written to {out}: bench.json, runs.json, bench.md, bench.svg", sep="\n")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
