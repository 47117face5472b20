"""Programs whose sockets refuse what some kernels do not know: refusing_sockets.c."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from procs import Program


@dataclass
class Counts:
    """What the sockets of one program have refused: how often, and how often one of them."""

    taken: int
    total: dict[str, int]
    most: dict[str, int]


@dataclass
class Refusing:
    directory: Path

    def counts(self, program: Program) -> Counts:
        """Of a program that has ended in order.  A program that was started without
        refusing_sockets.c has none, which is an error."""
        found = json.loads((self.directory / str(program.pid)).read_text())
        taken = found.pop("taken")
        return Counts(taken, {kind: pair[0] for kind, pair in found.items()},
                      {kind: pair[1] for kind, pair in found.items()})


@contextlib.contextmanager
def refusing(build: Path, directory: Path, **errors: int) -> Iterator[Refusing]:
    """The programs that are started in the block have sockets that refuse what `errors`
    says, for example GSO=errno.EINVAL.  `directory` gets the counts."""
    directory.mkdir()
    asan = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
    environment = {"LD_PRELOAD": str(build / "tests" / "e2e" / "refusing-sockets.so"),
                   "ASAN_OPTIONS": asan, "REFUSE_COUNTS": str(directory),
                   **{f"REFUSE_{kind}": str(error) for kind, error in errors.items()}}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield Refusing(directory)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
