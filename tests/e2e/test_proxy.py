#!/usr/bin/env python3
"""Downloads through a proxy, tunnelled and forwarded, and what a client does when
the proxy refuses.

    tests/e2e/test_proxy.py --build DIR [--filter TEXT]
"""

import signal
import socket
import time
import unittest

import certs
import net
import qlog
import stats
import tap
from procs import crash_report, run
from proxied import ALLOW, Client, Outcome
from proxy_case import MIB, ProxyCase
from relay import Impairment
from udp_target import Target

MODES = ("tunnel", "forward")
CLIENTS = 10
# Of proxy and target
HOSTS = (("127.0.0.1", "127.0.0.2"), *((("::1", "::1"),) if net.has_ipv6() else ()))


class ProxyTest(ProxyCase):
    def download(self, *options: str, mode: str = "forward", **how) -> tuple[Outcome, stats.Stats, stats.Stats]:
        """One download; what client, proxy and target count."""
        with self.proxied(**how) as world:
            outcome = world.start(*options, mode=mode).finish()
            return outcome, *world.stop()

    def refusal(self, client: Client, *words: str) -> None:
        """The client gives up, says so in one line, and nothing has been written."""
        lines = [line for line in client.fail().splitlines() if line.startswith("proxy: ")]
        self.assertEqual(len(lines), 1, client.program.log.read_text())
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(client.received(), 0)

    # Both modes

    def test_direct(self):
        """Without a proxy, for comparison: the options change nothing."""
        with self.proxied() as world:
            self.assertTrue(world.start(mode=None).finish(proxied=False).sha256_ok)
            proxy, target = world.stop()
            self.assertEqual(proxy["connections"], 0)
            self.assertEqual(target["connections"], 1)

    def test_tunnelled(self):
        outcome, proxy, target = self.download(mode="tunnel")
        self.check_tunnelled(outcome, fallbacks=False)
        self.check_proxy(proxy, outcome)
        self.assertEqual(proxy["proxy"]["refused"], {})
        self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))
        # All of the content has come this way.
        self.assertGreater(outcome.stats["proxy"]["tunnelled_rx"]["bytes"], self.site.size)

    def test_forwarded(self):
        with self.proxied() as world:
            outcome = world.start().finish()
            proxy, target = world.stop()
        self.check_forwarded(outcome)
        self.check_proxy(proxy, outcome)
        for way in ("tx", "rx"):
            self.assertGreaterEqual(stats.forwarded_share(proxy, way), 0.95, proxy["proxy"])
        self.assertEqual(outcome.stats["proxy"]["fallbacks"], {})
        self.assertEqual(proxy["proxy"]["refused"], {})
        self.assertEqual(target["connections"], 1)

    def test_target_does_not_see_client(self):
        """The target has one peer, and that is not an address of the client."""
        for mode in MODES:
            _, proxy, target = self.download(mode=mode)
            client = set(stats.by_server_address(proxy, "remote", "packets_received"))
            seen = set(stats.by_server_address(target, "remote", "packets_received"))
            self.assertEqual((len(client), len(seen)), (1, 1))
            self.assertFalse(seen & client)

    @unittest.skipUnless(net.has_ipv6(), "no IPv6 loopback address")
    def test_ipv6_proxy(self):
        for mode in MODES:
            self.check(self.download(mode=mode, hosts=("::1", "127.0.0.2"))[0])

    @unittest.skipUnless(net.has_ipv6(), "no IPv6 loopback address")
    def test_ipv6_target(self):
        for mode in MODES:
            self.check(self.download(mode=mode, hosts=("127.0.0.1", "::1"))[0])

    def test_name(self):
        """The proxy resolves it."""
        first = socket.getaddrinfo("localhost", 443, type=socket.SOCK_DGRAM)[0][4][0]
        with self.proxied(hosts=("127.0.0.1", first)) as world:
            self.check_forwarded(world.start(host="localhost").finish())
            world.stop()

    def test_ca(self):
        """With --proxy-ca the proxy has to have a certificate of that authority."""
        with self.proxied() as world:
            other = world.run / "other"
            other.mkdir()
            self.check(world.start(f"--proxy-ca={self.site.certificate.cert}", "--proxy-sni=localhost").finish())
            for options in ((f"--proxy-ca={certs.make(other).cert}", "--proxy-sni=localhost"),
                            (f"--proxy-ca={self.site.certificate.cert}", "--proxy-sni=other.example")):
                self.assertIn("proxy", world.start(*options).fail().lower())
            world.stop()

    def test_qlog(self):
        """The outer connection has a qlog of its own."""
        with self.proxied(qlog=True) as world:
            client = world.start()
            self.check(client.finish())
            world.stop()
            datagrams = {name: qlog.frames(qlog.read(path), "transport:packet_sent")["datagram"] for name, path in (
                ("inner", client.run / "qlog"), ("outer", client.run / "proxy-qlog"),
                ("target", world.run / "target-qlog"), ("proxy", world.run / "proxy-qlog"))}
        self.assertEqual((datagrams["inner"], datagrams["target"]), (0, 0))
        self.assertGreater(datagrams["outer"], 0)
        self.assertGreater(datagrams["proxy"], 0)

    def test_version_2(self):
        """A proxy needs to know nothing of the inner connection's version."""
        for mode in MODES:
            outcome, *_ = self.download("--version=0x6b3343cf", mode=mode)
            self.check(outcome)
            if mode == "forward":
                self.check_forwarded(outcome)

    def test_key_update(self):
        """Which changes a bit of short headers"""
        self.check_forwarded(self.download("--key-update=20ms")[0])

    # Sizes

    def test_ethernet(self):
        """On a path for 1500 bytes a way is found for the first flight of 1200 bytes, both ways."""
        ways = {("127.0.0.1", "127.0.0.2"): 1472}
        if net.has_ipv6():
            ways["::1", "127.0.0.2"] = 1452
        for hosts, payload in ways.items():
            path = Impairment(mtu=payload), Impairment(mtu=payload)
            for mode in MODES:
                self.check(self.download(mode=mode, hosts=hosts, front=path)[0])

    def test_narrow_behind(self):
        """The inner connection finds out what fits behind the proxy."""
        narrow = Impairment(mtu=1300)
        outcome, *_ = self.download(back=(narrow, narrow))
        self.check_forwarded(outcome)
        forwarded = outcome.stats["proxy"]["forwarded_rx"]
        self.assertLessEqual(forwarded["bytes"], 1300 * forwarded["packets"])

    def test_path_mtu(self):
        """Packets of the inner connection become larger than 1200 bytes once they are forwarded."""
        path = Impairment(mtu=1472), Impairment(mtu=1472)
        with self.proxied(qlog=True, front=path) as world:
            outcome = world.start().finish()
            self.check_forwarded(outcome)
            world.stop()
            lengths = [event["data"]["raw"]["length"] for event in qlog.read(world.run / "target-qlog")
                       if event["name"] == "transport:packet_sent"]
        self.assertGreater(max(lengths), 1200)
        forwarded = outcome.stats["proxy"]["forwarded_rx"]
        self.assertGreater(forwarded["bytes"], 1200 * forwarded["packets"], forwarded)

    def test_too_large(self):
        """What does not fit the outer datagram is dropped and counted, and all arrives: whole."""
        outcome, proxy, _ = self.download(mode="tunnel", target=("--pmtud-probes=1472",))
        self.check_tunnelled(outcome, fallbacks=False)
        self.assertGreater(sum(proxy["proxy"]["dropped"].values()), 0)

    # Refusals

    def test_forwarding_off(self):
        outcome, proxy, _ = self.download(proxy=(*ALLOW, "--connect-udp-forwarding=off"))
        self.check_tunnelled(outcome, fallbacks=True)
        self.check_proxy(proxy, outcome)
        # On anything but 409 it does not ask for other connection IDs of the target.
        self.assertEqual(self.refused(proxy, 403), 1, proxy["proxy"]["refused"])

    def test_plain_proxy(self):
        """A proxy that does not know the headers does not echo them."""
        outcome, proxy, _ = self.download(proxy=(*ALLOW, "--connect-udp-connection-ids=off"))
        self.check_tunnelled(outcome, fallbacks=True)
        self.assertEqual(proxy["proxy"]["refused"], {})

    def check_conflict(self, first: str, second: str) -> None:
        with self.proxied() as world:
            one = world.start(f"--scid={first}", staying=True)
            one.wait_all()
            self.check_forwarded(world.start(f"--scid={second}").finish())
            self.check_forwarded(one.leave())
            proxy, target = world.stop()
            self.assertEqual(self.refused(proxy, 409), 1, proxy["proxy"]["refused"])
            self.assertEqual((proxy["proxy"]["sockets"], target["connections"]), (1, 2))

    def test_conflict_equal(self):
        """Another client of the shared socket has the same connection ID: 409 to the first request."""
        self.check_conflict("0102030405060708090a", "0102030405060708090a")

    def test_conflict_prefix(self):
        self.check_conflict("0102030405060708090a", "0102030405060708")

    def test_conflict_extension(self):
        self.check_conflict("0102030405060708", "0102030405060708090a")

    def test_conflict_later(self):
        """The target's connection IDs are too short for the proxy: 409 to later requests."""
        outcome, proxy, target = self.download(proxy=(*ALLOW, "--connect-udp-min-connection-id=9"), python_target=True,
                                              target=(f"--new-ids-every={256 << 10}",))
        self.check_tunnelled(outcome, fallbacks=True)
        # 409 is about that connection ID only: it asks for the others too.
        self.assertGreaterEqual(self.refused(proxy, 409), 2, proxy["proxy"]["refused"])
        self.assertEqual(target["connections"], 1)

    def check_refused(self, status: str, *, host: str = "", proxy: tuple[str, ...] = ALLOW) -> None:
        """The client is told that there is no way to the target, and no packet gets there.
        A client that wants another target is not disturbed."""
        for mode in MODES:
            with self.proxied(proxy=proxy) as world:
                client = world.start(host=host, mode=mode)
                self.refusal(client, str(net.Addr(host or world.target_seen.host, world.target_seen.port)), status)
                counts, target = world.stop()
                self.assertEqual(self.refused(counts, int(status)), 1, counts["proxy"]["refused"])
                self.assertEqual((target["connections"], target["packets_received"]), (0, 0))
                self.assertEqual(counts["proxy"]["sockets"], 0)

    def test_denied(self):
        """Loopback is denied unless it is allowed."""
        self.check_refused("403", proxy=())

    def test_denied_other(self):
        """Allowed is what was said and no more."""
        self.check_refused("403", proxy=("--connect-udp-allow=127.0.0.1/32", "--connect-udp-allow=127.0.0.3/32"))

    def test_denied_written_differently(self):
        for host in ("2130706434", "0x7f.2", "127.2", "::ffff:127.0.0.2"):
            self.check_refused("403", host=host, proxy=())

    def test_unknown_name(self):
        """Names under .invalid never exist (RFC 6761)."""
        self.check_refused("502", host="no-such-host.invalid")

    def test_port_0(self):
        addr, = net.free_addrs("127.0.0.1")
        status, _, stderr = run([self.build / "examples" / "gtlsclient", f"--proxy=https://{addr}", "127.0.0.2", "0",
                                 "https://localhost/"])
        self.assertEqual(status, 1)
        self.assertIn("port", stderr.decode().lower())
        self.assertIsNone(crash_report(stderr))

    def test_target_closed(self):
        """Nobody listens there: the network tells the proxy, and the proxy the client, which says
        that it is the target and not the proxy, long before its handshake takes too long."""
        for mode in MODES:
            for hosts in HOSTS:
                with self.proxied(target_runs=False, hosts=hosts) as world:
                    began = time.monotonic()
                    self.refusal(world.start("--handshake-timeout=60s", mode=mode),
                                 str(world.target_seen), "the target refuses packets")
                    self.assertLess(time.monotonic() - began, 30)
                    world.stop()

    def test_target_closed_later(self):
        """Another client's tunnel to it, on the same socket, has had answers."""
        with self.proxied() as world:
            one = world.start(staying=True)
            one.wait_all()
            world.target.send_signal(signal.SIGKILL)
            world.target.wait(60)
            self.refusal(world.start("--handshake-timeout=60s"), str(world.target_seen), "the target refuses packets")
            self.check_forwarded(one.leave())

    def test_target_silent(self):
        """Packets vanish there, which nobody is told of."""
        for mode in MODES:
            with self.proxied(target_runs=False) as world, Target(world.target_addr.host) as target:
                client = world.start("--handshake-timeout=2s", mode=mode, target=target.addr)
                self.assertNotIn("refuses", client.fail())
                world.stop()

    def test_no_proxy(self):
        with self.proxied() as world:
            world.proxy.send_signal(signal.SIGKILL)
            world.proxy.wait(60)
            self.assertIn("proxy", world.start("--timeout=2s").fail())

    def test_proxy_is_none(self):
        """A server that is no proxy."""
        with self.proxied() as world:
            world.proxy_seen = world.target_addr
            self.assertIn("proxy", world.start("--timeout=5s").fail())
            world.stop()

    # Many clients

    def test_one_socket(self):
        with self.proxied() as world:
            outcomes = self.all_hold([world.start(staying=True) for _ in range(CLIENTS)])
            proxy, target = world.stop()
        for outcome in outcomes:
            self.check_forwarded(outcome, 0.9)
        self.check_proxy(proxy, *outcomes)
        self.assertEqual((proxy["proxy"]["connections"], proxy["proxy"]["flows"], proxy["proxy"]["sockets"]),
                         (CLIENTS, CLIENTS, 1))
        self.assertEqual(target["connections"], CLIENTS)
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), 1)

    def test_ten_sockets(self):
        with self.proxied(proxy=(*ALLOW, "--connect-udp-port-sharing=off")) as world:
            outcomes = self.all_hold([world.start(staying=True) for _ in range(CLIENTS)])
            proxy, target = world.stop()
        for outcome in outcomes:
            self.check_forwarded(outcome, 0.9)
        self.assertEqual((proxy["proxy"]["flows"], proxy["proxy"]["sockets"]), (CLIENTS, CLIENTS))
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), CLIENTS)

    def test_both_modes_at_once(self):
        with self.proxied() as world:
            clients = [world.start(mode=mode, staying=True) for mode in MODES * 2]
            outcomes = self.all_hold(clients)
            proxy, _ = world.stop()
        for outcome, mode in zip(outcomes, MODES * 2):
            self.check_mode(mode, outcome)
        self.check_proxy(proxy, *outcomes)

    def test_client_killed(self):
        """A client that dies in the middle of it does not disturb the others."""
        with self.proxied() as world:
            victim = world.start(site=self.endless)
            other = world.start(site=self.endless)
            victim.wait_received(MIB)
            victim.kill()
            other.wait_received(other.received() + 4 * MIB)
            self.check_forwarded(world.start().finish(), 0.9)
            other.kill()
            world.stop()


if __name__ == "__main__":
    tap.main(ProxyTest)
