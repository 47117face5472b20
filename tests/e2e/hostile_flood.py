"""Servers that aim a client at a victim by SERVER_ALTERNATE_ADDRESS, one way each,
and what the victim may get at most: table 2.4 of the rules, row A10."""

import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Iterator

from net import Addr
from quic_hostile import Peer, alternate_address, new_connection_id
from quic_packets import varint
from wire import Trace

# What one client sends at most to addresses that have not been validated: so many bytes at once, and how
# many it earns with time after that
BURST, RATE = 19_200, 480
# Datagrams of one validation that fails, and their size
PROBES, PROBE_SIZE = 4, 1200
# How long a validation takes at most on a path of a few milliseconds: three probe timeouts of 1 s and
# some, of which those who wait for its end wait longer
VALIDATION = 3.5
# Connection IDs that the client has not retired
_OUTSTANDING = 4
# Of the round-trip time, until nothing is left of a long one
_SAMPLES = 24
# Addresses of the victim that one flood names
PORTS = 10_000


def allowed(seconds: float) -> int:
    """Datagrams in a window of which the first and the last one are so far apart.  Rounded up, as the first one may
    have been seen later than it was sent: 2.5 s at most, which is what a datagram costs."""
    return math.ceil((BURST + RATE * seconds) / PROBE_SIZE)


class Flood:
    """Aims its only client at ports of `victim` from `port` on, for some seconds."""

    # Whether each validation has a port of its own
    ports_differ = True
    # Datagrams without which the test would be none
    least = 2 * PROBES

    def __init__(self, victim: str, port: int, seconds: float, friend: Addr):
        self.victim, self.port, self.seconds, self.friend = victim, port, seconds, friend
        self.frames = 0

    def script(self, peer: Peer) -> Iterator:
        yield peer.established
        began = time.monotonic()
        for step in self.steps(peer):
            if time.monotonic() > began + self.seconds:
                break
            yield step
        self.frames = peer.next_number - 1
        peer.finish()

    def steps(self, peer: Peer) -> Iterator:
        raise NotImplementedError

    def targets(self) -> Iterator[Addr]:
        return (Addr(self.victim, port) for port in range(self.port, self.port + PORTS))

    def check(self, trace: list[Trace]) -> str:
        """AssertionError if the victim got too much; what it got."""
        aimed = [t for t in trace if t.way == "up" and t.destination == self.victim
                 and self.port <= t.destination_port < self.port + PORTS]
        name = type(self).__name__
        times = [t.time for t in aimed]
        sizes, ports = Counter(t.size for t in aimed), Counter(t.destination_port for t in aimed)
        says = (f"{name}: {self.frames} frames, {len(ports)} addresses probed with {len(aimed)} datagrams, "
                f"{sum(t.size for t in aimed)} bytes, of which {sum(t.size for t in aimed if t.time < times[0] + 60)} "
                f"in the first minute, the last after {times[-1] - times[0] if times else 0:.2f} s")
        assert len(aimed) >= self.least, f"{says}: the flood is none"
        assert set(sizes) == {PROBE_SIZE}, f"{says}: {sizes}"
        for (i, begin), (j, end) in itertools.combinations(enumerate(times), 2):
            assert j - i + 1 <= allowed(end - begin), f"{says}: {j - i + 1} of them within {end - begin:.2f} s"
        if self.ports_differ:
            assert max(ports.values()) <= PROBES, f"{says}: {ports}"
        return says


class Patient(Flood):
    """The next address when the validation of the one before has failed: the most bytes."""

    def named(self) -> list[Addr]:
        """All addresses that it comes to.  Not the first few are tried, but what is the latest when another
        validation is allowed."""
        return list(itertools.islice(self.targets(), math.ceil(self.seconds / VALIDATION) + 1))

    def steps(self, peer: Peer) -> Iterator:
        for target in self.targets():
            peer.announce(target)
            yield VALIDATION


class Hasty(Flood):
    """As many addresses as there are connection IDs for."""

    def steps(self, peer: Peer) -> Iterator:
        for target in self.targets():
            peer.announce(target)
            yield 0.01
            yield lambda: peer.next_number - len(peer.connection.retired) < _OUTSTANDING


