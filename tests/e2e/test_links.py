#!/usr/bin/env python3
"""What is to be seen on each link between client, proxies and target, while all of them move: who talks to whom,
which addresses are in the packets, and by which connection IDs two paths could be told to be of one connection.

    tests/e2e/test_links.py --build DIR [--filter TEXT]

The network decides by NGMASQUE_SEED, by default 1.
"""

import itertools
from collections import Counter, defaultdict
from typing import NamedTuple

import ip_packet
import pcap
import tap
from net import Addr
from network_case import CLIENT4, PORT, SEED
from proxied import Proxied
from proxy_case import MIB, ProxyCase
from two_hops import TwoHops
from wire import Link, Wire

# By host: where each is found, and for the proxies first where they go on from
CLIENT = [CLIENT4]
FIRST = ["10.9.4.9", "10.9.4.1", "10.9.4.2"]
SECOND = ["10.9.2.9", "10.9.2.1", "10.9.2.2", "10.9.2.3"]
TARGET = ["10.9.3.1", "10.9.3.2"]
HOSTS = {"cli": CLIENT, "srv": SECOND, "tgt": TARGET, "one": FIRST}
OWNER = {address: host for host, addresses in HOSTS.items() for address in addresses}
# There is no more on its way than the queue takes, and time for several moves.
WAY = Link(delay=5), Link(delay=5, rate=2 * MIB, queue=MIB)
WINDOW = ("--max-data=128K", "--max-stream-data-bidi-local=128K")
CHANGE = "--change-local-addr=400ms"
ALLOW = "--connect-udp-allow=10.0.0.0/8"
MOVES = "--migrate-every=150ms", "--migrate-every=190ms", "--migrate-every=230ms"
# Of a connection ID: enough to tell it from others
ID = 8


class Packet(NamedTuple):
    source: ip_packet.Endpoint
    destination: ip_packet.Endpoint
    payload: bytes

    @property
    def link(self) -> tuple[str, str]:
        one, other = (OWNER.get(end.text, end.text) for end in (self.source, self.destination))
        return (one, other) if one < other else (other, one)

    @property
    def short(self) -> bool:
        return len(self.payload) > ID and not self.payload[0] & 0x80

    @property
    def id(self) -> bytes:
        return self.payload[1:1 + ID]


Paths = dict[tuple[ip_packet.Endpoint, ip_packet.Endpoint], Counter[bytes]]


def ids_of(packets: list[Packet], link: tuple[str, str]) -> Paths:
    """The connection IDs of short headers, and how often, by path and direction."""
    paths: Paths = defaultdict(Counter)
    for packet in packets:
        if packet.link == link and packet.short:
            paths[packet.source, packet.destination][packet.id] += 1
    return paths


def all_ids(paths: Paths) -> set[bytes]:
    return set().union(*paths.values())


