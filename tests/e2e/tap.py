"""Runs unittest cases and reports them as TAP (Test Anything Protocol 12), one
line per test, as soon as it is known."""

import argparse
import signal
import sys
import tempfile
import traceback
import unittest
from pathlib import Path


def temporary_directory(case: type[unittest.TestCase]) -> Path:
    """A directory that lasts as long as the tests of the class."""
    directory = tempfile.TemporaryDirectory(prefix="ngmasque-e2e-")
    case.addClassCleanup(directory.cleanup)
    return Path(directory.name)


class _Result(unittest.TestResult):
    # The test that the last "not ok" was for
    _reported: unittest.TestCase | None = None

    def _line(self, ok: bool, test: unittest.TestCase, directive: str = "") -> None:
        # An error before or after the tests of a class has no method.
        name = getattr(test, "_testMethodName", str(test)).removeprefix("test_").replace("#", " ")
        print(f"{'ok' if ok else 'not ok'} {self.testsRun} - {name}{directive}", flush=True)

    def _failed(self, test: unittest.TestCase, err, what: str = "") -> None:
        if self._reported is not test:  # of several subtests, the first one to fail
            self._line(False, test)
            self._reported = test
        if what:
            print(f"# {what}", flush=True)
        for line in "".join(traceback.format_exception(*err)).rstrip("\n").split("\n"):
            print(f"# {line}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._line(True, test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._failed(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._failed(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, err, f"in {subtest._subDescription()}")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line(True, test, f" # SKIP {reason}")


def main(*cases: type[unittest.TestCase]) -> None:
    """Runs the tests of `cases` against the programs in --build, and exits."""
    parser = argparse.ArgumentParser(usage="%(prog)s --build DIR [--filter TEXT]", allow_abbrev=False)
    parser.add_argument("--build", type=Path, required=True, metavar="DIR", help="the build directory")
    parser.add_argument("--filter", default="", metavar="TEXT",
                        help="only the tests whose name contains TEXT")
    args = parser.parse_args()
    for case in cases:
        case.build = args.build.resolve()
    # Meson's way to end a test that takes too long; nothing is to be left behind then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    tests = [test for case in cases for test in unittest.TestLoader().loadTestsFromTestCase(case)
             if args.filter in test._testMethodName]
    print(f"1..{len(tests)}", flush=True)
    result = _Result()
    unittest.TestSuite(tests).run(result)
    sys.exit(0 if tests and result.wasSuccessful() else 1)
