#!/usr/bin/env python3
"""Downloads through two proxies, one behind the other: what the second one forwards, the first one
forwards as well.

    tests/e2e/test_two_hops.py --build DIR [--filter TEXT]
"""

import signal

import net
import stats
import tap
from procs import Program, sanitized
from proxied import Outcome
from proxy_case import MIB, SEED, ProxyCase
from relay import Impairment
from transfer import Site
from two_hops import SECOND, TARGET, TwoHops, allow

# Of the first proxy and of the second one
DIALECTS = {"draft_00": ("draft-00", "draft-00"), "rfc9298": ("rfc9298", "rfc9298"),
            "rfc9298_first": ("rfc9298", "draft-00"), "draft_00_first": ("draft-00", "rfc9298")}
# Each of them in both places
MIXED = ("rfc9298_first", "draft_00_first")
# Of the short headers of each direction, and at the first proxy of all of its packets
FORWARDED = 0.9
# So slow that the first proxy knows all connection IDs long before the end
WAY = (Impairment(), Impairment(rate=10_000_000, queue=1 << 20))
# ... and so much on its way that nothing is lost when the client moves
WINDOW = ("--max-data=256K", "--max-stream-data-bidi-local=256K")


# In bytes a second: time for several moves
RATE = 4_000_000
SLOW = (Impairment(), Impairment(rate=RATE, queue=1 << 20))
# Where the second proxy moves to
NEXT = "127.0.0.5", "127.0.0.6"


