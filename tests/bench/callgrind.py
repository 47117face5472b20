"""Runs a program under callgrind and reads the instruction counts."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"\((\d+)\)(?: (.*))?")


def argv(out: Path, *program: str | Path, collect: str = "") -> list[str | Path]:
    """The command line that counts `program`, or only what the function
    `collect` and everything below it executes, into the file `out`."""
    # Stack unwinding and the names of shared objects are all it has to know.
    options = ["--tool=callgrind", f"--callgrind-out-file={out}"]
    if collect:
        options.append(f"--toggle-collect={collect}")
    return ["valgrind", "-q", *options, *program]


def component(obj: str, file: str) -> str:
    """Where an instruction belongs: `obj` is the program or the shared library,
    `file` the source file of the function."""
    name = obj.rsplit("/", 1)[-1]
    if ".so" in name or not name:
        return name.split(".so")[0] or "(unknown)"
    if "/lib/ngtcp2_" in file:
        return "libngtcp2"
    if "/crypto/" in file:
        return "libngtcp2_crypto"
    if "/nghttp3_" in file:
        return "libnghttp3"
    return "program"


class Counts(NamedTuple):
    """Instructions, each counted where it was executed (callees not included)."""

    components: Counter[str]
    functions: Counter[str]


def read(out: Path) -> Counts:
    names: dict[tuple[str, str], str] = {}
    obj = file = function = ""
    counts = Counts(Counter(), Counter())
    skip = False  # the line after calls= is the cost of the callee, counted there

    def name(kind: str, text: str) -> str:
        number, value = _NAME.fullmatch(text).groups()
        if value is not None:
            names[kind, number] = value
        return names[kind, number]

    with out.open() as lines:
        for line in lines:
            line = line.rstrip("\n")
            key, sep, value = line.partition("=")
            if sep and key in ("ob", "fl", "fi", "fe", "fn", "cob", "cfi", "cfl", "cfn"):
                kind = {"b": "object", "n": "function"}.get(key[-1], "file")
                resolved = name(kind, value)
                if key == "ob":
                    obj = resolved
                elif key == "fl":
                    file = resolved
                elif key == "fn":
                    function = resolved
            elif sep and key == "calls":
                skip = True
            elif line[:1] in "+-*0123456789" and line:
                if not skip:
                    fields = line.split()
                    cost = int(fields[1]) if len(fields) > 1 else 0
                    counts.components[component(obj, file)] += cost
                    counts.functions[function] += cost
                skip = False
    return counts
