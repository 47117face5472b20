#!/usr/bin/env python3
"""The network of namespaces itself: what it does to packets, and that it does nothing
else to them.

    tests/e2e/test_wire.py --build DIR [--filter TEXT]
"""

import errno
import select
import socket
import struct
import time
import unittest

import ip_packet
import tap
import wire as wire_module
from ip_packet import Endpoint
from wire import Link, Wire

CLI4, CLI6 = "10.9.0.1", "fd09::1"
A, B, A6 = "10.9.1.1", "10.9.1.2", "fd09:1::1"
VICTIM = "10.9.2.1"
HOSTS = {"cli": [CLI4, CLI6], "srv": [A, B, A6], "victim": [VICTIM]}
PORT = 4433
# For what must arrive: not a measure of speed
PATIENCE = 60
_IP_RECVTOS, _IP_TOS, _IP_MTU, _IP_MTU_DISCOVER = 13, 1, 14, 10
_IPV6_RECVTCLASS, _IPV6_TCLASS, _IPV6_MTU, _IPV6_MTU_DISCOVER = 66, 67, 24, 23


class WireTest(unittest.TestCase):
    def setUp(self):
        self.work = tap.temporary_directory(type(self))

    def wire(self, links: dict[str, tuple[Link, Link]] | None = None, seed: str = "7",
             trace: bool = False) -> Wire:
        return self.enterContext(Wire(HOSTS, links, seed, self.work / "trace" if trace else None))

    def open(self, wire: Wire, host: str, address: str, port: int = 0) -> socket.socket:
        sock = wire.open_socket(host, address, port)
        self.addCleanup(sock.close)
        sock.settimeout(PATIENCE)
        return sock

    def pair(self, wire: Wire, address: str = A) -> tuple[socket.socket, socket.socket]:
        """A socket of the client that is connected to one of the server."""
        server = self.open(wire, "srv", address, PORT)
        client = self.open(wire, "cli", CLI6 if ":" in address else CLI4)
        client.connect((address, PORT))
        return client, server

    def passed(self, wire: Wire, client: socket.socket, server: socket.socket, count: int,
               address: str = A) -> list[bytes]:
        """Sends packets up one by one, and returns those that arrive."""
        before = wire.counts()["links"][address]["up"]["received"]
        for number in range(count):
            client.send(number.to_bytes(4))
        got: list[bytes] = []
        while True:
            line = wire.counts()["links"][address]["up"]
            while select.select([server], [], [], 0)[0]:
                got.append(server.recv(65536))
            gone = line["sent"] + line["lost"] + line["too_large"] + line["queue_dropped"] - line["duplicated"]
            if line["received"] == gone == before + count:
                return got

    # What it must not change

    def check_transparent(self, address: str) -> None:
        wire = self.wire()
        client, server = self.pair(wire, address)
        for size in (0, 1, 2, 1200, 1452):
            data = bytes([size & 255]) * size
            client.send(data)
            got, source = server.recvfrom(65536)
            self.assertEqual((got, source[:2]), (data, client.getsockname()[:2]))
            server.sendto(data + b"!", source)
            self.assertEqual(client.recv(65536), data + b"!")

    def test_transparent_ipv4(self):
        self.check_transparent(A)

    def test_transparent_ipv6(self):
        self.check_transparent(A6)

    def test_gone_afterwards(self):
        """The namespaces live as long as the relay does."""
        with Wire(HOSTS) as wire:
            path = wire.inside("cli")[1].split("=")[1]
            with open(path):
                pass
        with self.assertRaises(FileNotFoundError):
            open(path).close()

    def test_between_servers(self):
        """From one host that is not the first to another."""
        wire = self.wire()
        server, victim = self.open(wire, "srv", A), self.open(wire, "victim", VICTIM, PORT)
        server.sendto(b"x", (VICTIM, PORT))
        self.assertEqual(victim.recv(10), b"x")
        self.assertEqual(wire.sent("down", A), (1, 1))

    # What it does to each address and direction

    def test_each_address_its_own(self):
        wire = self.wire({A: (Link(loss=1), Link()), A6: (Link(duplicate=1), Link())})
        for address, expected in ((A, 0), (B, 20), (A6, 40)):
            client, server = self.pair(wire, address)
            self.assertEqual(len(self.passed(wire, client, server, 20, address)), expected)

    def test_delay_and_direction(self):
        """Nothing arrives before its time, and the other direction does not wait."""
        wire = self.wire({A: (Link(), Link(delay=200))})
        client, server = self.pair(wire)
        began = time.monotonic()
        client.send(b"up")
        _, source = server.recvfrom(10)
        server.sendto(b"down", source)
        self.assertEqual(client.recv(10), b"down")
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        server.sendto(b"late", source)
        client.send(b"soon")
        ready, _, _ = select.select([client, server], [], [], PATIENCE)
        self.assertEqual(ready, [server])

    def test_rate(self):
        wire = self.wire({A: (Link(rate=50_000), Link())})
        client, server = self.pair(wire)
        began = time.monotonic()
        for _ in range(20):
            client.send(bytes(1000))
        for _ in range(20):
            server.recv(2000)
        self.assertGreaterEqual(time.monotonic() - began, 0.4)

    def test_same_seed_same_packets(self):
        lossy = {A: (Link(loss=0.3, duplicate=0.2), Link())}
        first, again, other = (self.passed(wire, *self.pair(wire), 200)
                               for wire in (self.wire(lossy, seed) for seed in ("11", "11", "12")))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_change_at_run_time(self):
        wire = self.wire({A: (Link(loss=1), Link())})
        client, server = self.pair(wire)
        self.assertEqual(self.passed(wire, client, server, 5), [])
        wire.link(A, "up", Link())
        self.assertEqual(len(self.passed(wire, client, server, 5)), 5)

    def test_blackhole(self):
        """One address, one direction."""
        wire = self.wire()
        client, server = self.pair(wire)
        other, b = self.pair(wire, B)
        wire.blackhole(A, "up")
        self.assertEqual(self.passed(wire, client, server, 5), [])
        self.assertEqual(len(self.passed(wire, other, b, 5, B)), 5)
        wire.blackhole(A, "up", False)
        client.send(b"seen")
        _, source = server.recvfrom(10)
        wire.blackhole(A, "down")
        server.sendto(b"lost", source)
        while not wire.counts()["links"][A]["down"]["lost"]:
            pass  # a command may overtake a packet
        wire.blackhole(A, "down", False)
        server.sendto(b"seen", source)
        self.assertEqual(client.recv(10), b"seen")

    def test_when(self):
        """At the first packet to B, and before that packet is dealt with."""
        wire = self.wire()
        (client, server), (other, b) = self.pair(wire), self.pair(wire, B)
        wire.when(B, f"blackhole {A} both on")
        wire.when(B, f"blackhole {B} up on")
        self.assertEqual(len(self.passed(wire, client, server, 5)), 5)
        self.assertEqual(self.passed(wire, other, b, 1, B), [])
        self.assertEqual(self.passed(wire, client, server, 5), [])
        wire.blackhole(A, "both", False)
        self.assertEqual(self.passed(wire, other, b, 1, B), [])
        self.assertEqual(len(self.passed(wire, client, server, 1)), 1, "once only")

    def check_mtu(self, address: str, options: tuple[int, int, int, int], headers: int) -> None:
        level, discover, mtu, do = options
        wire = self.wire({address: (Link(mtu=1252), Link())})
        client, server = self.pair(wire, address)
        client.setsockopt(level, discover, do)
        client.send(bytes(1253))
        client.send(bytes(1252))
        self.assertEqual(len(server.recv(2000)), 1252)
        self.assertEqual(client.getsockopt(level, mtu), 1500, "it was not told")
        wire.link(address, "up", Link(mtu=1252, too_big=True))
        client.send(bytes(1253))
        deadline = time.monotonic() + PATIENCE
        while client.getsockopt(level, mtu) == 1500:
            client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.assertLess(time.monotonic(), deadline, "no ICMP message arrived")
        self.assertEqual(client.getsockopt(level, mtu), 1252 + headers)
        client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        with self.assertRaises(OSError) as caught:
            client.send(bytes(1253))
        self.assertEqual(caught.exception.errno, errno.EMSGSIZE)
        self.assertEqual(wire.counts()["links"][address]["up"]["too_large"], 2)

    def test_mtu_ipv4(self):
        self.check_mtu(A, (socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_MTU, 2), 28)

    def test_mtu_ipv6(self):
        self.check_mtu(A6, (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_MTU, 2), 48)

    def test_ce(self):
        """Marked are those that are ECN capable, and no others."""
        for address, level, receive, tos in ((A, socket.IPPROTO_IP, _IP_RECVTOS, _IP_TOS),
                                             (A6, socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, _IPV6_TCLASS)):
            wire = self.wire({address: (Link(ce=1), Link())})
            client, server = self.pair(wire, address)
            server.setsockopt(level, receive, 1)
            for sent, expected in ((2, 3), (1, 3), (0, 0)):
                client.setsockopt(level, tos, sent)
                client.send(b"x")
                _, ancillary, _, _ = server.recvmsg(10, 64)
                self.assertEqual(ancillary[0][2][0] & 3, expected, address)
            self.assertEqual(wire.counts()["links"][address]["up"]["ce"], 2)

    def test_icmp_unreachable(self):
        """What a host says to packets for nobody comes back."""
        wire = self.wire()
        client = self.open(wire, "cli", CLI4)
        client.connect((VICTIM, 9))
        client.send(b"x")
        with self.assertRaises(ConnectionRefusedError):
            client.recv(10)
        self.assertEqual(wire.sent("down", VICTIM, "icmp")[0], 1)

    # NAT

    def check_rebind(self, address: str, new_host: str) -> None:
        wire = self.wire()
        client, server = self.pair(wire, address)
        client.send(b"before")
        _, before = server.recvfrom(10)
        wire.rebind(new_host)
        client.send(b"after")
        _, after = server.recvfrom(10)
        if new_host:
            self.assertEqual(after[:2], (new_host, before[1]))
        else:
            self.assertEqual(after[0], before[0])
            self.assertNotEqual(after[1], before[1])
        server.sendto(b"to the old one", before)
        server.sendto(b"to the new one", after)
        self.assertEqual(client.recv(100), b"to the new one")
        self.assertEqual(wire.counts()["dropped"]["no_flow"], 1)

    def test_rebind_port_ipv4(self):
        self.check_rebind(A, "")

    def test_rebind_port_ipv6(self):
        self.check_rebind(A6, "")

    def test_rebind_address_ipv4(self):
        self.check_rebind(A, "10.9.0.77")

    def test_rebind_address_ipv6(self):
        self.check_rebind(A6, "fd09::77")

    def test_unasked(self):
        """Nothing reaches the client that it did not send anything to get."""
        wire = self.wire()
        client, server = self.open(wire, "cli", CLI4, PORT), self.open(wire, "srv", A, PORT)
        server.sendto(b"unasked", (CLI4, PORT))
        # Asking makes the relay read that before it reads what the client sends.
        self.assertEqual(wire.counts()["dropped"]["no_flow"], 1)
        client.sendto(b"hello", (A, PORT))
        server.sendto(b"answer", server.recvfrom(10)[1])
        self.assertEqual(client.recv(10), b"answer")

    def test_bounded_flows(self):
        nat = wire_module._Nat()
        flows = [Endpoint(n.to_bytes(4), 1) for n in range(wire_module.FLOWS + 1)]
        self.assertEqual([nat.outside(flow) for flow in flows], [*flows[:-1], None])
        self.assertEqual(nat.outside(flows[0]), flows[0])

    # What it sees

    def test_counts(self):
        wire = self.wire()
        client, server = self.pair(wire)
        for first in (b"\xc0\0\0\0\1", b"\xd0\0\0\0\1", b"\xe0\0\0\0\1", b"\xf0\0\0\0\1", b"\x80\0\0\0\0", b"@", b""):
            client.send(first)
            server.recv(10)
        for kind, size in (("initial", 5), ("0rtt", 5), ("handshake", 5), ("retry", 5), ("version_negotiation", 5),
                           ("short", 1), ("empty", 0)):
            self.assertEqual(wire.sent("up", A, kind), (1, size))
        self.assertEqual(wire.sent("up", A), (7, 26))
        self.assertEqual(wire.sent("down", A), (0, 0))

    def test_prefix(self):
        """All addresses of a prefix are a host's, and have one link; those beside it are nobody's."""
        prefixes = "fd09:2:0:4::/62", "10.9.3.4/30"
        slow = Link(delay=50)
        hosts = {**HOSTS, "srv": [*HOSTS["srv"], *prefixes]}
        wire = self.enterContext(Wire(hosts, {prefix: (slow, Link()) for prefix in prefixes}))
        for client, any_, inside, outside in (
                (CLI6, "::", ("fd09:2:0:4::1", "fd09:2:0:7::99"), "fd09:2:0:8::1"),
                (CLI4, "0.0.0.0", ("10.9.3.5", "10.9.3.6"), "10.9.3.9")):
            server = self.open(wire, "srv", any_)
            port = server.getsockname()[1]
            sock = self.open(wire, "cli", client)
            for address in (outside, *inside):
                sent = time.monotonic()
                sock.sendto(address.encode(), (address, port))
                if address in inside:
                    data, source = server.recvfrom(100)
                    self.assertEqual(data, address.encode())
                    self.assertGreaterEqual(time.monotonic() - sent, 0.05)
                    with wire.open_socket("srv", address, in_prefix=True) as reply:
                        reply.sendto(b"reply", source)
                    self.assertEqual(sock.recvfrom(100)[1][0], address)
            counts = wire.counts()
            for address in (outside, *inside):
                self.assertEqual(sum(n for n, _ in counts["sent"]["up"][address].values()), 1, address)
            links = [counts["links"][address]["up"]["received"] for address in inside]
            self.assertEqual(links, [2, 2], "the link is shared")
            self.assertNotIn(outside, counts["links"])
        self.assertEqual(wire.counts()["dropped"]["nobody"], 2)

    def test_addresses_of_nobody(self):
        """What goes astray is seen all the same."""
        wire = self.wire()
        for address in ("192.0.2.1", "224.0.0.1", "255.255.255.255", "169.254.1.1", "2001:db8::1"):
            client = self.open(wire, "cli", CLI6 if ":" in address else CLI4)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.sendto(bytes(1200), (address, 53))
            self.assertEqual(wire.sent("up", address), (1, 1200), address)
        self.assertEqual(wire.counts()["dropped"]["nobody"], 5)

    def test_trace(self):
        wire = self.wire({A: (Link(), Link(loss=1))}, trace=True)
        client, server = self.pair(wire)
        client.send(b"\xc0123456")
        _, source = server.recvfrom(10)
        server.sendto(b"", source)
        up, down = wire.trace()
        self.assertEqual(up[1:], ("up", CLI4, source[1], A, PORT, 7, 0xc0, "initial", 1, b"123456".hex()))
        self.assertEqual(down[1:], ("down", A, PORT, CLI4, source[1], 0, -1, "empty", 0, "-"))
        self.assertEqual((up.far, down.far), (A, A))

    # Packets without sockets

    def test_checksums(self):
        """Changed packets have the checksums that a sender would have given them."""
        for host in (4, 16):
            for number in range(200):
                old, new = (Endpoint(bytes([n + number & 255]) * host, n * number & 0xffff or 1) for n in (1, 77))
                there = Endpoint(bytes([9]) * host, 9)
                payload = bytes([number]) * number
                for end, before, after in (("source", (old, there), (new, there)),
                                           ("destination", (there, old), (there, new))):
                    packet = self.datagram(*before, payload)
                    self.assertEqual(ip_packet.readdress(packet, ip_packet.parse(packet), end, new),
                                     self.datagram(*after, payload))

    @staticmethod
    def datagram(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
        size = 8 + len(payload)
        udp = struct.pack("!HHHH", source.port, destination.port, size, 0) + payload
        pseudo = source.host + destination.host + struct.pack("!II", size, ip_packet.UDP)
        udp = udp[:6] + (ip_packet.checksum(pseudo + udp) or 0xffff).to_bytes(2) + udp[8:]
        if len(source.host) == 16:
            return struct.pack("!IHBB", 6 << 28, size, ip_packet.UDP, 64) + source.host + destination.host + udp
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 1, 0x4000, 64, ip_packet.UDP, 0)
        head += source.host + destination.host
        return head[:10] + ip_packet.checksum(head).to_bytes(2) + head[12:] + udp

    def test_garbage(self):
        """No packet of whatever content is more than one that is not understood."""
        packet = self.datagram(Endpoint(b"\1" * 4, 1), Endpoint(b"\2" * 4, 2), b"abc")
        for cut in range(len(packet)):
            self.assertIsNone(ip_packet.parse(packet[:cut]))
        for first in range(256):
            for data in (bytes([first]) + bytes(60), bytes([first]) + b"\xff" * 60):
                if headers := ip_packet.parse(data):
                    ip_packet.kind(data, headers)


if __name__ == "__main__":
    tap.main(WireTest)
