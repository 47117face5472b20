"""What the scenarios of the demonstration share."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import net
from transfer import Site

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


@dataclass
class Stage:
    """What all scenarios share."""

    build: Path
    site: Site
    proxied_site: Site
    ring: list[net.Addr]
    out: Path
