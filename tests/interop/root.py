"""The root directory of a newer Debian, in which the other implementations run: their
processes and mounts end with the command; network and clock are this machine's."""

import shutil
from pathlib import Path

_ENTER = ('set -e; mount --rbind /dev "$0/dev"; mount -t proc proc "$0/proc"; '
          'exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"')


class Root:
    def __init__(self, path: Path):
        self.path = path
        # What both sides see; new in every run
        self.shared = path / "interop"
        shutil.rmtree(self.shared, ignore_errors=True)
        self.shared.mkdir()

    def command(self, *argv: str) -> list[str]:
        """The command line for outside that runs `argv` inside."""
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
                "bash", "-c", _ENTER, str(self.path), *argv]

    def inside(self, path: Path) -> str:
        """What a path below `shared` is called inside."""
        return f"/{path.relative_to(self.path)}"

    def put(self, file: Path) -> str:
        """Copies a file to `shared`; its name inside."""
        there = self.shared / file.name
        if there != file:
            shutil.copy(file, there)
        return self.inside(there)
