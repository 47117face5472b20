#!/usr/bin/env python3
"""Counts what `meson test` ran in the given build directories: each case of a GoogleTest program
and each line of a TAP script is a test, any other program is one.

Prints the tests that failed with their output, those that were skipped with their reason, and as
the last line `N passed, N failed` (`, N skipped`).  Exit status 1 when a test failed or none ran.
"""

import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

PROJECT = "ngmasque"  # as in meson.build: Meson's JUnit file begins the names with it
BAD = {"FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"}
# Meson writes the programs' output into its XML as it came, control characters included.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Totals:
    def __init__(self):
        self.passed = 0
        self.failed = []  # (name, text)
        self.skipped = []  # (name, reason)


def tail(text, lines=60):
    kept = (text or "").rstrip().splitlines()
    if len(kept) > lines:
        kept = ["[...]"] + kept[-lines:]
    return "\n".join(kept)


def text_of(element):
    return (element.text or element.get("message") or "").strip()


def read_cases(directory):
    """{suite name of the JUnit file: [testcase]}."""
    path = directory / "meson-logs" / "testlog.junit.xml"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        tree = ET.fromstring(NOT_XML.sub("", text).removeprefix("<?xml version='1.0' encoding='utf-8'?>"))
    except (OSError, ET.ParseError) as error:
        sys.exit(f"ci/summary.py: {path} cannot be read ({error}); what meson test said is in build/logs")
    suites = {}
    for suite in tree.iter("testsuite"):
        suites.setdefault(suite.get("name"), []).extend(suite.findall("testcase"))
    return suites


def cases_of(program, suites):
    """The cases of one program: (label, testcase, output)."""
    name = program["name"].split(" / ")[-1]
    own = f"{PROJECT}.{program['name']}"
    for suite, cases in suites.items():
        if suite == own:  # TAP
            for case in cases:
                yield f"{name}: {case.get('name')}", case, tap_output(program, case.get("name"))
        elif suite.startswith(own + "."):  # GoogleTest
            for case in cases:
                yield f"{name}: {suite.removeprefix(own + '.')}.{case.get('name')}", case, ""


def tap_output(program, case):
    """What a TAP script printed after its line for this case, and on stderr."""
    number = case.split(" ", 1)[0]
    stdout = program.get("stdout") or ""
    block = re.search(rf"^not ok {number}\b.*\n((?:(?!(?:not )?ok\b).*\n?)*)", stdout, re.MULTILINE)
    return tail("\n".join(filter(None, (block[1] if block else "", program.get("stderr")))))


def count_case(label, case, output, totals):
    """True when the case failed."""
    failures = case.findall("failure") + case.findall("error")
    skipped = case.find("skipped")
    if failures:
        texts = [text_of(failure) for failure in failures] + [case.findtext("system-out"), output]
        totals.failed.append((label, "\n".join(dict.fromkeys(text for text in texts if text))))
        return True
    if skipped is not None or case.get("status") == "notrun":
        reason = text_of(skipped) if skipped is not None else "disabled"
        totals.skipped.append((label, reason or case.findtext("system-out") or ""))
    else:
        totals.passed += 1
    return False


def count_program(prefix, program, suites, totals):
    name = program["name"].split(" / ")[-1]
    label = prefix + name
    result = program["result"]
    output = tail("\n".join(filter(None, (program.get("stdout"), program.get("stderr")))))
    cases = list(cases_of(program, suites))
    failed = [count_case(prefix + case_label, case, text, totals) for case_label, case, text in cases]
    if result in BAD:
        # A program may fail beside its cases: it crashed, hung or left some out.
        if not any(failed):
            how = {"TIMEOUT": "timed out", "INTERRUPT": "was interrupted"}.get(
                result, f"exit status {program['returncode']}")
            totals.failed.append((label, f"the test program failed ({how})\n{output}"))
    elif not cases:
        plan = re.search(r"^1\.\.0\s*#\s*skip\S*\s*(.*)$", program.get("stdout") or "", re.MULTILINE | re.IGNORECASE)
        if result == "SKIP" and plan:
            totals.skipped.append((label, plan[1]))
        elif result == "SKIP" and program["returncode"] == 77:
            totals.skipped.append((label, tail(output, 1)))
        elif result == "SKIP":
            # What Meson makes of a TAP script that said nothing at all.
            totals.failed.append((label, f"the test program reported no result\n{output}"))
        else:
            totals.passed += 1


def main():
    directories = [pathlib.Path(name) for name in sys.argv[1:]]
    if not directories:
        print("usage: ci/summary.py BUILD-DIRECTORY...", file=sys.stderr)
        return 2
    totals = Totals()
    for directory in directories:
        prefix = f"{directory}: " if len(directories) > 1 else ""
        suites = read_cases(directory)
        with open(directory / "meson-logs" / "testlog.json", encoding="utf-8") as log:
            for line in log:
                count_program(prefix, json.loads(line), suites, totals)
    for label, text in totals.failed:
        print(f"\nFAILED {label}\n{tail(text)}")
    if totals.skipped:
        print()
        for label, reason in totals.skipped:
            print(f"skipped {label}: {' '.join(reason.split()) or 'no reason given'}")
    skipped = f", {len(totals.skipped)} skipped" if totals.skipped else ""
    print(f"\n{totals.passed} passed, {len(totals.failed)} failed{skipped}")
    return 0 if totals.passed and not totals.failed else 1


if __name__ == "__main__":
    sys.exit(main())
