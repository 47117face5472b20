#!/usr/bin/env python3
"""Downloads through a proxy that moves from address to address itself.

    tests/e2e/test_proxy_moves.py --build DIR [--filter TEXT]

The network decides by NGMASQUE_SEED, by default 1.
"""

import itertools
import time
from collections import Counter

import net
import stats
import tap
from net import Addr
from network_case import A, B, C, CLIENT4, PORT, SEED
from proxied import ALLOW, Outcome, Proxied
from proxy_case import MIB, PacketCase
from proxy_client import ProxyClient
from udp_target import Target
from wire import Link, Wire

TARGET = Addr("10.9.2.1", PORT)
# From the first of its addresses the proxy goes to targets.
HOSTS = {"cli": [CLIENT4], "srv": ["10.9.2.9", A.host, B.host, C.host], "tgt": [TARGET.host]}
# There is no more on its way than the queue takes: whatever is lost, the network has not lost.
WAY = Link(delay=5), Link(delay=5, rate=2 * MIB, queue=MIB)
# ... and a round trip, in which it is asked for anew, takes less than half of the time between two moves.
WINDOW = ("--max-data=48K", "--max-stream-data-bidi-local=48K")
OFTEN = "--migrate-every=80ms"
MOVES = 10
# In packets: what may be on its way when the client ends, and probes of the path that are too large for it
LAST = 8
DIALECTS = "draft-00", "rfc9298"


