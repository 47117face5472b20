#!/usr/bin/env python3
"""Downloads through a proxy in the dialect of RFC 9298, while the client's address changes:
because it moves, or because a NAT does.

    tests/e2e/test_proxy_modern_moves.py --build DIR [--filter TEXT]
"""

import selectors
import socket
import threading
from collections import Counter

import net
import stats
import tap
from net import Addr
from proxied import ALLOW, Outcome, Proxied
from proxy_case import MIB, ProxyCase
from relay import Impairment

# Slow enough that something can be done in the middle of it
FRONT = (Impairment(), Impairment(rate=4_000_000, queue=1 << 20))
# ... and so much on its way that nothing is lost: then forwarding goes on as soon as it can.
WINDOW = ("--max-data=512K", "--max-stream-data-bidi-local=512K")
# Of one path, by one size after the other
PROBES = 8
# Of the connection IDs of short headers: enough to tell them from each other
ID_BYTES = 8


class Watch:
    """Stands before the proxy, from the beginning of a with block to its end, and notes which
    connection IDs the packets with a short header have, and how often: `ids`, by the direction
    and the client's address."""

    def __init__(self, upstream: Addr):
        self.addr = net.free_addrs(upstream.host)[0]
        self.ids: dict[tuple[str, tuple], Counter[bytes]] = {}
        self._upstream = upstream
        self._selector = selectors.DefaultSelector()
        self._listener = self._open()
        self._listener.bind(self.addr)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._clients: dict[tuple, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)

    def _open(self) -> socket.socket:
        sock = socket.socket(self._upstream.family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        return sock

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._wake.close()
        self._thread.join()
        for sock in (self._listener, self._woken, *self._clients.values()):
            sock.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                try:
                    data, sender = key.fileobj.recvfrom(65536)
                    self._pass_on(data, sender, key.data)
                except OSError:  # nothing there, no room, or nobody
                    continue

    def _pass_on(self, data: bytes, sender: tuple, client: tuple | None) -> None:
        way, address = ("down", client) if client else ("up", sender)
        if len(data) > ID_BYTES and not data[0] & 0x80:
            self.ids.setdefault((way, address), Counter())[data[1:1 + ID_BYTES]] += 1
        if client:
            self._listener.sendto(data, client)
            return
        if not (sock := self._clients.get(sender)):
            sock = self._clients[sender] = self._open()
            sock.connect(self._upstream)
            self._selector.register(sock, selectors.EVENT_READ, sender)
        sock.send(data)

    def by_address(self, way: str) -> list[Counter[bytes]]:
        return [ids for (direction, _), ids in self.ids.items() if direction == way]


class ModernMoves(ProxyCase):
    SIZES = (16 * MIB, 8 * MIB)

    def watched(self, world: Proxied) -> Watch:
        watch = Watch(world.proxy_seen)
        world.proxy_seen = watch.addr
        return watch

    def check_outcome(self, world: Proxied, outcome: Outcome, least: float) -> None:
        proxy, target = world.stop()
        self.assertEqual(outcome.stats["proxy"]["dialect"], "rfc9298")
        self.check_forwarded(outcome, least)
        self.assertEqual(outcome.stats["proxy"]["fallbacks"], {})
        self.assertEqual((proxy["proxy"]["connections"], target["connections"]), (1, 1))
        # The target has not noticed.
        self.assertEqual(len(stats.by_server_address(target, "remote", "packets_received")), 1)

    def check_move(self, *options: str) -> None:
        """The client moves its outer connection to another socket: it has other connection IDs
        there, virtual ones too, and forwarding goes on with these."""
        with self.proxied(front=FRONT) as world, self.watched(world) as watch:
            outcome = world.start("--proxy-dialect=rfc9298", *WINDOW, "--change-local-addr=300ms", *options).finish()
            self.check_outcome(world, outcome, 0.8)
        for way in ("up", "down"):
            before, after = watch.by_address(way)
            # Most packets have one of them, that of the forwarded ones.
            (_, count), = after.most_common(1)
            self.assertGreater(count, after.total() / 2, way)
            self.assertEqual(before.keys() & after.keys(), set(), f"{way}: on both paths")

    def test_upload(self):
        """Packets that fit in no datagram wait until what they have is registered again: none is dropped but probes of
        the path that are too large for it."""
        with self.proxied(front=tuple(reversed(FRONT)), proxy=(*ALLOW, "--migrate-every=100ms"),
                          ring=tuple(net.free_addrs("127.0.0.5", "127.0.0.6"))) as world:
            outcome = world.start("--proxy-dialect=rfc9298", f"--data={self.site.file}", "--http-method=PUT",
                                  "--change-local-addr=300ms").finish()
            _, target = world.stop()
        ours = outcome.stats["proxy"]
        self.assertGreaterEqual(target["app_bytes_received"], self.site.size)
        self.assertGreater(ours["server_migrations"], 0)
        self.assertGreater(ours["forwarded_tx"]["bytes"], self.site.size / 2)
        self.assertLessEqual(ours["dropped"].get("packet is too large", 0), PROBES, ours)

    def check_rebinding(self, transform: str) -> None:
        """A NAT gives the client another address: forwarding goes on with the same connection IDs."""
        with self.proxied(front=FRONT) as world, self.watched(world) as watch:
            client = world.start("--proxy-dialect=rfc9298", *WINDOW, f"--proxy-transform={transform}")
            client.wait_received(self.site.size // 4)
            self.assertLess(client.received(), self.site.size)
            before = {way: watch.by_address(way)[0].copy() for way in ("up", "down")}
            world.front.rebind()
            outcome = client.finish()
            self.check_outcome(world, outcome, 0.8)
        for way in ("up", "down"):
            (both,) = watch.by_address(way)
            after = both - before[way]
            (most, count), = after.most_common(1)
            self.assertEqual(most, before[way].most_common(1)[0][0], way)
            self.assertGreater(count, after.total() / 2, way)
        self.assertLess(outcome.stats["longest_gap_ms"], 5_000, "half of the time between keep-alives")


def _add(transform: str) -> None:
    name = transform.replace("-", "_")
    setattr(ModernMoves, f"test_move_{name}", lambda self: self.check_move(f"--proxy-transform={transform}"))
    setattr(ModernMoves, f"test_rebinding_{name}", lambda self: self.check_rebinding(transform))


for _transform in ("identity", "scramble-dt"):
    _add(_transform)
for _revision in ("06", "08"):
    setattr(ModernMoves, f"test_move_revision_{_revision}",
            lambda self, revision=_revision: self.check_move(f"--proxy-revision={revision}"))


if __name__ == "__main__":
    tap.main(ModernMoves)