class Links(ProxyCase):
    SIZES = (2 * MIB, 2 * MIB)

    def network(self, *ways: str) -> Wire:
        self.capture = self.work / f"{self._testMethodName}.pcap"
        return Wire(HOSTS, {address: WAY for address in ways}, SEED, pcap=self.capture)

    def packets(self) -> list[Packet]:
        found = []
        for data in pcap.read(self.capture):
            if (headers := ip_packet.parse(data)) and headers.protocol == ip_packet.UDP:
                found.append(Packet(headers.source, headers.destination, data[headers.start:headers.end]))
        return found

    def ring(self, addresses: list[str]) -> tuple[Addr, ...]:
        return tuple(Addr(address, PORT) for address in addresses)

    # One proxy, and two

    def one(self, wire: Wire, moves: bool) -> Proxied:
        target, other = self.ring(TARGET)
        return self.proxied(wire=wire, ring=self.ring(SECOND[1:]), target_addr=target,
                            proxy=(ALLOW, *(MOVES[1:2] if moves else ())),
                            target=(f"--alternate-addr={other}", *(MOVES[:1] if moves else ())))

    def hops(self, wire: Wire) -> TwoHops:
        target, other = self.ring(TARGET)
        run = self.work / self._testMethodName
        run.mkdir()
        return TwoHops(self.build, self.site, run, seed=SEED, wire=wire, first=(ALLOW, MOVES[2]),
                       first_ring=self.ring(FIRST[1:]), ring=self.ring(SECOND[1:]), proxy=(ALLOW, MOVES[1]),
                       target_addr=target, target=(f"--alternate-addr={other}", MOVES[0]))

    # What is seen

    def check_who_talks(self, packets: list[Packet], *links: tuple[str, str]) -> None:
        """Each with the next one, and with nobody else."""
        self.assertEqual({packet.link for packet in packets}, set(links))

    def check_addresses(self, packets: list[Packet], link: tuple[str, str], hidden: str) -> None:
        """Nothing on the link names an address of that host, be it in text or as bytes."""
        hosts = [ip_packet.to_bytes(address) for address in HOSTS[hidden]]
        ends = {end for packet in packets for end in (packet.source, packet.destination) if end.host in hosts}
        self.assertGreater(len(ends), 0)
        names = [address.encode() for address in HOSTS[hidden]]
        names += [end.host + end.port.to_bytes(2) for end in ends]
        seen = [packet for packet in packets if packet.link == link]
        self.assertGreater(len(seen), 100)
        for packet in seen:
            for name in names:
                self.assertNotIn(name, packet.payload, f"{link}: {hidden}")
            # Four bytes are in what is encrypted by chance, but not in so little.
            for host in hosts if not packet.short else ():
                self.assertNotIn(host, packet.payload[:64], f"{link}: {hidden}")

    def on_two_paths(self, paths: Paths) -> set[bytes]:
        """Connection IDs that more than one path has had."""
        self.assertGreaterEqual(len(paths), 4, "there and back, before a move and after it")
        return {one for first, other in itertools.combinations(paths, 2) for one in paths[first].keys() & paths[other].keys()}

    def check_ids(self, packets: list[Packet], link: tuple[str, str], next_link: tuple[str, str] | None,
                  dialect: str) -> None:
        """No connection ID is on two paths of the link (RFC 9000, section 9.5).  `dialect`: of the proxy at the far end
        of it, which forwards what comes on the `next_link`; in draft-00 with the connection IDs that it has there."""
        paths = ids_of(packets, link)
        again = self.on_two_paths(paths)
        print(f"# {link}: {len(paths)} paths and directions, {len(all_ids(paths))} connection IDs", flush=True)
        if next_link is None:
            self.assertEqual(again, set(), link)
            return
        behind = all_ids(ids_of(packets, next_link))
        forwarded = all_ids(paths) & behind
        if dialect == "draft-00":
            # They are those of both links, and the same ones wherever the proxy moves to.
            self.assertGreater(len(forwarded), 0)
            self.assertLessEqual(again, forwarded)
            self.assertGreater(len(again), 0)
            return
        self.assertEqual(forwarded, set(), link)
        self.assertEqual(again, set(), link)

    def check_one(self, dialect: str, *options: str, moves: int = 2) -> None:
        with self.network(*SECOND[1:]) as wire, self.one(wire, moves > 0) as world:
            outcome = world.start(f"--proxy-dialect={dialect}", *options, *WINDOW, "--enable-server-migration").finish()
            world.stop()
            wire.counts()
        self.check_forwarded(outcome, 0.3)
        self.assertGreaterEqual(outcome.stats["server_migrations"], moves)
        self.assertGreaterEqual(outcome.stats["proxy"]["server_migrations"], moves)
        packets = self.packets()
        front, back = ("cli", "srv"), ("srv", "tgt")
        self.check_who_talks(packets, front, back)
        self.check_addresses(packets, front, "tgt")
        self.check_addresses(packets, back, "cli")
        self.check_ids(packets, front, back, dialect)
        if moves:
            self.check_ids(packets, back, None, dialect)

    def check_two(self, first: str, second: str) -> None:
        with self.network(*FIRST[1:]) as wire, self.hops(wire) as world:
            outcome = world.start_through((first, second), *WINDOW, "--enable-server-migration").finish()
            world.stop_all()
            wire.counts()
        self.check_forwarded(outcome, 0.3)
        for moves in (outcome.stats, outcome.stats["proxy"], outcome.stats["via"]):
            self.assertGreaterEqual(moves["server_migrations"], 2)
        packets = self.packets()
        front, middle, back = ("cli", "one"), ("one", "srv"), ("srv", "tgt")
        self.check_who_talks(packets, front, middle, back)
        for link, hidden in ((front, "srv"), (front, "tgt"), (middle, "cli"), (middle, "tgt"), (back, "cli"),
                             (back, "one")):
            self.check_addresses(packets, link, hidden)
        self.check_ids(packets, front, middle, first)
        self.check_ids(packets, middle, back, second)
        self.check_ids(packets, back, None, second)

    def test_draft_00(self):
        self.check_one("draft-00")

    def test_rfc9298(self):
        self.check_one("rfc9298")

    def test_rfc9298_all_move(self):
        self.check_one("rfc9298", CHANGE)

    def test_rfc9298_client_moves(self):
        self.check_one("rfc9298", CHANGE, moves=0)

    def test_two_draft_00(self):
        self.check_two("draft-00", "draft-00")

    def test_two_rfc9298(self):
        self.check_two("rfc9298", "rfc9298")


if __name__ == "__main__":
    tap.main(Links)
