"""Wireshark's tshark with the dissector of examples/wireshark: what it says of a capture."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

from procs import ProgramError

DISSECTOR = Path(__file__).parents[2] / "examples" / "wireshark" / "ngmasque.lua"

Layer = dict


def missing() -> str | None:
    """Why there is no tshark that runs the dissector, if there is none."""
    if not shutil.which("tshark"):
        return "tshark is not installed"
    said = subprocess.run(["tshark", "--version"], capture_output=True, text=True, timeout=60).stdout
    return None if "with Lua" in " ".join(said.split()) else "this tshark has no Lua"


def listed(value) -> list:
    """With several fields of a name there is a list, with one only the one."""
    return [] if value is None else value if isinstance(value, list) else [value]


def values(tree: Layer, kind: str) -> list[str]:
    """All of ngmasque.`kind` in it, however deep."""
    return [*listed(tree.get(f"ngmasque.{kind}")),
            *(value for inner in tree.values() for item in listed(inner) if isinstance(item, dict)
              for value in values(item, kind))]


class Capture:
    """A capture, and the keys for it; `directory` is for tshark's settings, among which is the dissector if it is
    `installed`."""

    def __init__(self, pcap: Path, keys: Path | None, directory: Path, installed: bool = False):
        self._directory = directory / f"wireshark-{installed}"
        self._directory.mkdir(exist_ok=True)
        self._argv = ["tshark", "-r", pcap, *(["-o", f"tls.keylog_file:{keys}"] if keys else [])]
        if installed:
            (self._directory / "init.lua").write_text(f'dofile("{DISSECTOR}")\n')
        else:
            self._argv += ["-X", f"lua_script:{DISSECTOR}"]

    def _run(self, *options: str) -> str:
        done = subprocess.run([str(arg) for arg in (*self._argv, *options)], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "WIRESHARK_CONFIG_DIR": str(self._directory)})
        if done.returncode or "Lua Error" in done.stdout + done.stderr or "Lua:" in done.stderr:
            raise ProgramError(f"tshark ended with status {done.returncode}: {done.stderr}")
        return done.stdout

    def fields(self, wanted: str, *names: str, options: tuple[str, ...] = ()) -> list[list[str]]:
        """Of each packet that the filter `wanted` takes, the values of each of the fields."""
        text = self._run("-Y", wanted, "-T", "fields", *(f"-e{name}" for name in names), "-E", "aggregator=|", *options)
        return [line.split("\t") for line in text.splitlines()]

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """The dissector's part of each packet that it shows something of, as tshark writes it in JSON; "sport" is
        the packet's UDP port."""
        packets = json.loads(self._run("-Y", "ngmasque", "-T", "json", "--no-duplicate-keys", "-J", "udp ngmasque"))
        return [{"sport": int(layers["udp"]["udp.srcport"]), **layers["ngmasque"]}
                for layers in (packet["_source"]["layers"] for packet in packets)]

    def trees(self, kind: str) -> list[tuple[int, Layer]]:
        """All items called ngmasque.`kind`, in order: who has sent each (a UDP port), and what is in it."""
        name, found = f"ngmasque.{kind}", []
        for layer in self.layers:
            # What has no value of its own is its own tree.
            trees = listed(layer.get(name))
            if inside := listed(layer.get(f"{name}_tree")):
                trees = [{name: item, **tree} for item, tree in zip(trees, inside, strict=True)]
            found += [(layer["sport"], tree) for tree in trees]
        return found
