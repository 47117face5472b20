#!/usr/bin/env python3
"""Downloads through a proxy from a target that moves: its client reaches each of its addresses
through a tunnel of its own, and never in another way.

    tests/e2e/test_target_moves.py --build DIR [--filter TEXT]

The relays decide by NGMASQUE_SEED, by default 1.
"""

import signal

import deaf
import net
import stats
import tap
import timeline
from procs import sanitized
from proxied import ALLOW, Client, Outcome, Proxied
from proxy_case import MIB, ProxyCase
from relay import Impairment
from transfer import Site

DIALECTS = "rfc9298", "draft-00"
FOLLOW = "--enable-server-migration"
PLAIN = Impairment()
# Slow enough for many moves
SLOW = Impairment(rate=6_000_000, queue=256 << 10)
# As many as PathTunnels keeps, and a socket on which clients are served
SOCKETS = 6 + 1


class TargetMoves(ProxyCase):
    SIZES = (8 * MIB, 8 * MIB)

    def moving(self, *hosts: str, every: str = "40ms", **how) -> Proxied:
        """The target is at 127.0.0.2, and moves among that and `hosts`."""
        self.alternates = net.free_addrs(*hosts)
        options = (*(f"--alternate-addr={addr}" for addr in self.alternates),
                   *([f"--migrate-every={every}"] if every else []))
        how.setdefault("front", (PLAIN, SLOW))
        return self.proxied(target=(*options, *how.pop("target", ())), **how)

    def finish(self, world: Proxied, client: Client,
               ring: tuple[net.Addr, ...] = ()) -> tuple[Outcome, stats.Stats, stats.Stats]:
        """The end of a client that stays until it has been looked at; the proxy moves in the `ring`."""
        client.wait_all()
        # Its own packets go to the proxy alone, ...
        self.assertLessEqual(client.program.udp_addrs(remote=True), {world.proxy_seen, *ring})
        at_proxy = world.proxy.udp_addrs()
        outcome = client.leave()
        proxy, target = world.stop()
        # ... and the target has seen none of them.  (Where both move the proxy may have closed some.)
        seen = set(stats.by_server_address(target, "remote", "packets_received"))
        if not ring:
            self.assertLessEqual(seen, {str(addr) for addr in at_proxy if addr != world.proxy_addr})
        self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))
        return outcome, proxy, target

    def check_moves(self, outcome: Outcome, target: stats.Stats, least: int) -> None:
        moves = outcome.stats["server_migrations"], target["server_migrations"]
        self.assertGreaterEqual(min(moves), least)
        # A round trip may be longer than it stays anywhere: one side may skip what the other does not.
        self.assertLessEqual(max(moves), 4 * min(moves) + 8)

    def check_ring(self, mode: str, least: int = 10, forwarded: float = 0.9, **how) -> None:
        for dialect in DIALECTS:
            with self.subTest(dialect), self.moving("127.0.0.3", "127.0.0.4", dialect=dialect, **how) as world:
                outcome, proxy, target = self.finish(world, world.start(FOLLOW, mode=mode, staying=True))
                self.check_mode(mode, outcome, forwarded)
                self.check_moves(outcome, target, least)
                # Known addresses keep their tunnels: a move among them costs no request.
                self.assertEqual(proxy["proxy"]["flows"], 3)
                self.assertEqual(proxy["proxy"]["refused"], {})
                used = stats.by_server_address(target, "local", "packets_received")
                self.assertEqual(set(used), {str(addr) for addr in (world.target_addr, *self.alternates)})

    def test_forwarded(self):
        self.check_ring("forward")

    def test_tunnelled(self):
        self.check_ring("tunnel")

    def test_loss(self):
        bad = Impairment(delay=5, loss=0.02, reorder=0.02, reorder_delay=5, rate=4_000_000, queue=256 << 10)
        self.check_ring("forward", least=2, forwarded=0.5, front=(bad, bad), every="100ms")

    def test_rebinding(self):
        """A NAT gives the client other ports while the target moves."""
        for dialect in DIALECTS:
            with self.subTest(dialect), self.moving("127.0.0.3", dialect=dialect) as world:
                client = world.start(FOLLOW, staying=True)
                for part in range(1, 4):
                    client.wait_received(part * self.site.size // 4)
                    world.front.rebind()
                outcome, _, target = self.finish(world, client)
                self.check(outcome)
                self.check_moves(outcome, target, 2)

    def test_other_family(self):
        if not net.has_ipv6():
            self.skipTest("no IPv6 loopback address")
        for dialect in DIALECTS:
            with self.subTest(dialect), self.moving("::1", dialect=dialect) as world:
                outcome, proxy, target = self.finish(world, world.start(FOLLOW, staying=True))
                self.check_forwarded(outcome, 0.9)
                self.check_moves(outcome, target, 4)
                self.assertEqual(proxy["proxy"]["flows"], 2)

    def test_preferred_address(self):
        """Followed by a client that knows nothing of the extension, too."""
        for dialect in DIALECTS:
            preferred, = net.free_addrs("127.0.0.3")
            options = (f"--preferred-ipv4-addr={preferred}",)
            with self.subTest(dialect), self.proxied(target=options, dialect=dialect, front=(PLAIN, SLOW)) as world:
                outcome, proxy, target = self.finish(world, world.start(staying=True))
                self.check_forwarded(outcome, 0.9)
                self.assertEqual(proxy["proxy"]["flows"], 2)
                sent = stats.by_server_address(target, "local", "bytes_sent")
                self.assertGreater(sent[str(preferred)], 0)

    def test_not_wanted(self):
        with self.moving("127.0.0.3", dialect="rfc9298") as world:
            outcome, proxy, target = self.finish(world, world.start(staying=True))
            self.check_forwarded(outcome)
            self.assertEqual((proxy["proxy"]["flows"], target["server_migrations"]), (1, 0))

    def test_both(self):
        """The proxy moves as well, and what ci/migration-plot draws of that agrees with the statistics."""
        # No faster than connection IDs can be registered with the sanitizers
        slow = sanitized(self.build)
        every, proxy_every = ("150ms", "200ms") if slow else ("15ms", "20ms")
        site = Site(self.work / "large", (16 if slow else 32) * MIB)
        for dialect in DIALECTS:
            ring = tuple(net.free_addrs("127.0.0.5", "127.0.0.6"))
            with (self.subTest(dialect),
                  self.moving("127.0.0.3", "127.0.0.4", every=every, dialect=dialect, site=site, front=None, ring=ring,
                              proxy=(*ALLOW, f"--migrate-every={proxy_every}"), qlog=True) as world):
                client = world.start(FOLLOW, staying=True)
                outcome, proxy, target = self.finish(world, client, ring)
                self.check(outcome)
                self.check_moves(outcome, target, 1)
                moves = outcome.stats["proxy"]["server_migrations"]
                self.assertGreaterEqual(min(moves, proxy["server_migrations"]), 1)
                data = timeline.read(client.run / "qlog", world.run / "target-qlog", client.run / "proxy-qlog")
                self.assertEqual((len(data.moves), len(data.outer)),
                                 (outcome.stats["server_migrations"] + 1, moves + 1))
                self.assertLessEqual({addr for _, addr in data.outer}, {world.proxy_addr, *ring})

    # Where it cannot move to

    def check_stays(self, world: Proxied, client: Client, refused: dict[str, int]) -> None:
        """All comes from the first address."""
        outcome, proxy, target = self.finish(world, client)
        self.check_forwarded(outcome, 0.9)
        self.assertEqual((outcome.stats["server_migrations"], target["server_migrations"]), (0, 0))
        self.assertEqual(proxy["proxy"]["refused"], refused)
        self.assertEqual(proxy["connections"], 1)

    def test_policy(self):
        """The proxy may not go to the new address: once it is asked, and the old path goes on."""
        for dialect in DIALECTS:
            with (self.subTest(dialect),
                  self.moving("127.0.0.3", dialect=dialect, proxy=("--connect-udp-allow=127.0.0.2/32",)) as world):
                self.check_stays(world, world.start(FOLLOW, staying=True), {"403": 1})

    def test_limit(self):
        """One flow is all that the client may have."""
        for dialect in DIALECTS:
            with (self.subTest(dialect),
                  self.moving("127.0.0.3", dialect=dialect,
                              proxy=(*ALLOW, "--connect-udp-max-flows-per-client=1")) as world):
                self.check_stays(world, world.start(FOLLOW, staying=True), {"429": 1})

    def test_dead_address(self):
        """The new address does not answer, and the old path goes on."""
        for dialect in DIALECTS:
            with self.subTest(dialect), self.moving("127.0.0.3", dialect=dialect, every="") as world:
                try:
                    deaf.deafen(world.target.pid, self.alternates[0])
                except deaf.NotPermitted as err:
                    self.skipTest(str(err))
                client = world.start(FOLLOW, staying=True)
                client.wait_received(1)
                world.target.send_signal(signal.SIGUSR1)
                self.check_stays(world, client, {})

    def test_many_addresses(self):
        """A target that is never twice at the same address costs the proxy no more sockets than
        any other that moves."""
        for dialect in DIALECTS:
            options = ("--alternate-prefix=127.1.0.0/16", "--migrate-every=40ms")
            slow = PLAIN, Impairment(rate=4_000_000, queue=32 << 10)
            with (self.subTest(dialect),
                  self.moving(every="", dialect=dialect, target=options, front=slow) as world):
                client = world.start(FOLLOW, staying=True)
                most = 0
                for part in range(1, 30):
                    client.wait_received(part * self.site.size // 30)
                    most = max(most, len(world.proxy.udp_addrs()))
                client.wait_all()
                outcome = client.leave()
                proxy, target = world.stop()
                self.check(outcome)
                self.check_moves(outcome, target, 10)
                self.assertGreater(proxy["proxy"]["accepted"], SOCKETS)
                self.assertLessEqual(most, SOCKETS + 1)  # one may be closing
                self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))


if __name__ == "__main__":
    tap.main(TargetMoves)
