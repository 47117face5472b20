#!/usr/bin/env python3
"""ci/bench does what it says: all of it runs once with next to nothing to carry, and its files are looked at.

    tests/bench/relays/test_bench.py --build DIR [--filter TEXT]

No times are: they depend on the machine.
"""

import json
import shutil
import subprocess
import sys
import unittest
import xml.etree.ElementTree
from pathlib import Path

from subjects import NGINX_STREAM, SUBJECTS, Skipped, needs  # first: it finds the folder of the others

import report
import tap
import workloads
from bench import SMOKE_DATAGRAMS, SMOKE_SIZE
from workloads import Measured, Workload

HERE = Path(__file__).resolve().parent
# What a machine may be without
PEERS = {"nginx": lambda: NGINX_STREAM.exists(), "socat": lambda: shutil.which("socat") is not None}
TIMEOUT = 500


class BenchTest(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.out = tap.temporary_directory(cls)
        cls.done = subprocess.run([sys.executable, HERE / "bench.py", "--smoke", "--build", cls.build, "--out", cls.out],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT)

    def setUp(self):
        self.assertEqual(self.done.returncode, 0, self.done.stdout)
        self.rows = json.loads((self.out / "bench.json").read_text())

    def test_rows(self):
        """Each subject with each workload, once, in all fields."""
        for row in self.rows:
            self.assertEqual(tuple(row), report.FIELDS)
        loads = list(workloads.workloads(SMOKE_SIZE, 1, SMOKE_DATAGRAMS))
        self.assertEqual(len(loads), 2 + 2 * 2 * 4)
        wanted = [(subject, load.direction, load.size, load.rate) for load in loads for subject in SUBJECTS]
        self.assertEqual([(row["subject"], row["direction"], row["size"], row["rate"]) for row in self.rows], wanted)

    def test_skipped(self):
        """A reason where nothing was measured, and only where nothing can be."""
        for row in self.rows:
            absent = row["subject"] in PEERS and not PEERS[row["subject"]]()
            cannot = row["subject"].startswith("forwarded") and row["rate"] is not None
            self.assertEqual(row["skipped"] is not None, absent or cannot, row)
            if row["skipped"]:
                self.assertIn("is missing" if absent else "short header", row["skipped"])
                self.assertEqual({row[name] for name in Measured._fields}, {None}, row)

    def test_values(self):
        for row in (row for row in self.rows if not row["skipped"]):
            if row["rate"] is None:
                self.assertEqual(row["delivered"], 1, row)
            else:
                self.assertTrue(0 < row["delivered"] <= 1, row)
                self.assertTrue(0 < row["p50_us"] <= row["p99_us"], row)
            self.assertEqual(row["p50_us"] is None, row["rate"] is None, row)
            self.assertGreater(row["goodput"], 0, row)
            if row["subject"] == "direct":
                self.assertIsNone(row["cpu_us"], row)
            else:
                self.assertGreater(row["cpu_us"], 0, row)
            self.assertIsNone(row["instructions"], row)

    def test_runs(self):
        """One of each."""
        runs = json.loads((self.out / "runs.json").read_text())
        self.assertEqual(len(runs), sum(not row["skipped"] for row in self.rows))

    def test_output(self):
        """The table says where, and has all rows; the ratios are printed; the picture can be read."""
        table = (self.out / "bench.md").read_text()
        self.assertRegex(table.split("\n")[0], r", \d+ cores, Linux \S+, commit (\w{10}( with changes)?|unknown), ")
        for row in self.rows:
            self.assertIn(f"{row['subject']} skipped:" if row["skipped"] and row["rate"] is not None
                          else f"| {row['subject']} | {row['direction']} |", table)
        for line in report.ratios(self.rows):
            self.assertIn(line, self.done.stdout)
            self.assertIn(line, table)
        picture = xml.etree.ElementTree.parse(self.out / "bench.svg").getroot()
        self.assertTrue(picture.tag.endswith("svg"))
        bars = [bar for bar in picture.iter("{http://www.w3.org/2000/svg}rect") if bar.get("height") == "11"]
        carried = [row for row in self.rows if not row["skipped"] and row["rate"] in (None, "max")]
        self.assertEqual(len(bars), sum((row["cpu_us"] is not None) + 1 for row in carried))

    def test_medians(self):
        """Of each field for itself; what was never measured has no median."""
        results = report.Results()
        load = Workload("down", 1000)
        results.expect("nginx", load)
        for cpu, goodput in ((3.0, 1.0), (1.0, 3.0), (2.0, 9.0)):
            results.add("nginx", load, Measured(1.0, cpu, goodput))
        row, = results.rows()
        self.assertEqual((row["cpu_us"], row["goodput"], row["p50_us"], row["skipped"]), (2.0, 3.0, None, None))

    def test_ratios(self):
        def row(subject: str, direction: str, cpu: float | None, goodput: float, rate=None, size=1000):
            return {"subject": subject, "direction": direction, "size": size, "rate": rate, "cpu_us": cpu, "goodput": goodput}
        lines = report.ratios([row("direct", "down", None, 100.0), row("forwarded", "down", 1.0, 99.0),
                               row("forwarded-identity", "down", 1.5, 99.0), row("forwarded-scramble", "down", 3.0, 99.0),
                               row("tunnelled", "down", 15.0, 44.0), row("nginx", "down", 10.0, 90.0),
                               row("tunnelled", "up", 8.0, 6400.0, "max", 64)])
        for text in ("forwarded / nginx, processor time, down: 0.10 ", "tunnelled / nginx, processor time, down: 1.50 ",
                     "forwarded-identity / forwarded, processor time, down: 1.50 ",
                     "forwarded-scramble / forwarded-identity, processor time, down: 2.00 ",
                     "tunnelled / nginx, processor time, up: not measured ", "tunnelled / direct, goodput, down: 0.44 ",
                     "datagrams tunnelled up, flat out: 100 a second", "datagrams tunnelled down, flat out: not measured"):
            self.assertTrue(any(text in line for line in lines), f"{text} is not in {lines}")

    def test_missing_peer(self):
        """What cannot be found is skipped with a reason."""
        with self.assertRaisesRegex(Skipped, "no-such-relay is missing"):
            needs("no-such-relay")


if __name__ == "__main__":
    tap.main(BenchTest)
