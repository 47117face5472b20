#!/usr/bin/env python3
"""Downloads through a proxy over bad networks, and while addresses and connection
IDs change and proxies die.

    tests/e2e/test_proxy_network.py --build DIR [--filter TEXT]

The relays decide by NGMASQUE_SEED, by default 1.
"""

import signal

import stats
import tap
from proxied import Client, Outcome, Proxied
from proxy_case import MIB, ProxyCase
from relay import Impairment
from transfer import Site

PLAIN = Impairment()
IMPAIRMENTS = {
    "loss": Impairment(loss=0.02),
    "delay": Impairment(delay=20),
    "duplication": Impairment(duplicate=0.05),
    "reordering": Impairment(reorder=0.05, reorder_delay=5),
    "rate": Impairment(rate=2_000_000, queue=64 << 10),
    "all": Impairment(delay=20, loss=0.02, duplicate=0.02, reorder=0.02, rate=2_000_000),
}
# Slow enough that something can be done in the middle of it
SLOW = Impairment(rate=4_000_000, queue=256 << 10)
# What a client may take to notice that its proxy is gone
TIMEOUT = ("--timeout=4s",)
# The target asks for other connection IDs, or uses them, after so many bytes.
EVERY = 256 << 10


class NetworkTest(ProxyCase):
    # Of the short headers, while the target changes connection IDs: how many packets a new one is
    # late for is a matter of the machine's speed
    FORWARDED_OF_NEW = 0.5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.small = Site(cls.work / "small", MIB)

    # Bad networks: the tests are made from IMPAIRMENTS

    def check_impaired(self, name: str, where: str, mode: str) -> None:
        bad = IMPAIRMENTS[name]
        with self.proxied(site=self.small, **{where: (bad, bad)}) as world:
            relay = world.front or world.back
            outcome = world.start(mode=mode).finish()
            counts = relay.counts()
            proxy, _ = world.stop()
            self.check_mode(mode, outcome, 0.5)
            self.assertEqual(proxy["proxy"]["refused"], {})
            # It was as bad as it should be.
            for way in ("up", "down"):
                self.assertGreater(counts[way]["sent"], 0)
            for effect, probability in (("lost", bad.loss), ("duplicated", bad.duplicate), ("reordered", bad.reorder)):
                self.assertEqual(counts["down"][effect] > 0, probability > 0, counts)

    # Connection IDs

    def test_new_server_ids(self):
        """The target issues new connection IDs and retires the old ones while the response is on
        its way: each is registered, and packets are forwarded with it."""
        with self.proxied(python_target=True, target=(f"--new-ids-every={EVERY}",)) as world:
            outcome = world.start().finish()
            proxy, target = world.stop()
        self.check_forwarded(outcome, self.FORWARDED_OF_NEW)
        self.check_proxy(proxy, outcome)
        self.assertGreaterEqual(target["rotations"], self.site.size // EVERY // 2)
        self.assertGreater(len(target["server_ids"]), target["rotations"])
        self.assertEqual(len(target["addresses"]), 1)
        self.assertEqual((outcome.stats["proxy"]["fallbacks"], proxy["proxy"]["refused"]), ({}, {}))

    def test_new_client_ids(self):
        """The target changes to other connection IDs of the client and retires the old ones, so
        that the client issues new ones: the proxy knows each before the target does."""
        with self.proxied(python_target=True, target=(f"--change-ids-every={EVERY}",)) as world:
            outcome = world.start().finish()
            proxy, target = world.stop()
        self.check_forwarded(outcome, self.FORWARDED_OF_NEW)
        self.check_proxy(proxy, outcome)
        # More than the client has issued when the handshake was over
        self.assertGreater(len(target["client_ids"]), 10)
        self.assertEqual(self.unknown_ids(proxy), 0, proxy["proxy"]["dropped"])
        self.assertEqual((outcome.stats["proxy"]["fallbacks"], proxy["proxy"]["refused"]), ({}, {}))

    def test_new_ids_tunnelled(self):
        """Both at once, and nothing is forwarded."""
        options = (f"--new-ids-every={EVERY}", f"--change-ids-every={EVERY}")
        with self.proxied(python_target=True, target=options) as world:
            outcome = world.start(mode="tunnel").finish()
            proxy, target = world.stop()
        self.check_tunnelled(outcome, fallbacks=False)
        self.assertGreater(target["rotations"], 0)
        self.assertGreater(len(target["client_ids"]), 10)
        self.assertEqual(self.unknown_ids(proxy), 0, proxy["proxy"]["dropped"])

    def test_new_ids_and_loss(self):
        """Both at once, requests and answers are lost as well."""
        bad = Impairment(delay=5, loss=0.02)
        options = (f"--new-ids-every={EVERY}", f"--change-ids-every={EVERY}")
        with self.proxied(python_target=True, target=options, site=self.small, front=(bad, bad)) as world:
            outcome = world.start().finish()
            proxy, target = world.stop()
        self.check(outcome)
        self.assertGreater(outcome.stats["proxy"]["forwarded_rx"]["packets"], 0)
        self.assertGreater(target["rotations"], 0)
        self.assertEqual(self.unknown_ids(proxy), 0, proxy["proxy"]["dropped"])

    @staticmethod
    def unknown_ids(proxy: stats.Stats) -> int:
        """Packets of a target with a connection ID that was not registered."""
        return sum(count for reason, count in proxy["proxy"]["dropped"].items() if "connection id" in reason.lower())

    # Addresses

    def half_way(self, world: Proxied, client: Client) -> None:
        """Waits until some of the file has arrived, and makes sure that not all of it has."""
        client.wait_received(self.site.size // 4)
        self.assertLess(client.received(), self.site.size)

    def check_rebinding(self, mode: str) -> Outcome:
        """The client's address changes on its way to the proxy, of which it knows nothing."""
        with self.proxied(front=(PLAIN, SLOW)) as world:
            client = world.start(mode=mode)
            self.half_way(world, client)
            world.front.rebind()
            outcome = client.finish()
            proxy, target = world.stop()
        self.check_mode(mode, outcome, 0.5)
        self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))
        self.assertEqual(len(stats.by_server_address(proxy, "remote", "packets_received")), 2)
        # The target has not noticed.
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), 1)
        return outcome

    def test_rebinding_tunnelled(self):
        self.check_rebinding("tunnel")

    def test_rebinding_forwarded(self):
        """The proxy does not know where the packets come from that are forwarded to it; the client
        notices, long before the outer connection's next keep-alive."""
        outcome = self.check_rebinding("forward")
        self.assertLess(outcome.stats["longest_gap_ms"], 5_000, "half of the time between keep-alives")

    def check_change_of_address(self, mode: str, *options: str) -> None:
        """The client moves its outer connection to another socket."""
        with self.proxied(front=(PLAIN, SLOW)) as world:
            outcome = world.start("--change-local-addr=300ms", *options, mode=mode).finish()
            self.assertEqual(world.front.counts()["clients"], 2, "it has changed its address")
            proxy, target = world.stop()
        self.check_mode(mode, outcome, 0.5)
        self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), 1)

    def test_change_of_address_tunnelled(self):
        self.check_change_of_address("tunnel")

    def test_change_of_address_forwarded(self):
        self.check_change_of_address("forward")

    def test_change_of_address_without_validation(self):
        self.check_change_of_address("forward", "--nat-rebinding")

    def check_rebinding_behind(self, mode: str) -> None:
        """The proxy's address changes on its way to the target, which then uses another connection
        ID of the client."""
        with self.proxied(back=(PLAIN, SLOW)) as world:
            client = world.start(mode=mode)
            self.half_way(world, client)
            world.back.rebind()
            outcome = client.finish()
            proxy, target = world.stop()
        self.check_mode(mode, outcome, 0.9)
        self.assertEqual(target["connections"], 1)
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), 2)
        self.assertEqual(self.unknown_ids(proxy), 0, proxy["proxy"]["dropped"])

    def test_rebinding_behind_tunnelled(self):
        self.check_rebinding_behind("tunnel")

    def test_rebinding_behind_forwarded(self):
        self.check_rebinding_behind("forward")

    # Proxies that go away

    def check_notices(self, client: Client) -> None:
        """It ends by itself, and what it says is about the proxy."""
        text = client.fail()
        self.assertIn("proxy", text.lower())

    def check_proxy_killed(self, mode: str, again: bool) -> None:
        with self.proxied() as world:
            client = world.start(*TIMEOUT, mode=mode, site=self.endless)
            client.wait_received(MIB)
            world.proxy.send_signal(signal.SIGKILL)
            world.proxy.wait(60)
            if again:
                world.start_proxy()
            self.check_notices(client)
            if again:  # it is fine for others
                self.check_forwarded(world.start().finish())
                world.stop()

    def test_proxy_killed_tunnelled(self):
        self.check_proxy_killed("tunnel", again=False)

    def test_proxy_killed_forwarded(self):
        self.check_proxy_killed("forward", again=False)

    def test_proxy_restarted_tunnelled(self):
        self.check_proxy_killed("tunnel", again=True)

    def test_proxy_restarted_forwarded(self):
        self.check_proxy_killed("forward", again=True)

    def test_proxy_stopped(self):
        """A proxy that ends in order tells its clients."""
        with self.proxied() as world:
            client = world.start("--timeout=300s", site=self.endless)
            client.wait_received(MIB)
            world.stop()
            self.check_notices(client)

    def check_black_hole(self, way: str) -> None:
        """Nothing gets through to the proxy, or from it, any more."""
        with self.proxied(front=(PLAIN, PLAIN)) as world:
            client = world.start(*TIMEOUT, site=self.endless)
            client.wait_received(MIB)
            world.front.blackhole(way)
            self.check_notices(client)
            world.stop()

    def test_black_hole_to_proxy(self):
        self.check_black_hole("up")

    def test_black_hole_from_proxy(self):
        self.check_black_hole("down")

    def test_target_killed(self):
        """The proxy and its other clients live on."""
        with self.proxied() as world:
            client = world.start(*TIMEOUT, site=self.endless)
            client.wait_received(MIB)
            world.target.send_signal(signal.SIGKILL)
            world.target.wait(60)
            client.fail()
            world.start_target()
            self.check_forwarded(world.start().finish())
            world.stop()


def _add(name: str, where: str, mode: str) -> None:
    def test(self):
        self.check_impaired(name, where, mode)
    how = {"tunnel": "tunnelled", "forward": "forwarded"}[mode]
    setattr(NetworkTest, f"test_{name}_{'before' if where == 'front' else 'behind'}_proxy_{how}", test)


for _name in IMPAIRMENTS:
    for _where in ("front", "back"):
        for _mode in ("tunnel", "forward"):
            _add(_name, _where, _mode)


if __name__ == "__main__":
    tap.main(NetworkTest)
