"""What happened when in a download during which the server moved, from the qlogs of both sides, and of the
connection to a proxy that it went through."""

import ipaddress
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import qlog
from net import Addr


@dataclass
class Timeline:
    """Times are seconds on the client's clock, from the start of its connection."""

    # Bytes of streams that the client has received, without what came twice
    received: list[tuple[float, int]]
    # When the client began to use an address of the server; the first one is that of the handshake
    moves: list[tuple[float, Addr]]
    # When the client gave up an address that it had tried
    failed: list[tuple[float, Addr]]
    # When the server sent a packet, by its address of that moment.  Packets that probe another
    # path (RFC 9000, section 9.1) are left out: qlog does not tell their path.
    sent: dict[Addr, list[float]]
    # When the client began to use an address of the proxy, as `moves`
    outer: list[tuple[float, Addr]] = field(default_factory=list)


def read(client: Path, server: Path, outer: Path | None = None) -> Timeline:
    """Reads the only qlog in each of the directories.  `outer`: the client's, of its connection to the proxy."""
    at_client, at_server = qlog.read(client), qlog.read(server)
    ahead = _clock_difference(at_client, at_server)
    return Timeline(
        received=_received(at_client),
        moves=_moves(at_client),
        outer=_outer_moves(qlog.read(outer)) if outer else [],
        failed=[(_seconds(e), _address(e, "path_remote"))
                for e in _named(at_client, "connectivity:migration_state_updated")
                if e["data"]["new"] == "probing_abandoned"],
        sent=_sent(at_server, ahead))


def _moves(events: list[dict]) -> list[tuple[float, Addr]]:
    return [(_seconds(e), _address(e, "path_remote")) for e in _named(events, "connectivity:path_assigned")]


def _outer_moves(events: list[dict]) -> list[tuple[float, Addr]]:
    """The connection through the proxy begins with the first datagram."""
    begin = next((_seconds(e) for e in _named(events, "transport:packet_sent")
                  if any(frame["frame_type"] == "datagram" for frame in e["data"]["frames"])), None)
    if begin is None:
        raise qlog.QlogError("nothing was sent through the proxy in datagrams")
    return [(time - begin, address) for time, address in _moves(events)]


def _named(events: list[dict], name: str) -> list[dict]:
    return [e for e in events if e["name"] == name]


def _seconds(event: dict) -> float:
    return event["time"] / 1000


def _address(event: dict, end: str) -> Addr:
    info = event["data"][end]
    family = "v4" if "ip_v4" in info else "v6"
    return Addr(str(ipaddress.ip_address(bytes.fromhex(info[f"ip_{family}"]))), info[f"port_{family}"])


def _received(events: list[dict]) -> list[tuple[float, int]]:
    """Every stream's data counts up to the byte before the first that is missing."""
    there: dict[int, int] = defaultdict(int)  # stream: how much without a gap
    later: dict[int, dict[int, int]] = defaultdict(dict)  # stream: begin and end behind a gap
    points = []
    total = 0
    for event in _named(events, "transport:packet_received"):
        before = total
        for frame in event["data"]["frames"]:
            if frame["frame_type"] != "stream":
                continue
            stream, begin = frame["stream_id"], frame["offset"]
            ranges = later[stream]
            ranges[begin] = max(ranges.get(begin, 0), begin + frame["length"])
            start = there[stream]
            while ranges and (first := min(ranges)) <= there[stream]:
                there[stream] = max(there[stream], ranges.pop(first))
            total += there[stream] - start
        if total != before:
            points.append((_seconds(event), total))
    return points


def _sent(events: list[dict], ahead: float) -> dict[Addr, list[float]]:
    current = None
    sent: dict[Addr, list[float]] = defaultdict(list)
    for event in events:
        if event["name"] == "connectivity:path_assigned":
            current = _address(event, "path_local")
        elif event["name"] == "transport:packet_sent" and not any(
                frame["frame_type"] in ("path_challenge", "path_response") for frame in event["data"]["frames"]):
            sent[current].append(_seconds(event) - ahead)
    return dict(sent)


def _clock_difference(client: list[dict], server: list[dict]) -> float:
    """How many seconds the server's clock is ahead of the client's, if packets take
    equally long both ways."""
    def times(events: list[dict], name: str) -> dict[int, float]:
        return {e["data"]["header"]["packet_number"]: _seconds(e) for e in _named(events, name)
                if e["data"]["header"]["packet_type"] == "1RTT"}

    def delay(sender: list[dict], receiver: list[dict]) -> float:
        sent, received = times(sender, "transport:packet_sent"), times(receiver, "transport:packet_received")
        both = sent.keys() & received.keys()
        if not both:
            raise qlog.QlogError("the two qlogs have no packet in common: are they of one connection?")
        return statistics.median(received[number] - sent[number] for number in both)

    return (delay(client, server) - delay(server, client)) / 2
