#!/usr/bin/env python3
"""Downloads through a proxy, while it and the target move, and something goes wrong: the network, the old addresses,
or the proxy.

    tests/e2e/test_moves_faults.py --build DIR [--filter TEXT]

The network decides by NGMASQUE_SEED, by default 1.
"""

import signal

import net
import stats
import tap
from net import Addr
from network_case import CLIENT4, PORT, SEED
from proxied import ALLOW, Client, Proxied
from proxy_case import MIB, ProxyCase
from transfer import Site
from wire import Link, Wire

# The proxy goes to targets from the first of its addresses.
PROXY, TARGET = ["10.9.2.9", "10.9.2.1", "10.9.2.2"], ["10.9.3.1", "10.9.3.2"]
HOSTS = {"cli": [CLIENT4], "srv": PROXY, "tgt": TARGET}
WINDOW = ("--max-data=128K", "--max-stream-data-bidi-local=128K")
FOLLOW = "--enable-server-migration"
DIALECTS = "draft-00", "rfc9298"


class MovesFaults(ProxyCase):
    SIZES = (MIB // 2, MIB // 2)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lossy = Site(cls.work / "lossy", MIB)

    # A bad network

    def network(self, way: tuple[Link, Link]) -> Wire:
        return Wire(HOSTS, {address: way for address in (*PROXY[1:], *TARGET)}, SEED,
                    self.work / f"{self._testMethodName}.trace")

    def both(self, wire: Wire, dialect: str, every: str = "", **how) -> Proxied:
        proxy, target = ([Addr(address, PORT) for address in addresses] for addresses in (PROXY[1:], TARGET))
        moves = [f"--migrate-every={every}"] if every else []
        return self.proxied(wire=wire, ring=tuple(proxy), target_addr=target[0], dialect=dialect,
                            proxy=("--connect-udp-allow=10.0.0.0/8", *moves),
                            target=(f"--alternate-addr={target[1]}", *moves), **how)

    def check_same(self, world: Proxied, client: Client, moves: int, forwarded: float) -> stats.Stats:
        """All has come, through the connections that there were; the client's own statistics."""
        outcome = client.finish()
        proxy, target = world.stop()
        self.check_forwarded(outcome, forwarded)
        self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))
        inner, outer = outcome.stats["server_migrations"], outcome.stats["proxy"]["server_migrations"]
        print(f"# the target has moved {inner} times, the proxy {outer} times, in {outcome.seconds:.1f} s", flush=True)
        self.assertGreaterEqual(min(inner, outer), moves)
        return outcome.stats

    def check_loss(self, dialect: str) -> None:
        """One packet in twenty is lost on each link, and as many are overtaken, while both move."""
        bad = Link(delay=3, loss=0.05, reorder=0.05, reorder_delay=8, rate=2 * MIB)
        with self.network((bad, bad)) as wire, self.both(wire, dialect, "150ms", site=self.lossy) as world:
            self.check_same(world, world.start(FOLLOW, *WINDOW), 1, 0.2)

    def check_dead(self, dialect: str) -> None:
        """Both announce another address; as soon as each is tried, nothing comes from the old one any more, nor goes to
        the proxy's."""
        way = Link(delay=3), Link(delay=3, rate=MIB)
        with self.network(way) as wire, self.both(wire, dialect) as world:
            client = world.start(FOLLOW, *WINDOW)
            client.wait_received(self.site.size // 4)
            wire.when(PROXY[2], f"blackhole {PROXY[1]} both on")
            wire.when(TARGET[1], f"blackhole {TARGET[0]} down on", "down")
            for program in (world.proxy, world.target):
                program.send_signal(signal.SIGUSR1)
            self.check_same(world, client, 1, 0.2)
            sent = [packet for packet in wire.trace() if packet.copies and packet.size >= 1000]
        for old, new, ours in ((PROXY[1], PROXY[2], CLIENT4), (TARGET[0], TARGET[1], PROXY[0])):
            last = [packet.source for packet in sent if packet.destination == ours and packet.source in (old, new)]
            self.assertEqual(last[-1], new)
            self.assertIn(old, last)

    # The proxy

    def check_restart(self, dialect: str) -> None:
        """It knows nothing of the connection that was to move: its client ends and says so, and others have theirs
        moved by it."""
        ring = tuple(net.free_addrs("127.0.0.5"))
        with self.proxied(ring=ring, proxy=(*ALLOW, "--migrate-every=100ms"), dialect=dialect) as world:
            client = world.start("--timeout=1s", site=self.endless)
            client.wait_received(MIB)
            while ring[0] not in client.program.udp_addrs(remote=True):
                client.wait_received(client.received() + 1)
            world.proxy.send_signal(signal.SIGKILL)
            world.proxy.wait(60)
            world.start_proxy()
            self.assertIn("proxy: ", client.fail())
            self.check_forwarded(world.start(*WINDOW).finish(), 0.5)
            proxy, _ = world.stop()
        self.assertEqual(proxy["connections"], 1)


for _dialect in DIALECTS:
    for _what in ("loss", "dead", "restart"):
        setattr(MovesFaults, f"test_{_dialect.replace('-', '_')}_{_what}",
                lambda self, dialect=_dialect, what=_what: getattr(self, f"check_{what}")(dialect))

if __name__ == "__main__":
    tap.main(MovesFaults)
