"""What the scenarios of the demonstration share."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import net
import stats
from transfer import Outcome, Site

_started = float(os.environ.get("NGMASQUE_START") or time.time())


def step(text: str) -> None:
    print(f"[{time.time() - _started:6.1f}s] {text}", flush=True)


class Failed(Exception):
    """A scenario did not show what it is there to show."""


@dataclass
class Result:
    """One object of demo.json."""

    name: str
    ok: bool = False
    reason: str | None = None
    sha256_ok: bool | None = None
    bytes: int | None = None
    # From the start of the client to its end
    seconds: float | None = None
    # As the client counts them
    server_migrations: int | None = None
    path_validations_failed: int | None = None
    longest_gap_ms: float | None = None
    # Server address -> packets that the client received from it and sent to it
    addresses: dict[str, dict[str, int]] = field(default_factory=dict)
    # Packets through a proxy, as the client and the proxy count them
    proxy: dict[str, Any] | None = None
    # Connection -> end -> how often its server has moved, as that end counts
    moves: dict[str, dict[str, int]] | None = None

    def record(self, outcome: Outcome) -> None:
        """What a download with server migration left, before anything is judged, so that a failure shows its
        numbers."""
        self.sha256_ok = outcome.sha256_ok
        self.bytes = outcome.bytes
        self.seconds = round(outcome.seconds, 3)
        self.server_migrations = outcome.client["server_migrations"]
        self.path_validations_failed = outcome.client["path_validations_failed"]
        self.longest_gap_ms = outcome.client["longest_gap_ms"]

    def check_content(self, size: int) -> None:
        """Fails unless the file of `size` bytes has arrived."""
        if not self.sha256_ok:
            raise Failed(f"the downloaded file ({self.bytes:,} bytes) is not the one that was served ({size:,} bytes)")


def packets_by_address(outcome: Outcome, ring: list[net.Addr]) -> dict[str, dict[str, int]]:
    """Result.addresses: those of `ring`, in order, and whatever else the client received from or sent to."""
    received, sent = (stats.by_server_address(outcome.client, "remote", f"packets_{what}")
                      for what in ("received", "sent"))
    return {name: {"received": received[name], "sent": sent[name]}
            for name in dict.fromkeys([*map(str, ring), *received, *sent])}


@dataclass
class Stage:
    """What all scenarios share."""

    build: Path
    site: Site
    proxied_site: Site
    ring: list[net.Addr]
    out: Path
