"""Which packets had a frame of some type, from the qlogs of both sides and the client's debug log.

ngtcp2 writes a qlog event into a buffer of 4 KiB and leaves out one that does not fit, for instance that of a
packet in which twenty NEW_CONNECTION_ID frames are sent again.  Its debug log leaves nothing out, and so has the last
word wherever it can: of what the client sent and received, and so of what the server sent and the client received."""

import re
from collections import Counter
from pathlib import Path

import qlog

# A line for each frame, apart from ACK frames, which have more
_LINE = re.compile(r" frm (rx|tx) (\d+) 1RTT ([A-Z_]+)\(")


class Disagree(Exception):
    """The qlog and the debug log tell different things of one packet."""


class FrameLog:
    """`run` has client.log, which is not quiet, and the directories client-qlog and server-qlog, of one connection."""

    def __init__(self, run: Path):
        self._events = {side: qlog.read(run / f"{side}-qlog") for side in ("client", "server")}
        self._lines: Counter[tuple[str, str, int]] = Counter()
        for line in (run / "client.log").read_text(errors="replace").splitlines():
            if found := _LINE.search(line):
                way, number, frame = found.groups()
                self._lines[way, frame.lower(), int(number)] += 1
        if not self._lines:
            raise Disagree("the client was quiet")

    def count(self, side: str, event: str, frame: str) -> int:
        """How many frames called `frame` (as in qlog; not "ack") `side` has "sent" or "received" in 1-RTT packets."""
        noted = {data["header"]["packet_number"]: sum(f["frame_type"] == frame for f in data["frames"])
                 for name, data in ((e["name"], e["data"]) for e in self._events[side])
                 if name == f"transport:packet_{event}" and data["header"]["packet_type"] == "1RTT"}
        way = "rx" if (side, event) in (("client", "received"), ("server", "sent")) else "tx"
        logged = {number: count for (w, f, number), count in self._lines.items() if (w, f) == (way, frame)}
        for number in noted.keys() & logged.keys():
            if noted[number] != logged[number]:
                raise Disagree(f"packet {number} has {noted[number]} {frame} in the qlog of the {side}, "
                               f"{logged[number]} in the client's log")
        if side == "client":
            if unknown := [number for number, count in noted.items() if count and number not in logged]:
                raise Disagree(f"{frame} in packets {unknown}, of which the client's log knows nothing")
            return sum(logged.values())
        if event == "sent":
            # What the client did not get is in the server's qlog alone.
            return sum((noted | logged).values())
        # What the client sent may not have arrived.
        return sum(noted.values())