class Again(Flood):
    """One address all the time: while it is tried already, and again when that failed."""

    ports_differ = False

    def steps(self, peer: Peer) -> Iterator:
        for _ in itertools.count():
            peer.announce(Addr(self.victim, self.port))
            yield 0.05
            yield lambda: peer.next_number - len(peer.connection.retired) < _OUTSTANDING


class Rotating(Flood):
    """Moves between two addresses of its own, which costs nothing, and names victims meanwhile."""

    def steps(self, peer: Peer) -> Iterator:
        ours = itertools.cycle((self.friend, peer.first))
        peer.answers.update((self.friend, peer.first))
        for target, home in zip(self.targets(), ours):
            peer.announce(target)
            yield 0.2
            peer.announce(home)
            deadline = time.monotonic() + 2 * VALIDATION
            yield lambda: peer.here == home or time.monotonic() > deadline


class Withdrawing(Flood):
    """Takes each address back while it is being tried."""

    def steps(self, peer: Peer) -> Iterator:
        for target in self.targets():
            peer.announce(target)
            yield 0.1
            peer.announce()
            yield lambda: peer.next_number - len(peer.connection.retired) < _OUTSTANDING


class Stretching(Flood):
    """Looks far away when the validation begins, and near from then on: it would go on for as long as on a
    long path, with as many probes as on a short one."""

    least = 2

    def steps(self, peer: Peer) -> Iterator:
        connection = peer.connection
        for target in self.targets():
            connection.acknowledges = False
            old = (yield from self._answers(peer, 1))[-1]
            yield 4.0
            fresh = yield from self._answers(peer, _SAMPLES)
            cid = peer.cid()
            peer.send(_ack(old) + alternate_address(peer.next_number, target, cid=cid))
            peer.next_number += 1
            peer.send(b"".join(map(_ack, fresh)))
            connection.acknowledge()
            yield 9.0

    @staticmethod
    def _answers(peer: Peer, count: int) -> Iterator:
        """Numbers of packets that the client has just sent, and that are not acknowledged yet."""
        numbers = []
        for _ in range(count):
            before = peer.connection.largest
            peer.send(b"\x1a" + os.urandom(8))  # is answered at once
            yield lambda: peer.connection.largest > before
            numbers.append(peer.connection.largest)
        return numbers


def _ack(number: int) -> bytes:
    """Of that packet alone."""
    return b"\x02" + varint(number) + bytes(3)


FLOODS: tuple[type[Flood], ...] = (Patient, Hasty, Again, Rotating, Withdrawing, Stretching)


class Herd:
    """Names the same address to all of its clients, as soon as there are so many.  A client that puts the move off
    gives back the connection ID that came with the address (`delayed`), and takes another one when it moves."""

    def __init__(self, victim: Addr, clients: int, *, delayed: bool):
        self.victim, self.clients, self.delayed = victim, clients, delayed
        self._ready = self._failed = 0

    def script(self, peer: Peer) -> Iterator:
        yield peer.established
        self._ready += 1
        yield lambda: self._ready == self.clients
        spare = peer.next_number
        peer.connection.inject(new_connection_id(spare, peer.cid()))
        peer.next_number += 1
        announced = peer.next_number
        peer.announce(self.victim)
        # The address has failed; all have to hold out until it has for all.
        yield lambda: (spare if self.delayed else announced) in peer.connection.retired
        self._failed += 1
        yield lambda: self._failed == self.clients
        peer.finish()

    def check(self, trace: list[Trace]) -> str:
        """AssertionError if the victim got too much; how it got that."""
        aimed = [t for t in trace if t.way == "up" and (t.destination, t.destination_port) == self.victim]
        by_client = Counter((t.source, t.source_port) for t in aimed)
        times = sorted(t.time for t in aimed)
        in_100_ms = max(sum(t <= other < t + 0.1 for other in times) for t in times)
        says = (f"{len(by_client)} clients: {len(aimed)} datagrams, {sum(t.size for t in aimed)} bytes "
                f"within {times[-1] - times[0]:.1f} s, at most {in_100_ms} within 0.1 s")
        assert len(by_client) == self.clients, says
        assert {t.size for t in aimed} == {PROBE_SIZE}, says
        assert max(by_client.values()) <= PROBES, says
        return says