class TwoHopsCase(ProxyCase):
    SIZES = (4 * MIB, 3 * MIB)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # With the sanitizers moves are slower, and there have to be some.
        cls.lasting = Site(cls.work / "lasting", (12 if sanitized(cls.build) else 4) * MIB)
        cls.large = Site(cls.work / "large", (96 if sanitized(cls.build) else 48) * MIB)

    def hops(self, **how) -> TwoHops:
        run = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        run.mkdir()
        return TwoHops(self.build, how.pop("site", self.site), run, seed=SEED, **how)

    def check_forwarded_twice(self, outcome: Outcome, first: stats.Stats, least: float = FORWARDED) -> None:
        self.check_forwarded(outcome, least)
        for way, back in (("tx", "rx"), ("rx", "tx")):
            inner = outcome.stats["proxy"][f"forwarded_{way}"]["packets"]
            via = outcome.stats["via"][f"forwarded_{way}"]["packets"]
            self.assertGreater(via, least * inner, f"{way}: {outcome.stats}")
            # ... and the first proxy says so, too; what it has sent may have been lost.
            self.assertGreater(first["proxy"][f"forwarded_{back}"]["packets"], least * inner, first["proxy"])

    def check_through(self, name: str, mode: str) -> None:
        with self.hops(way=WAY if mode == "forward" else None) as world:
            outcome = world.start_through(DIALECTS[name], mode=mode).finish()
            first, second, target = world.stop_all()
        via, proxy = outcome.stats["via"], outcome.stats["proxy"]
        self.assertEqual((via["dialect"], proxy["dialect"]), DIALECTS[name])
        self.check_mode(mode, outcome, FORWARDED)
        self.assertEqual((via["fallbacks"], proxy["fallbacks"]), ({}, {}))
        if mode == "forward":
            self.check_forwarded_twice(outcome, first)
        else:
            self.assertEqual((via["forwarded_tx"]["packets"], via["forwarded_rx"]["packets"]), (0, 0))
        # One connection each, from the client to the first one, and to whom it has that through.
        self.assertEqual([s["proxy"]["connections"] for s in (first, second)], [1, 1])
        self.assertEqual([s["proxy"]["refused"] for s in (first, second)], [{}, {}])
        self.assertEqual(target["connections"], 1)
        clients, seen_by_second, seen_by_target = (
            set(stats.by_server_address(s, "remote", "packets_received")) for s in (first, second, target))
        self.assertEqual([len(s) for s in (clients, seen_by_second, seen_by_target)], [1, 1, 1])
        self.assertFalse(clients & seen_by_second | clients & seen_by_target | seen_by_second & seen_by_target)

    def check_moves(self, name: str, *options: str, rebind: bool = False) -> None:
        """The client's address changes: for the second proxy and the target it stays where it is."""
        with self.hops(way=WAY) as world:
            client = world.start_through(DIALECTS[name], *WINDOW, *options)
            if rebind:
                client.wait_received(self.site.size // 4)
                self.assertLess(client.received(), self.site.size)
                world.way.rebind()
            outcome = client.finish()
            first, second, target = world.stop_all()
        self.check_forwarded_twice(outcome, first, 0.7)
        seen = [len(stats.by_server_address(s, "remote", "packets_received")) for s in (first, second, target)]
        self.assertEqual(seen, [2, 1, 1])
        self.assertLess(outcome.stats["longest_gap_ms"], 5_000, "half of the time between keep-alives")

    def check_loss(self, name: str) -> None:
        """Of what is asked for, and of what is forwarded."""
        lossy = Impairment(loss=0.02)
        with self.hops(way=(lossy, lossy)) as world:
            outcome = world.start_through(DIALECTS[name]).finish()
            first, _, _ = world.stop_all()
        self.check(outcome)
        for way in ("tx", "rx"):
            self.assertGreater(stats.forwarded_share(outcome.stats, way), 0.5, outcome.stats)
            self.assertGreater(outcome.stats["via"][f"forwarded_{way}"]["packets"], 0, outcome.stats)

    def test_identity_behind_scrambled(self):
        """The second one leaves packets as they are, and the first one does not."""
        with self.hops(way=WAY) as world:
            outcome = world.start_through(DIALECTS["rfc9298"], "--proxy-transform=identity").finish()
            self.check_forwarded_twice(outcome, world.stop_all()[0])

    def test_first_tunnels(self):
        """Only the second one forwards: nothing of that is lost at the first one."""
        for name in MIXED:
            with self.hops() as world:
                outcome = world.start_through(DIALECTS[name], first_mode="tunnel").finish()
                world.stop_all()
            self.check_forwarded(outcome, FORWARDED)
            via = outcome.stats["via"]
            self.assertEqual((via["forwarded_tx"]["packets"], via["forwarded_rx"]["packets"]), (0, 0))
            self.assertGreaterEqual(via["tunnelled_rx"]["packets"], outcome.stats["proxy"]["forwarded_rx"]["packets"])

    def test_connection_ids_change(self):
        """The target changes its connection IDs, and has the client change its own: all of them are
        asked for at both proxies."""
        with self.hops(way=WAY, python_target=True, target=(f"--new-ids-every={1 << 20}",)) as world:
            outcome = world.start_through(DIALECTS["rfc9298"], *WINDOW).finish()
            first, _, _ = world.stop_all()
        self.check_forwarded_twice(outcome, first, 0.3)
        self.assertEqual((outcome.stats["via"]["fallbacks"], outcome.stats["proxy"]["fallbacks"]), ({}, {}))

    def test_target_moves(self):
        """There is a tunnel of the second one to each of its addresses, with the same connection IDs of
        the client."""
        other, = net.free_addrs("127.0.0.4")
        moving = (f"--alternate-addr={other}", "--migrate-every=50ms")
        for name in MIXED:
            with self.hops(way=SLOW, proxy=allow(TARGET) + allow(other.host), target=moving) as world:
                outcome = world.start_through(DIALECTS[name], *WINDOW, "--enable-server-migration").finish()
                first, second, target = world.stop_all()
            self.check_forwarded_twice(outcome, first, 0.5)
            self.assertGreaterEqual(min(outcome.stats["server_migrations"], target["server_migrations"]), 1)
            self.assertEqual((first["proxy"]["flows"], second["proxy"]["flows"]), (1, 2))

    def check_all_stay(self, outcome: Outcome, *ends: stats.Stats) -> None:
        """Nothing was refused, given up, or connected anew."""
        self.assertEqual((outcome.stats["via"]["fallbacks"], outcome.stats["proxy"]["fallbacks"]), ({}, {}))
        self.assertEqual([end["proxy"]["refused"] for end in ends[:2]], [{}, {}])
        self.assertEqual([end["connections"] for end in ends], [1, 1, 1])

    def check_second_moves(self, name: str) -> None:
        """The client follows it through a tunnel of the first one to each of its addresses; those are known when it
        is back."""
        ring = tuple(net.free_addrs(*NEXT))
        with self.hops(way=SLOW, site=self.lasting, first=allow(SECOND, *NEXT), ring=ring,
                       proxy=(*allow(TARGET), f"--migrate-every={300 if sanitized(self.build) else 60}ms")) as world:
            client = world.start_through(DIALECTS[name], *WINDOW, staying=True)
            client.wait_all()
            # The client's own packets go to the first one alone, ...
            self.assertEqual(client.program.udp_addrs(remote=True), {world.first_seen})
            at_first = {str(addr) for addr in world.first.udp_addrs()}
            outcome = client.leave()
            first, second, target = world.stop_all()
        # What goes to the second one's next address is asked for at the first one.
        self.check_forwarded_twice(outcome, first, 0.3)
        self.check_all_stay(outcome, first, second, target)
        self.assertGreaterEqual(min(outcome.stats["proxy"]["server_migrations"], second["server_migrations"]), 2)
        self.assertEqual(outcome.stats["via"]["server_migrations"], 0)
        self.assertLessEqual(first["proxy"]["flows"], 1 + len(NEXT))
        # ... and the second one has seen none of them.
        self.assertLessEqual(set(stats.by_server_address(second, "remote", "packets_received")), at_first)
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), 1)

    def check_all_move(self, name: str) -> None:
        """The first one, the second one and the target, each by a clock of its own."""
        # No faster than connection IDs can be registered with the sanitizers
        slow = sanitized(self.build)
        first_ring, ring, others = (tuple(net.free_addrs(host)) for host in ("127.0.0.7", NEXT[0], "127.0.0.4"))
        every = [f"--migrate-every={time}ms" for time in ((370, 310, 250) if slow else (35, 30, 25))]
        with self.hops(first=(*allow(SECOND, NEXT[0]), every[0]), first_ring=first_ring,
                       proxy=(*allow(TARGET, others[0].host), every[1]), ring=ring, site=self.large,
                       target=(f"--alternate-addr={others[0]}", every[2])) as world:
            outcome = world.start_through(DIALECTS[name], "--enable-server-migration").finish()
            first, second, target = world.stop_all()
        self.check_forwarded_twice(outcome, first, 0.3)
        self.check_all_stay(outcome, first, second, target)
        moves = [outcome.stats[which]["server_migrations"] for which in ("via", "proxy")]
        moves.append(outcome.stats["server_migrations"])
        print(f"# {name}: moves of the first one, the second one, the target: {moves}, in {outcome.seconds:.1f} s",
              flush=True)
        self.assertGreaterEqual(min(moves), 1)

    def test_second_moves_where_it_is_not_allowed(self):
        for name in MIXED:
            with self.hops(way=WAY, ring=tuple(net.free_addrs(NEXT[0])),
                           proxy=(*allow(TARGET), "--migrate-every=100ms")) as world:
                outcome = world.start_through(DIALECTS[name], *WINDOW).finish()
                first, second, _ = world.stop_all()
            self.check_forwarded_twice(outcome, first)
            self.assertEqual((outcome.stats["proxy"]["server_migrations"], second["server_migrations"]), (0, 0))
            self.assertEqual(self.refused(first, 403), 1)

    def test_two_clients(self):
        """On the same sockets of both proxies."""
        with self.hops() as world:
            for outcome in self.all_hold([world.start_through(DIALECTS["rfc9298"], staying=True) for _ in range(2)]):
                self.check_forwarded(outcome, 0.5)
            first, second, target = world.stop_all()
        self.assertEqual([s["proxy"]["sockets"] for s in (first, second)], [1, 1])
        self.assertEqual(target["connections"], 2)

    def fails(self, world: TwoHops, name: str, *words: str, **how) -> None:
        said = world.start_through(DIALECTS[name], **how).fail()
        for word in words:
            self.assertIn(word, said)

    def test_first_refuses(self):
        for name in MIXED:
            with self.hops(first=allow("127.0.0.9")) as world:
                self.fails(world, name, f"proxy: {world.proxy_addr.host}:{world.proxy_addr.port}: by way of another proxy",
                           "403")
                first, second, target = world.stop_all()
            self.assertEqual(self.refused(first, 403), 1)
            self.assertEqual((second["connections"], target["connections"]), (0, 0))

    def test_second_refuses(self):
        for name in MIXED:
            with self.hops(proxy=allow("127.0.0.9")) as world:
                self.fails(world, name, f"proxy: {world.target_addr}: ", "403")
                first, second, target = world.stop_all()
            self.assertEqual((self.refused(first, 403), self.refused(second, 403)), (0, 1))
            self.assertEqual(target["connections"], 0)

    def kill(self, program: Program) -> None:
        program.send_signal(signal.SIGKILL)
        program.wait(60)

    def test_first_is_not_there(self):
        with self.hops() as world:
            self.kill(world.first)
            self.fails(world, "rfc9298", f"proxy-via: {world.first_addr.host}:{world.first_addr.port}: ", "refused")

    def test_second_is_not_there(self):
        for name in MIXED:
            with self.hops() as world:
                self.kill(world.proxy)
                self.fails(world, name, "by way of another proxy: the target refuses packets")

    def check_killed(self, name: str, which: str, word: str) -> None:
        """... in the middle of it: the client ends, and says which one is silent."""
        with self.hops(site=self.endless, way=WAY) as world:
            client = world.start_through(DIALECTS[name], "--timeout=1s")
            client.wait_received(MIB)
            self.kill(getattr(world, which))
            self.assertIn(word.format(first=world.first_seen, proxy=world.proxy_addr), client.fail())

    def test_first_is_killed(self):
        self.check_killed("rfc9298", "first", "proxy-via: nothing has come from {first}")

    def test_second_is_killed(self):
        self.check_killed("rfc9298_first", "proxy", "proxy: nothing has come from {proxy}")

    def test_moves(self):
        self.check_moves("rfc9298", "--change-local-addr=100ms")


def _add(name: str, mode: str) -> None:
    setattr(TwoHopsCase, f"test_{name}_{mode}", lambda self: self.check_through(name, mode))


for _name in DIALECTS:
    for _mode in ("forward", "tunnel"):
        _add(_name, _mode)
    for _who in ("second", "all"):
        setattr(TwoHopsCase, f"test_{_name}_{_who}_moves",
                lambda self, name=_name, check=f"check_{'all_move' if _who == 'all' else 'second_moves'}":
                getattr(self, check)(name))
for _name in ("draft_00", "rfc9298"):
    setattr(TwoHopsCase, f"test_{_name}_rebinding", lambda self, name=_name: self.check_moves(name, rebind=True))
    setattr(TwoHopsCase, f"test_{_name}_loss", lambda self, name=_name: self.check_loss(name))

if __name__ == "__main__":
    tap.main(TwoHopsCase)