class ProxyMoves(PacketCase):
    SIZES = (2 * MIB, 2 * MIB)

    def network(self) -> Wire:
        return Wire(HOSTS, {addr.host: WAY for addr in (A, B, C)}, SEED, self.work / f"{self._testMethodName}.trace")

    def moving(self, wire: Wire, ring: tuple[Addr, ...], *options: str) -> Proxied:
        return self.proxied(wire=wire, ring=ring, target_addr=TARGET,
                            proxy=("--connect-udp-allow=10.0.0.0/8", *options))

    def check_moves(self, world: Proxied, outcome: Outcome, mode: str, dialect: str, moves: int) -> None:
        """Everything has come, the two connections are the same ones as before, and the target has not noticed."""
        proxy, target = world.stop()
        share = 0.9 if dialect == "draft-00" else 0.5  # After each move it is asked for anew.
        self.check_mode(mode, outcome, share)
        self.assertEqual(outcome.stats["proxy"]["dialect"], dialect)
        self.assertEqual(outcome.stats["proxy"]["fallbacks"], {})
        self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), 1)
        followed = outcome.stats["proxy"]["server_migrations"]
        print(f"# the client has followed {followed} times, the proxy has moved {proxy['server_migrations']} times, "
              f"in {outcome.seconds:.1f} s", flush=True)
        self.assertGreaterEqual(min(followed, proxy["server_migrations"]), moves)
        self.proxy, self.ours = proxy["proxy"], outcome.stats["proxy"]

    def check_nothing_lost(self, wire: Wire) -> None:
        """What the network has taken from one end, the other end has, and has passed on."""
        for host, link in wire.counts()["links"].items():
            for way in ("up", "down"):
                self.assertEqual((link[way]["lost"], link[way]["queue_dropped"]), (0, 0), f"{host} {way}")
        for how in ("forwarded", "tunnelled"):
            for sent, arrived in ((self.ours, self.proxy), (self.proxy, self.ours)):
                missing = sent[f"{how}_tx"]["packets"] - arrived[f"{how}_rx"]["packets"]
                self.assertIn(missing, range(0, LAST + 1), f"{how}: {sent}, {arrived}")

    def check_ids(self, wire: Wire) -> None:
        """No connection ID is on two paths, neither of the outer connection nor of what is forwarded."""
        paths: dict[str, dict[tuple, Counter[str]]] = {"up": {}, "down": {}}
        for packet in wire.trace():
            path = packet.source, packet.source_port, packet.destination, packet.destination_port
            if packet.kind == "short" and TARGET.host not in path:
                paths[packet.way].setdefault(path, Counter())[packet.id] += 1
        for way, used in paths.items():
            self.assertGreaterEqual(len(used), len((A, B, C)), way)
            for one, other in itertools.combinations(used, 2):
                self.assertEqual(used[one].keys() & used[other].keys(), set(), f"{way}: {one}, {other}")

    def download(self, wire: Wire, world: Proxied, dialect: str, mode: str = "forward") -> Outcome:
        """Of a client that goes when nothing is on its way any more."""
        client = world.start(f"--proxy-dialect={dialect}", *WINDOW, mode=mode, staying=True)
        client.wait_all()
        self.wait_quiet(wire)
        return client.leave()

    def wait_quiet(self, wire: Wire) -> None:
        """Until nothing goes to the target and nothing comes from it: the connections themselves are never quiet."""
        before = None
        while before != (before := [p for p in wire.trace() if TARGET.host in (p.source, p.destination)]):
            time.sleep(0.1)

    def rotate(self, dialect: str, mode: str) -> None:
        with self.network() as wire, self.moving(wire, (A, B, C), OFTEN) as world:
            outcome = self.download(wire, world, dialect, mode)
            self.check_moves(world, outcome, mode, dialect, MOVES)
            self.check_nothing_lost(wire)
            used = Counter(packet.far for packet in wire.trace() if packet.way == "down" and packet.size >= 1200)
            for addr in (A, B, C):
                self.assertGreater(used[addr.host], 100, addr.host)
            if dialect == "rfc9298" or mode == "tunnel":
                self.check_ids(wire)

    def rebind(self, dialect: str) -> None:
        """A NAT gives the client other ports while the proxy moves."""
        with self.network() as wire, self.moving(wire, (A, B, C), OFTEN) as world:
            client = world.start(f"--proxy-dialect={dialect}", *WINDOW, staying=True)
            for part in (1, 2, 3):
                client.wait_received(self.site.size * part // 4)
                wire.rebind()
            client.wait_all()
            self.check_moves(world, client.leave(), "forward", dialect, MOVES)

    def dead(self, dialect: str) -> None:
        """Nothing gets through to and from the old address as soon as the client tries the new one, nor ever again."""
        with self.network() as wire, self.moving(wire, (A, B), "--migrate-every=300ms") as world:
            wire.when(B.host, f"blackhole {A.host} both on")
            client = world.start(f"--proxy-dialect={dialect}", *WINDOW, staying=True)
            client.wait_all()
            self.check_moves(world, client.leave(), "forward", dialect, 1)
            last = [p for p in wire.trace() if p.copies and p.size >= 1200 and p.destination == CLIENT4][-1]
            self.assertEqual(last.far, B.host)


    def test_client_stays(self):
        """Without the extension it is where it was, whatever the proxy would like."""
        client_cid, server_cid = b"client-one", b"server-id"
        with (self.proxied(proxy=(*ALLOW, "--migrate-every=1ms"), ring=tuple(net.free_addrs("127.0.0.2", "127.0.0.3")),
                           target_runs=False) as world, Target() as target):
            with ProxyClient(world.proxy_addr) as client:
                self.assertEqual(client.ask(target.authority, 0, client_cid=client_cid), 200)
                for _ in range(50):
                    self.check_flow(client, target, 0, client_cid)
                self.assertEqual(client.ask(target.authority, 0, server_cid=server_cid), 200)
            proxy, _ = world.stop()
        self.assertEqual(proxy["server_migrations"], 0)
        used = stats.by_server_address(proxy, "local", "packets_received")
        self.assertEqual({address for address, packets in used.items() if packets}, {str(world.proxy_addr)})


def _add(dialect: str, mode: str) -> None:
    name = dialect.replace("-", "_")
    setattr(ProxyMoves, f"test_{name}_{mode}", lambda self: self.rotate(dialect, mode))


for _dialect in DIALECTS:
    for _what in ("rebind", "dead"):
        setattr(ProxyMoves, f"test_{_dialect.replace('-', '_')}_{_what}",
                lambda self, what=_what, dialect=_dialect: getattr(self, what)(dialect))
for _dialect, _mode in itertools.product(DIALECTS, ("forward", "tunnel")):
    _add(_dialect, _mode)


if __name__ == "__main__":
    tap.main(ProxyMoves)
