#!/usr/bin/env python3
"""What our proxy answers and does in the dialect of RFC 9298, packet by packet, beyond what every proxy has to
(udp_rules.py): statuses, targets, conflicts, and packets that go nowhere.

    tests/e2e/test_proxy_modern_rules.py --build DIR [--filter TEXT]
"""

import ipaddress
import json
import os
import random
import subprocess
from collections.abc import Iterator

import tap
from proxied import Proxied
from proxy_case import PacketCase
from proxy_client import MESSAGE_ERROR
from qpack import Fields
from quic_aware import CONFLICT, TOO_SHORT, CidCapsule, forwarding_field
from quic_packets import QuicError
from rfc9298 import H3_DATAGRAM_ERROR, path, request
from udp_case import CLIENT_ID, TARGET_ID, TEXT, UdpCase, forwarded, pause
from udp_client import Tunnel, UdpClient
from udp_target import LONG, SHORT, Target, packet

REVISIONS = (6, 8, 9)
FORWARDING = forwarding_field(["identity"], None)
SHARING = ("proxy-quic-port-sharing", "?1")
BASE = "/.well-known/masque/udp"


class RulesTest(UdpCase, PacketCase):
    def answer(self, tunnel: Tunnel) -> tuple[int, str]:
        """The status and what proxy-status says; or what the stream was reset with."""
        try:
            status = tunnel.status()
        except QuicError:
            return tunnel.reset_code, "reset"
        return status, dict(tunnel.fields).get("proxy-status", "")

    def shared(self, client: UdpClient, target: Target) -> Tunnel:
        return self.open(client, target, FORWARDING, SHARING)

    def say(self, tunnel: Tunnel, name: str, revision: int = 9, **what) -> CidCapsule:
        """Sends that, and waits for the answer."""
        side = name.split("_")[1]
        tunnel.send_cid(CidCapsule(name, **what), revision)
        return tunnel.receive_cid(f"ACK_{side}_CID", f"{'REJECT' if revision == 9 else 'CLOSE'}_{side}_CID")

    # Requests

    def wrong(self, fields: dict[str, str], host: str, port: int) -> Iterator[tuple[int, str, Fields]]:
        """Answers, and the requests that get them."""
        def but(**others: str) -> Fields:
            return list((fields | {f":{name}": value for name, value in others.items()}).items())

        for name in (":method", ":protocol", ":scheme", ":path", ":authority"):
            yield MESSAGE_ERROR, "reset", [pair for pair in fields.items() if pair[0] != name]
            yield MESSAGE_ERROR, "reset", [pair for pair in fields.items() for _ in range(1 + (pair[0] == name))]
        for text in ("connect-ip", "CONNECT-UDP", "websocket"):
            yield 501, "http_request_denied", but(protocol=text)
        yield 501, "http_request_denied", [(":method", "CONNECT"), (":authority", f"{host}:{port}")]
        for text in ("http", "masque"):
            yield 400, "scheme is not https", but(scheme=text)
        for text in ("", "*", path(host, port)[1:], f"{BASE}/a b/443/", f"{BASE}/{host}/4 43/"):
            yield MESSAGE_ERROR, "reset", but(path=text)
        for text in ("/", path(host, port) + "x", path(host, port) + "?x=1", f"{BASE}/", f"{BASE}/{host}/",
                     f"{BASE}/{host}/443", f"{BASE}/{host}/+443/", *(
                         f"{BASE}/{text}/443/" for text in ("%", "%2", "%zz", "::1", "*"))):
            yield 404, "no such path", but(path=text)
        for text in (*(f"{BASE}/{host}/{text}/" for text in (
                         "", "0", "65536", "-1", "0x1bb", "443%00", "%2B443", "%EF%BC%94%EF%BC%94%EF%BC%93", "9" * 20)),
                     *(f"{BASE}/{text}/443/" for text in (
                         "", "%00", "127.0.0.2%00", "a%2Fb", "%5B", "%5B%3A%3A1%5D", "fe80%3A%3A1%25lo", "a" * 300,
                         "a..b", "ex%C3%A4mple"))):
            yield 400, "target is not a host and a port", but(path=text)
        for name in ("content-length", "content-type"):
            yield 400, "http_request_error", [*fields.items(), (name, "0")]
        for more in (("transfer-encoding", "chunked"), ("Upper", "case"), ("connection", "close"), (":status", "200")):
            yield MESSAGE_ERROR, "reset", [*fields.items(), more]

    def test_bad_requests(self):
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client:
            good = self.open(client, target)
            fields = dict(request(str(world.proxy_addr), *target.addr))
            for status, words, wrong in self.wrong(fields, *target.addr):
                got, said = self.answer(client.ask_fields(wrong))
                self.assertEqual(got, status, wrong)
                self.assertIn(words, said, wrong)
            self.check_tunnel(good, target)
            proxy = self.stop(world)
            self.assertEqual((proxy["flows"], proxy["sockets"]), (1, 1))

    def test_capsule_protocol(self):
        """Whatever that field says: the answer has it."""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client:
            client.check_settings()
            fields = request(str(world.proxy_addr), *target.addr)[:-1]
            for values in ((), ("?0",), ("1",), ("?1, ?1",), ("?1", "?1"), ("?1;a=b",)):
                tunnel = client.ask_fields([*fields, *(("capsule-protocol", value) for value in values)])
                self.assertEqual((tunnel.status(), dict(tunnel.fields)["capsule-protocol"]), (200, "?1"), values)
                self.check_tunnel(tunnel, target)
            self.stop(world)

    # Targets

    def test_denied_targets(self):
        """However they are written, and names of them"""
        denied = """127.0.0.1 127.0.0.1. 127.1 2130706433 0x7f.1 0177.0.0.1 0 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1
            192.168.1.1 100.64.0.1 169.254.1.1 192.0.2.1 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255
            ::1 :: ::127.0.0.1 ::ffff:127.0.0.1 64:ff9b::7f00:1 64:ff9b::127.0.0.1 2002:7f00:1:: 2001::80ff:fefe
            fe80::1 fec0::1 fc00::1 ff02::1 2001:db8::1 localhost localhost. LOCALHOST""".split()
        with self.proxied(proxy=(), target_runs=False) as world, UdpClient(world.proxy_addr) as client:
            client.check_settings()
            for host in denied:
                for port in (443, 4433):
                    got, said = self.answer(client.connect(host, port))
                    self.assertEqual((got, "destination_ip_prohibited" in said), (403, True), (host, said))
            for port in (1, 22, 53, 123, 1023, 5353, 11211):
                got, said = self.answer(client.connect("192.0.2.1", port))
                self.assertEqual((got, "http_request_denied" in said), (403, True), (port, said))
            got, said = self.answer(client.connect("no-such-host.invalid", 443))
            self.assertEqual((got, "dns_error" in said), (502, True), said)
            self.assertEqual(self.stop(world)["sockets"], 0)

    def test_own_addresses(self):
        """Whatever is allowed, and whoever listens there"""
        shown = json.loads(subprocess.run(["ip", "-json", "address"], check=True, capture_output=True).stdout)
        own = [info["local"] for device in shown for info in device["addr_info"]]
        own = [host for host in own if not ipaddress.ip_address(host).is_loopback]
        with self.proxy("--connect-udp-allow=0.0.0.0/0", "--connect-udp-allow=::/0") as world:
            with UdpClient(world.proxy_addr) as client:
                client.check_settings()
                port = world.proxy_addr.port
                for host, number in (tuple(world.proxy_addr), ("0.0.0.0", port), ("::ffff:127.0.0.1", port),
                                     *((host, number) for host in own for number in (443, port))):
                    self.assertEqual(self.answer(client.connect(host, number))[0], 403, (host, number))
            self.assertEqual(self.stop(world)["sockets"], 0)

    # Connection IDs

    def test_conflicts(self):
        """Two clients of one socket: equal, prefixes either way, and one of zero length"""
        for revision in REVISIONS:
            with self.proxy() as world, Target() as target:
                with UdpClient(world.proxy_addr) as one, UdpClient(world.proxy_addr) as two:
                    first, second = self.shared(one, target), self.shared(two, target)
                    answer = self.say(first, "REGISTER_CLIENT_CID", revision, cid=CLIENT_ID)
                    self.assertEqual(answer.name, "ACK_CLIENT_CID")
                    for cid in (CLIENT_ID, CLIENT_ID[:4], CLIENT_ID + b"more", b""):
                        answer = self.say(second, "REGISTER_CLIENT_CID", revision, cid=cid)
                        self.assertEqual((answer.name[:6].strip("_"), answer.cid),
                                         ("REJECT" if revision == 9 else "CLOSE", cid))
                        if revision > 6:
                            self.assertIn(answer.reason, (CONFLICT,) if cid else (CONFLICT, TOO_SHORT))
                    answer = self.say(second, "REGISTER_CLIENT_CID", revision, cid=b"another-one")
                    self.assertEqual(answer.name, "ACK_CLIENT_CID")
                    # Each gets what is its own.
                    for tunnel, cid in ((first, CLIENT_ID), (second, b"another-one")):
                        tunnel.send(packet(LONG, TARGET_ID, cid))
                        target.receive(tunnel.client)
                        target.send(packet(LONG, cid, TEXT))
                        self.assertEqual(tunnel.receive(), packet(LONG, cid, TEXT))
                    self.assertEqual((first.payloads, second.payloads), ([], []))
                self.assertEqual(self.stop(world)["sockets"], 1)

    def test_no_port_sharing(self):
        """A socket for each: equal ones are no conflict."""
        with self.proxy() as world, Target() as target:
            with UdpClient(world.proxy_addr) as one, UdpClient(world.proxy_addr) as two:
                sources = set()
                for client in (one, two):
                    tunnel = self.open(client, target, FORWARDING)
                    self.register(tunnel, 9)
                    self.check_tunnel(tunnel, target)
                    sources.add(target.source)
                self.assertEqual(len(sources), 2)
            self.assertEqual(self.stop(world)["sockets"], 2)

    def test_random_registrations(self):
        """Of two clients of one socket: each packet reaches the one that has its connection ID, or nobody."""
        chosen = random.Random(3)
        with self.proxy("--connect-udp-min-connection-id=1") as world, Target() as target:
            with UdpClient(world.proxy_addr) as one, UdpClient(world.proxy_addr) as two:
                tunnels = self.shared(one, target), self.shared(two, target)
                owners: dict[bytes, Tunnel] = {}
                for _ in range(60):
                    tunnel, cid = chosen.choice(tunnels), bytes(chosen.choices(b"ab", k=chosen.randrange(1, 9)))
                    clash = any(other != cid and (other.startswith(cid) or cid.startswith(other)) for other in owners)
                    answer = self.say(tunnel, "REGISTER_CLIENT_CID", cid=cid)
                    taken = answer.name == "ACK_CLIENT_CID"
                    self.assertEqual(taken, not clash and owners.get(cid, tunnel) is tunnel, (cid, owners))
                    if taken:
                        owners[cid] = tunnel
                    if len(owners) > 6:  # it goes, and what is sent next shows that it has
                        gone = chosen.choice(list(owners))
                        owners.pop(gone).send_cid(CidCapsule("CLOSE_CLIENT_CID", gone))
                tunnels[0].send(packet(LONG, TARGET_ID, b"begin"))
                target.receive(one)
                for number in range(60):
                    cid = bytes(chosen.choices(b"ab", k=12))
                    target.send(packet(SHORT, cid, b"%d" % number))
                pause(one, two)
                for tunnel in tunnels:
                    for _, payload in tunnel.payloads:
                        self.assertIs(next(owners[cid] for cid in owners if payload[1:].startswith(cid)), tunnel)
                self.assertTrue(all(tunnel.payloads for tunnel in tunnels))
            self.assertEqual(self.stop(world)["sockets"], 1)

    def test_batch_with_an_error(self):
        """Of several capsules in one DATA frame the last one is wrong: the stream ends, and nothing is left of it."""
        with self.proxy() as world, Target() as target:
            with UdpClient(world.proxy_addr) as client, UdpClient(world.proxy_addr) as other:
                good, bad = self.shared(client, target), self.shared(client, target)
                batch = [CidCapsule("REGISTER_CLIENT_CID", CLIENT_ID), CidCapsule("REGISTER_TARGET_CID", TARGET_ID),
                         CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, b"of nobody's")]
                bad.send_bytes(b"".join(capsule.write(9) for capsule in batch))
                self.assertEqual(bad.wait_ended(), H3_DATAGRAM_ERROR)
                # What it had is free for others.
                for tunnel in (good, self.shared(other, target)):
                    self.register(tunnel, 9)
                    self.check_tunnel(tunnel, target)
                    tunnel.send_cid(CidCapsule("CLOSE_CLIENT_CID", CLIENT_ID))
                    tunnel.send_cid(CidCapsule("CLOSE_TARGET_CID", TARGET_ID))
                    self.say(tunnel, "REGISTER_TARGET_CID", cid=b"after them")
            self.stop(world)

    # Packets

    def test_early_datagrams(self):
        """As many as the bound are kept until the request comes; the others are dropped and counted."""
        with self.proxy("--connect-udp-max-early-datagrams=3") as world, Target() as target:
            with UdpClient(world.proxy_addr) as client:
                client.check_settings()
                # It has the client's SETTINGS, which say what datagrams are, before the first of them.
                self.check_tunnel(self.open(client, target), target)
                early = Tunnel(client, 4)
                for number in range(10):
                    early.send(b"%d" % number)
                tunnel = client.connect(*target.addr)
                self.assertEqual((tunnel.stream, tunnel.status()), (4, 200))
                self.assertEqual([target.receive(client) for _ in range(3)], [b"0", b"1", b"2"])
                self.assertTrue(target.silent(client))
                self.check_tunnel(tunnel, target)
            self.assertEqual(sum(self.stop(world)["dropped"].values()), 7)

    def test_datagram_before_settings(self):
        """It has overtaken the client's SETTINGS, which say what it is: what arrives is its payload, or nothing."""
        class Late(UdpClient):
            def __enter__(self) -> "Late":
                self._connect()
                return self

        with self.proxy() as world, Target() as target:
            with Late(world.proxy_addr) as client:
                Tunnel(client, 0).send(b"early")
                pause(client)
                client.http.begin()
                tunnel = self.open(client, target)
                tunnel.send(b"in time")
                data = target.receive(client)
                if data != b"in time":
                    self.assertEqual(data, b"early")
            self.stop(world)

    def test_sizes(self):
        """Empty ones arrive; what does not fit is dropped, and counted, and never cut."""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client:
            tunnel = self.open(client, target)
            for size in (0, 1, 1200):
                tunnel.send(bytes(size))
                self.assertEqual(target.receive(client), bytes(size))
                target.send(bytes(size))
                self.assertEqual(tunnel.receive(), bytes(size))
            for size in (1400, 9000, 65_507):  # to the client: no datagram takes them
                target.send(bytes(size))
            tunnel.send_capsule(bytes(65_527))  # to the target: no IPv4 packet does
            self.check_tunnel(tunnel, target)
            dropped = self.stop(world)["dropped"]
            self.assertEqual(dropped, {"packet is too large": 4})

    def test_forwarded_sizes(self):
        """Forwarded as it is, whatever its size"""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client:
            tunnel = self.open(client, target, FORWARDING)
            client_vcid, target_vcid = self.register(tunnel, 9)
            tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, client_vcid))
            self.check_tunnel(tunnel, target)
            for size in (0, 1, 1200, 1452, 9000):
                text = os.urandom(size)
                client.forward(packet(SHORT, target_vcid, text))
                self.assertEqual(target.receive(client), packet(SHORT, TARGET_ID, text))
                target.send(packet(SHORT, CLIENT_ID, text))
                client.wait(lambda: forwarded(client, client_vcid), f"{size} bytes are not forwarded")
                self.assertEqual(client.forwarded.pop(), packet(SHORT, client_vcid, text))
            self.stop(world)

    def test_capsules_by_choice(self):
        """A client that has negotiated datagrams, and sends capsules: it is answered in kind."""
        with self.proxy() as world, Target() as target, UdpClient(world.proxy_addr) as client:
            tunnel = self.open(client, target)
            for payload in (b"x", b"", bytes(1300)):
                tunnel.send_capsule(payload)
                self.assertEqual(target.receive(client), payload)
                target.send(payload)
                self.assertEqual(tunnel.receive(), payload)
            self.assertEqual((tunnel.in_capsules, tunnel.in_datagrams), (3, 0))
            self.stop(world)


if __name__ == "__main__":
    tap.main(RulesTest)
