#!/usr/bin/env python3
"""Downloads through a proxy from targets that mean harm: what they announce as their next address, and how often.

    tests/e2e/test_moves_hostile.py --build DIR [--filter TEXT]
"""

import os
import time
from collections.abc import Iterator

import net
import stats
import tap
from net import Addr
from network_case import PORT
from procs import sanitized
from proxy_case import MIB, ProxyCase
from quic_hostile import HostileServer, Peer, bound
from transfer import Site

FOLLOW = "--enable-server-migration"
DIALECTS = "draft-00", "rfc9298"
# As many as PathTunnels keep, a socket on which clients are served, and one that is being closed; of the other client
SOCKETS, OTHERS = 6 + 1 + 1, 1
# One each millisecond
ANNOUNCEMENTS = 1500


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class MovesHostile(ProxyCase):
    SIZES = (MIB // 2, MIB // 2)
    announcements = ANNOUNCEMENTS

    def hostile(self, script, others: list[Addr] = []) -> HostileServer:
        self.target_addr, = net.free_addrs("127.0.0.3")
        return HostileServer(self.site.certificate, self.site.file.read_bytes(), {self.target_addr: script}, others)

    def check_forbidden(self, dialect: str) -> None:
        """Its clients are told the proxy's own address, one of a private network, or one of loopback that is not
        allowed; and then one that is."""
        good, = net.free_addrs("127.0.0.4")
        with self.proxied(dialect=dialect, proxy=("--connect-udp-allow=127.0.0.0/16",)) as world:
            told = [world.proxy_addr, Addr("10.1.2.3", PORT), Addr("127.9.1.1", PORT)]
            left = list(told)

            def script(peer: Peer) -> Iterator:
                peer.answers.add(good)
                yield peer.established
                for addr in (left.pop(), good):
                    peer.announce(addr)
                    yield lambda: peer.connection.settled
                yield lambda: peer.here == good
                peer.finish()

            with self.hostile(script, [good]) as target:
                clients = [world.start(FOLLOW, target=self.target_addr) for _ in told]
                target.run(lambda: all(client.program.status is not None for client in clients))
            self.assertEqual(target.complaints, [])
            outcomes = [client.finish() for client in clients]
            proxy, _ = world.stop()
        for outcome in outcomes:
            self.check(outcome)
            used = stats.by_server_address(outcome.stats, "remote", "packets_received")
            self.assertEqual({address for address, packets in used.items() if packets}, {str(self.target_addr), str(good)})
        self.assertEqual(proxy["proxy"]["refused"], {"403": len(told)})

    def check_flood(self, dialect: str) -> None:
        """A target announces an address each millisecond, none of which answers, and the proxy has another client."""
        silent = bound(net.free_addrs("0.0.0.0")[0])
        self.addCleanup(silent.close)
        port = silent.getsockname()[1]
        large = Site(self.work / f"large-{dialect}", (8 if sanitized(self.build) else 64) * MIB)
        sent = 0

        def script(peer: Peer) -> Iterator:
            nonlocal sent
            yield peer.established
            limit = peer.connection.peer["active_connection_id_limit"]
            while sent < self.announcements:
                # Beyond the limit the client would end the connection, and be right.
                yield lambda: peer.next_number - len(peer.connection.retired) < limit
                peer.announce(Addr(f"127.200.{sent >> 8 & 255}.{sent & 255}", port))
                sent += 1
                yield 0.001
            peer.finish()

        with self.proxied(dialect=dialect, site=large) as world, self.hostile(script) as target:
            alone = world.start().finish()
            hostile = world.start(FOLLOW, target=self.target_addr, site=self.site)
            target.run(lambda: sent > 0)
            before = [descriptors(program.pid) for program in (world.proxy, hostile.program)]
            other = world.start()
            most, sockets, there, began, took = before, 0, 0, time.monotonic(), 0.0

            def look() -> bool:
                nonlocal most, sockets, there, took
                if other.program.status is not None and not took:
                    took = time.monotonic() - began
                if sent < self.announcements:
                    there = other.received()
                if hostile.program.status is not None:
                    return took > 0
                most = [max(pair) for pair in zip(most, [descriptors(p.pid) for p in (world.proxy, hostile.program)])]
                sockets = max(sockets, len(world.proxy.udp_addrs()))
                return False
            target.run(look)
            beside = other.finish()
            ended = hostile.finish()
            proxy, _ = world.stop()
        self.assertEqual(target.complaints, [])
        for outcome in (alone, beside, ended):
            self.check(outcome)
        print(f"# {sent} announcements, {proxy['proxy']['requests']} requests; descriptors at most {most} after {before}; "
              f"another client has {there:,} bytes meanwhile, and {alone.seconds / took:.0%} of its speed", flush=True)
        self.assertGreater(there, large.size // 16)
        self.assertLessEqual(sockets, SOCKETS + OTHERS)
        self.assertLessEqual(most[0] - before[0], SOCKETS + OTHERS)
        self.assertEqual(most[1], before[1])
        # Further connection IDs would be refused.
        self.assertEqual((ended.stats["proxy"]["fallbacks"], proxy["proxy"]["refused"]), ({}, {}))
        self.assertEqual(ended.stats["server_migrations"], 0)


for _dialect in DIALECTS:
    for _what in ("forbidden", "flood"):
        setattr(MovesHostile, f"test_{_dialect.replace('-', '_')}_{_what}",
                lambda self, dialect=_dialect, what=_what: getattr(self, f"check_{what}")(dialect))

if __name__ == "__main__":
    tap.main(MovesHostile)
