"""Reads qlog files as ngtcp2 writes them: JSON text sequences (RFC 7464)."""

import json
from collections import Counter
from pathlib import Path


class QlogError(Exception):
    pass


def read(directory: Path) -> list[dict]:
    """All events of the only file in `directory`."""
    names = sorted(directory.glob("*.sqlog"))
    if len(names) != 1:
        raise QlogError(f"{directory.name} has {len(names)} files, not one")
    return read_file(names[0])


def read_file(path: Path) -> list[dict]:
    """All events of one file, which is of one connection."""
    where = f"{path.parent.name}/{path.name}"
    records = []
    # Every record begins with RS and ends with LF.
    first, *texts = path.read_text().split("\x1e")
    if first:
        raise QlogError(f"{where}: no RS at the beginning")
    for number, text in enumerate(texts):
        if not text.endswith("\n"):
            raise QlogError(f"{where}: record {number} is cut off")
        try:
            records.append(json.loads(text))
        except ValueError as err:
            raise QlogError(f"{where}: record {number}: {err}: {text[:200]!r}") from None
    header, *events = records
    if "qlog_version" not in header:
        raise QlogError(f"{where}: the first record is no header")
    for event in events:
        if not ("time" in event and "name" in event and "data" in event):
            raise QlogError(f"{where}: an event without time, name or data: {event}")
    return events


def frames(events: list[dict], name: str) -> Counter[str]:
    """How many frames of each type the events called `name` have, for instance
    transport:packet_sent."""
    return Counter(frame["frame_type"] for event in events if event["name"] == name
                   for frame in event["data"].get("frames", []))


def packets(events: list[dict], name: str) -> Counter[str]:
    """How many packets of each type there are in the events called `name`, for instance transport:packet_sent."""
    return Counter(event["data"]["header"]["packet_type"] for event in events if event["name"] == name)
