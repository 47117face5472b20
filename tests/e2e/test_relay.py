#!/usr/bin/env python3
"""The relay itself, with real sockets: what it does to packets, and that it does
nothing else to them.

    tests/e2e/test_relay.py --build DIR [--filter TEXT]
"""

import select
import socket
import time
import unittest

import net
import tap
from relay import CLIENTS, LINE_CAPACITY, Impairment, Line, Relay

# Packets sent before some are read back: little enough for any socket buffer
WINDOW = 32
SIZE = 1200
# For what must arrive: not a measure of speed
PATIENCE = 60


class Echo:
    """Upstream of a relay: a socket whose owner sends back what it wants to."""

    def __init__(self, host: str):
        self.addr, = net.free_addrs(host)
        self.sock = socket.socket(self.addr.family, socket.SOCK_DGRAM)
        self.sock.bind(self.addr)
        self.sock.settimeout(PATIENCE)

    def close(self) -> None:
        self.sock.close()


def packet(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4) + number.to_bytes(4, "little") * (size // 4 - 1)


class RelayTest(unittest.TestCase):
    def relay(self, up: Impairment = Impairment(), down: Impairment = Impairment(),
              host: str = "127.0.0.1", seed: str = "7") -> Relay:
        self.echo = Echo(host)
        self.addCleanup(self.echo.close)
        listen, = net.free_addrs(host)
        relay = Relay(listen, self.echo.addr, up, down, seed)
        return self.enterContext(relay)

    def client(self, relay: Relay) -> socket.socket:
        sock = socket.socket(relay.addr.family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(PATIENCE)
        sock.connect(relay.addr)
        return sock

    def drain(self, relay: Relay, sock: socket.socket, way: str, count: int, got: list[bytes]) -> None:
        """Adds to `got` what arrives, until the relay has `count` packets behind it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            now = relay.counts()[way]
            while select.select([sock], [], [], 0)[0]:
                got.append(sock.recv(65536))
            gone = now["sent"] + now["lost"] + now["queue_dropped"] + now["too_large"] - now["duplicated"]
            if now["received"] == gone == count and now["sent"] == len(got):
                return
            self.assertLess(time.monotonic(), deadline, f"{len(got)} packets arrived: {relay.counts()}")

    def send_up(self, relay: Relay, count: int, client: socket.socket | None = None) -> list[bytes]:
        """Sends packets to upstream, and returns those that arrive there."""
        client = client or self.client(relay)
        got: list[bytes] = []
        for number in range(count):
            client.send(packet(number))
            if number % WINDOW == WINDOW - 1:
                self.drain(relay, self.echo.sock, "up", number + 1, got)
        self.drain(relay, self.echo.sock, "up", count, got)
        self.assertEqual(relay.counts()["kernel_dropped"], 0)
        return got

    # What it must not change

    def check_transparent(self, host: str) -> None:
        """Every size there and back, in order, byte by byte, to the client it is for."""
        relay = self.relay(host=host)
        clients = [self.client(relay) for _ in range(3)]
        sizes = [0, 1, 2, 1200, 1452, 9000, 65000]
        sources = set()
        for number, client in enumerate(clients):
            for size in sizes:
                data = bytes([number]) * size
                client.send(data)
                got, source = self.echo.sock.recvfrom(65536)
                self.assertEqual(got, data)
                sources.add(source)
                self.echo.sock.sendto(data[::-1] + b"!", source)
                self.assertEqual(client.recv(65536), data[::-1] + b"!")
        self.assertEqual(len(sources), len(clients), "one source port for each client")
        counts = relay.counts()
        self.assertEqual(counts["clients"], len(clients))
        total = len(clients) * len(sizes)
        for way in ("up", "down"):
            self.assertEqual(counts[way], {"received": total, "sent": total, "lost": 0, "duplicated": 0,
                                           "reordered": 0, "queue_dropped": 0, "too_large": 0})

    def test_transparent(self):
        self.check_transparent("127.0.0.1")

    @unittest.skipUnless(net.has_ipv6(), "no IPv6 loopback address")
    def test_transparent_ipv6(self):
        self.check_transparent("::1")

    def check_ecn(self, host: str, recvtos: tuple[int, int], tos: tuple[int, int]) -> None:
        relay = self.relay(host=host)
        client = self.client(relay)
        for sock in (client, self.echo.sock):
            sock.setsockopt(*recvtos, 1)

        def mark(sock: socket.socket) -> tuple[int, tuple]:
            _, ancillary, _, source = sock.recvmsg(2048, 64)
            return ancillary[0][2][0], source  # the lowest byte, and machines are little-endian

        for ecn in (0, 2, 1, 3, 3, 0):
            client.setsockopt(*tos, ecn)
            client.send(b"up")
            seen, source = mark(self.echo.sock)
            self.assertEqual(seen, ecn)
            self.echo.sock.setsockopt(*tos, ecn ^ 2)
            self.echo.sock.sendto(b"down", source)
            self.assertEqual(mark(client)[0], ecn ^ 2)

    def test_ecn(self):
        self.check_ecn("127.0.0.1", (socket.IPPROTO_IP, 13), (socket.IPPROTO_IP, socket.IP_TOS))

    @unittest.skipUnless(net.has_ipv6(), "no IPv6 loopback address")
    def test_ecn_ipv6(self):
        self.check_ecn("::1", (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS),
                       (socket.IPPROTO_IPV6, socket.IPV6_TCLASS))

    def test_nobody_upstream(self):
        """A closed port there ends nothing, and when somebody listens again, packets arrive."""
        relay = self.relay()
        client = self.client(relay)
        self.echo.close()
        for number in range(10):
            client.send(packet(number))
        while relay.counts()["up"]["received"] < 10:
            pass
        with socket.socket(self.echo.addr.family, socket.SOCK_DGRAM) as sock:
            sock.bind(self.echo.addr)
            sock.settimeout(PATIENCE)
            client.send(b"here")
            self.assertEqual(sock.recv(100), b"here")

    # What it changes

    def test_loss(self):
        count = 2000
        got = self.send_up(relay := self.relay(up=Impairment(loss=0.1)), count)
        counts = relay.counts()["up"]
        self.assertEqual(len(got), count - counts["lost"])
        self.assertIn(counts["lost"], range(count // 20, count // 5))
        self.assertEqual(got, sorted(got), "what is left keeps its order")

    def test_duplication(self):
        count = 1000
        got = self.send_up(relay := self.relay(up=Impairment(duplicate=0.1)), count)
        counts = relay.counts()["up"]
        self.assertEqual(len(got), count + counts["duplicated"])
        self.assertIn(counts["duplicated"], range(count // 20, count // 5))
        self.assertEqual(set(got), {packet(number) for number in range(count)})

    def test_reordering(self):
        count = 1000
        got = self.send_up(relay := self.relay(up=Impairment(delay=5, reorder=0.1, reorder_delay=20)), count)
        counts = relay.counts()["up"]
        self.assertIn(counts["reordered"], range(count // 20, count // 5))
        self.assertEqual(sorted(got), [packet(number) for number in range(count)])
        self.assertNotEqual(got, sorted(got))

    def test_delay(self):
        relay = self.relay(up=Impairment(delay=50), down=Impairment(delay=30))
        client = self.client(relay)
        began = time.monotonic()
        client.send(b"ping")
        _, source = self.echo.sock.recvfrom(100)
        self.echo.sock.sendto(b"pong", source)
        client.recv(100)
        self.assertGreaterEqual(time.monotonic() - began, 0.080)  # less is impossible, more is not

    def test_rate(self):
        """No more than the rate gets through, all of it in order, and all that fits the queue."""
        count, rate = 200, 1_000_000
        relay = self.relay(up=Impairment(rate=rate, queue=count * SIZE))
        began = time.monotonic()
        got = self.send_up(relay, count)
        self.assertGreaterEqual(time.monotonic() - began, count * SIZE / rate)
        self.assertEqual(got, [packet(number) for number in range(count)])

    def test_queue(self):
        """What exceeds the queue is dropped at its tail."""
        relay = self.relay(up=Impairment(rate=2000, queue=10 * SIZE))
        client = self.client(relay)
        for number in range(30):
            client.send(packet(number))
        while (counts := relay.counts()["up"])["received"] < 30:
            pass
        self.assertGreaterEqual(counts["queue_dropped"], 18)
        self.assertEqual(self.echo.sock.recv(65536), packet(0))
        self.assertEqual(self.echo.sock.recv(65536), packet(1))

    def test_mtu(self):
        """Whole or not at all"""
        relay = self.relay(up=Impairment(mtu=1472))
        client = self.client(relay)
        for size in (1472, 1473, 9000, 0, 1472):
            client.send(bytes(size))
        got: list[bytes] = []
        self.drain(relay, self.echo.sock, "up", 5, got)
        self.assertEqual([len(data) for data in got], [1472, 0, 1472])
        self.assertEqual(relay.counts()["up"]["too_large"], 2)

    def test_directions_differ(self):
        """What is done to one direction is not done to the other."""
        relay = self.relay(down=Impairment(loss=1))
        client = self.client(relay)
        self.assertEqual(len(self.send_up(relay, 100, client)), 100)
        client.send(b"last")
        _, source = self.echo.sock.recvfrom(100)
        got: list[bytes] = []
        for number in range(100):
            self.echo.sock.sendto(packet(number), source)
            self.drain(relay, client, "down", number + 1, got)
        self.assertEqual(got, [])
        self.assertEqual(relay.counts()["down"]["lost"], 100)

    # Repeatable

    BAD = Impairment(delay=3, loss=0.05, duplicate=0.05, reorder=0.05, rate=400_000, queue=20_000)

    def fates(self, seed: str) -> list[list[float]]:
        line = Line(self.BAD, seed)
        return [line.admit(100 + 7 * n % 1100, n * 0.001) for n in range(5000)]

    def test_same_seed_same_fate(self):
        self.assertEqual(self.fates("1"), self.fates("1"))
        self.assertNotEqual(self.fates("1"), self.fates("2"))

    def test_same_seed_same_packets(self):
        """The same with real packets, when time has no say in it."""
        lossy = Impairment(loss=0.2, duplicate=0.2)
        first, again, other = (sorted(self.send_up(self.relay(up=lossy, seed=seed), 300))
                               for seed in ("11", "11", "12"))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_fate_does_not_depend_on_others(self):
        """Another probability of one thing leaves the others to the same packets."""
        plain, more = Line(Impairment(loss=0.1), "5"), Line(Impairment(loss=0.1, duplicate=0.5), "5")
        for _ in range(1000):
            self.assertEqual(bool(plain.admit(SIZE, 0)), bool(more.admit(SIZE, 0)))

    # Commands

    def test_rebind(self):
        """Upstream sees another port, and what it sends to the old one is gone."""
        relay = self.relay()
        client = self.client(relay)
        client.send(b"before")
        before = self.echo.sock.recvfrom(100)
        relay.rebind()
        client.send(b"after")
        after = self.echo.sock.recvfrom(100)
        self.assertEqual((before[0], after[0]), (b"before", b"after"))
        self.assertNotEqual(before[1], after[1])
        self.echo.sock.sendto(b"to the old port", before[1])
        self.echo.sock.sendto(b"to the new port", after[1])
        self.assertEqual(client.recv(100), b"to the new port")
        self.assertEqual(relay.counts()["clients"], 1)

    def test_blackhole(self):
        relay = self.relay()
        client = self.client(relay)
        relay.blackhole("up")
        self.assertEqual(self.send_up(relay, 50, client), [])
        relay.blackhole("up", False)
        client.send(b"seen")
        self.assertEqual(self.echo.sock.recv(100), b"seen")
        self.assertEqual(relay.counts()["up"]["lost"], 50)

    # Bounds

    def test_bounded_clients(self):
        relay = self.relay()
        for number in range(CLIENTS + 5):
            with socket.socket(relay.addr.family, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", relay.addr)
                if number < CLIENTS:
                    self.echo.sock.recv(100)
        while (counts := relay.counts())["up"]["received"] + counts["up"]["queue_dropped"] < CLIENTS + 5:
            pass
        # A port that comes again is no new client.
        self.assertLessEqual(counts["clients"], CLIENTS)

    def test_bounded_memory(self):
        """No more is on the way than the relay wants to keep."""
        size = 60_000
        count = LINE_CAPACITY // size + 20
        relay = self.relay(up=Impairment(delay=3_600_000))
        client = self.client(relay)
        for number in range(count):
            client.send(bytes(size))
            if number % 2:
                while relay.counts()["up"]["received"] <= number:
                    pass
        while (counts := relay.counts()["up"])["received"] < count:
            pass
        self.assertEqual(counts["queue_dropped"], count - LINE_CAPACITY // size)
        self.assertEqual(counts["sent"], 0)

    def test_speed(self):
        """A figure for the log; that it is fast enough is seen where it is used."""
        relay = self.relay()
        client = self.client(relay)
        count = 20_000
        began = time.monotonic()
        for number in range(count):
            client.send(packet(number))
            if number % WINDOW == WINDOW - 1:
                for _ in range(WINDOW):
                    self.echo.sock.recv(65536)
        took = time.monotonic() - began
        print(f"# {count / took:,.0f} packets per second in lock step", flush=True)
        self.assertEqual(relay.counts()["up"]["sent"], count)


if __name__ == "__main__":
    tap.main(RelayTest)
