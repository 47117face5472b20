"""Builds the two variants of ngtcp2 that are compared, with the same flags.

Unpatched is the release plus the first patch of the series, which only lets the
sample programs compile with this nghttp3: without it there is nothing to run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
ROOT = _HERE.parent.parent
BENCH = ROOT / "build" / "bench"
_COMPAT_SUBJECT = "Build against nghttp3"

# valgrind 3.19 of Debian 12 cannot read the DWARF 5 that clang writes.
_ARGS = ["--native-file", str(ROOT / "ci" / "clang19.ini"), "--buildtype=debugoptimized",
         "-Dc_args=-gdwarf-4", "-Dcpp_args=-stdlib=libc++ -gdwarf-4"]


class BuildError(Exception):
    pass


def _output(*argv: str, env: dict[str, str] = {}) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | env)
    if done.returncode != 0:
        end = (done.stdout + done.stderr).splitlines()[-20:]
        raise BuildError("\n".join([f"this failed: {' '.join(argv)}", *end]))
    return done.stdout.strip()


def _git(*argv: str) -> str:
    return _output("git", "-C", str(ROOT / "subprojects" / "ngtcp2"), *argv)


def _as_it_is(directory: Path) -> str:
    """A work tree of ngtcp2 with everything that is not committed, as a tree object."""
    with tempfile.TemporaryDirectory(prefix="ngmasque-bench-") as temporary:
        # Objects go to this repository, which has most of them.
        env = {"GIT_INDEX_FILE": f"{temporary}/index", "GIT_DIR": str(ROOT / "subprojects" / "ngtcp2" / ".git"),
               "GIT_WORK_TREE": str(directory.resolve())}
        for name in ("lib", "crypto", "examples", "third-party", "tests", "CMakeLists.txt"):
            _output("git", "-C", str(directory), "add", "-A", "--", name, env=env)
        return _output("git", "write-tree", env=env)


def revisions(patched: Path | None = None) -> dict[str, str]:
    """The revisions in subprojects/ngtcp2 to compare; `patched`: a work tree that takes the place of the series."""
    if not (ROOT / "subprojects" / "ngtcp2" / ".git").exists():
        raise BuildError("subprojects/ngtcp2 is missing: run ci/setup first")
    patches = _git("rev-list", "--reverse", "upstream..series").split()
    if not patches or _COMPAT_SUBJECT not in _git("log", "-1", "--format=%s", patches[0]):
        raise BuildError(f"the first patch of the series is not \"{_COMPAT_SUBJECT}\"")
    return {"unpatched": patches[0], "patched": _as_it_is(patched) if patched else patches[-1]}


def _link(target: Path, name: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    if not name.is_symlink():
        name.symlink_to(target)


def _lay_out(tree: Path, revision: str) -> None:
    """Makes `tree` a Meson project with `revision` of ngtcp2 in it."""
    source = tree / "subprojects" / "ngtcp2"
    mark = tree / "revision"
    if not mark.exists() or mark.read_text() != revision:
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        # -m: files are as old as their unpacking, or a build would not see them change.
        with subprocess.Popen(["git", "-C", str(ROOT / "subprojects" / "ngtcp2"), "archive", revision],
                              stdout=subprocess.PIPE) as archive:
            subprocess.run(["tar", "-xm", "-C", str(source)], stdin=archive.stdout, check=True)
        if archive.returncode != 0:
            raise BuildError(f"git archive {revision} failed")
        mark.write_text(revision)
    _link(ROOT / "patches" / "ngtcp2" / "overlay" / "meson.build", source / "meson.build")
    _link(ROOT / "subprojects" / "nghttp3", tree / "subprojects" / "nghttp3")
    for file in [_HERE / "meson.build", *_HERE.glob("*.c"), *_HERE.glob("*.h")]:
        _link(file, tree / file.name)


def build(variant: str, revision: str, *targets: str) -> Path:
    """Builds `targets`, or everything, and returns the build directory of `variant`."""
    tree = BENCH / variant
    _lay_out(tree, revision)
    directory = tree / "build"
    if not (directory / "build.ninja").exists():
        _output("meson", "setup", *_ARGS, str(directory), str(tree))
    _output("meson", "compile", "-C", str(directory), "-j", str(os.cpu_count() or 1), *targets)
    return directory


def build_all(patched: Path | None = None, *targets: str) -> dict[str, Path]:
    """Builds the unpatched and the patched variant, or the work tree `patched` as the latter."""
    builds = {}
    for name, revision in revisions(patched).items():
        print(f"building {name} ({revision[:12]})", file=sys.stderr, flush=True)
        builds[name] = build(name, revision, *targets)
    return builds
