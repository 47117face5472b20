#!/usr/bin/env python3
"""UDP in HTTP/3 as it is written in Python for other tests: its client through its proxy.

    tests/e2e/test_udp_peers.py --build DIR [--filter TEXT]
"""

import json
import os
import sys
import threading
import unittest
from pathlib import Path

import certs
import net
import qpack
import rfc9298
import tap
import udp_proxy
from procs import Program
from proxy_client import REQUEST_CANCELLED
from quic_aware import CONFLICT, TOO_SHORT, CidCapsule, Forwarding, Scramble, forwarding_field, replace_cid
from quic_packets import QuicError
from udp_client import Tunnel, UdpClient
from udp_proxy_server import Proxy
from udp_proxy_tunnel import Tunnel as ProxyTunnel
from udp_target import LONG, SHORT, Target, packet

TIMEOUT = 60
REVISIONS = (6, 8, 9)
CLIENT, TARGET_CID = b"client-0", b"target-0"
TEXT = b"and more than the sixteen bytes that the transform needs"


class Odd(Proxy):
    """Says what nobody has asked for, in pieces."""

    def answer(self, tunnel: ProxyTunnel, address: str) -> qpack.Fields:
        return [(":status", "203"), ("x-address", address)]

    def opened(self, tunnel: ProxyTunnel) -> None:
        data = CidCapsule("ACK_TARGET_CID", b"never", b"asked").write(9) + rfc9298.capsule(0x2b, b"unknown")
        for byte in data:
            tunnel.send_bytes(bytes([byte]))
        tunnel.forward(packet(SHORT, b"nobodys!", TEXT))
        tunnel.tunnel(b"unasked")


class UdpPeersTest(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.certificate = certs.make(cls.work)

    # The client through the proxy

    def proxy(self, *options: str) -> net.Addr:
        run = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        run.mkdir()
        addr, = net.free_addrs("127.0.0.1")
        key, cert = self.certificate
        self.program = self.enterContext(Program(
            [sys.executable, Path(__file__).with_name("udp_proxy.py"), "--listen", addr.host, str(addr.port),
             "--key", key, "--cert", cert, "--stats", run / "stats.json", *options], run / "proxy.log", "udp_proxy"))
        self.program.wait_bound([addr])
        self.run_directory = run
        return addr

    def stats(self, complaints: list[str] = []) -> dict:
        """Ends the proxy; what it has to say."""
        self.assertEqual(self.program.stop(TIMEOUT), 0, self.program.log.read_text())
        stats = json.loads((self.run_directory / "stats.json").read_text())
        self.assertEqual(stats["complaints"], complaints)
        return stats

    def target(self) -> Target:
        return self.enterContext(Target())

    def tunnel(self, client: UdpClient, target: Target, *fields: tuple[str, str]) -> Tunnel:
        client.check_settings()
        tunnel = client.connect(*target.addr, [*fields])
        self.assertEqual(tunnel.status(), 200)
        self.assertEqual(dict(tunnel.fields)["capsule-protocol"], "?1")
        return tunnel

    def exchange(self, tunnel: Tunnel, target: Target, send) -> None:
        """Payloads of several sizes, there and back."""
        for payload in (b"x", b"", os.urandom(1200)):
            send(payload)
            self.assertEqual(target.receive(tunnel.client), payload)
            target.send(payload + b"back")
            self.assertEqual(tunnel.receive(), payload + b"back")

    def test_datagrams_and_capsules(self):
        with UdpClient(self.proxy()) as client:
            target = self.target()
            tunnel = self.tunnel(client, target)
            self.exchange(tunnel, target, tunnel.send)
            self.exchange(tunnel, target, tunnel.send_capsule)
            self.assertEqual((tunnel.in_datagrams, tunnel.in_capsules), (6, 0))
        stats = self.stats()
        self.assertEqual(stats["to_target"], {"datagrams": 3, "capsules": 3})
        self.assertEqual(stats["to_client"], {"datagrams": 6})
        self.assertEqual(stats["settings"], [{"51": 1}])

    def test_capsules_only(self):
        """A proxy that sends nothing else, one that has no datagrams, and a client that takes none."""
        for options, settings in ((("--capsules",), {0x33: 1}), (("--no-datagrams",), {0x33: 1}), ((), {})):
            with UdpClient(self.proxy(*options), settings=settings) as client:
                target = self.target()
                self.assertEqual(client.proxy_settings(), {8: 1} | ({} if "--no-datagrams" in options else {0x33: 1}))
                tunnel = client.connect(*target.addr)
                self.assertEqual(tunnel.status(), 200)
                self.exchange(tunnel, target, tunnel.send_capsule)
                self.assertEqual((tunnel.in_datagrams, tunnel.in_capsules), (0, 3))
            self.assertEqual(self.stats()["to_client"], {"capsules": 3})

    def test_two_tunnels(self):
        with UdpClient(self.proxy()) as client:
            pairs = [(target, self.tunnel(client, target)) for target in (self.target(), self.target())]
            for target, tunnel in pairs + pairs[::-1]:
                self.exchange(tunnel, target, tunnel.send)
            pairs[0][1].send_bytes(b"", fin=True)
            self.assertIsNone(pairs[0][1].wait_ended())
            self.exchange(pairs[1][1], pairs[1][0], pairs[1][1].send)
        self.stats()

    def test_unknown_is_left_out(self):
        """Contexts, capsules and frames that nobody knows"""
        with UdpClient(self.proxy()) as client:
            target = self.target()
            tunnel = self.tunnel(client, target)
            tunnel.send(b"context", 2)
            tunnel.send_capsule(b"context", 2)
            tunnel.send_bytes(rfc9298.capsule(0x2b2b2b, bytes(3000)))
            tunnel.send_frame(0x21, b"grease")
            client.send_datagram(rfc9298.datagram(400, b"no such stream"))
            self.exchange(tunnel, target, tunnel.send)
        self.stats()

    def test_refusals(self):
        with UdpClient(self.proxy()) as client:
            client.check_settings()
            fields = rfc9298.request("proxy", "192.0.2.1", 443)
            for name, value, status in ((":path", "/", 400), (":scheme", "http", 400), (":protocol", "x", 501),
                                        (":method", "GET", 501)):
                wrong = [(n, value if n == name else v) for n, v in fields]
                tunnel = client.ask_fields(wrong)
                self.assertEqual(tunnel.status(), status, name)
                self.assertIsNone(tunnel.wait_ended())
        self.stats()
        with UdpClient(self.proxy("--status=429", "--no-extended-connect")) as client:
            self.assertEqual(client.connect("192.0.2.1", 443).status(), 429)
            with self.assertRaises(QuicError):
                client.check_settings()
        self.stats()

    def test_cut_off(self):
        with UdpClient(self.proxy()) as client:
            tunnel = self.tunnel(client, self.target())
            tunnel.send_bytes(b"\0\x40", fin=True)
            tunnel.wait_ended()
        self.stats(["stream 0 ends in the middle of a capsule"])

    # Connection IDs

    def register(self, tunnel: Tunnel, revision: int) -> tuple[bytes, bytes]:
        """The virtual connection IDs of the client and of the target."""
        tunnel.send_cid(CidCapsule("REGISTER_CLIENT_CID", CLIENT), revision)
        client = tunnel.receive_cid("ACK_CLIENT_CID")
        tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT, client.vcid), revision)
        tunnel.send_cid(CidCapsule("REGISTER_TARGET_CID", TARGET_CID), revision)
        target = tunnel.receive_cid("ACK_TARGET_CID")
        self.assertEqual((client.cid, target.cid), (CLIENT, TARGET_CID))
        self.assertGreater(tunnel.receive_cid("MAX_CONNECTION_IDS").maximum, 2)
        return client.vcid, target.vcid

    def forward(self, revision: int, transform: str, *options: str) -> None:
        key = os.urandom(32)
        with UdpClient(self.proxy(*options)) as client:
            target = self.target()
            tunnel = self.tunnel(client, target, forwarding_field([transform], key))
            answer = tunnel.forwarding()
            self.assertEqual((answer.allowed, answer.transforms), (True, (transform,)))
            self.exchange(tunnel, target, tunnel.send)
            client_vcid, target_vcid = self.register(tunnel, revision)
            self.assertNotIn(client_vcid, (CLIENT, target_vcid))
            scramble = transform == "scramble-dt"
            self.assertEqual(answer.key is not None, scramble)
            there = packet(SHORT, target_vcid, TEXT)
            if scramble:
                ours, theirs = Scramble(key), Scramble(answer.key)
                self.addCleanup(ours.close)
                self.addCleanup(theirs.close)
                there = ours.apply(there, len(target_vcid))
            client.forward(there)
            self.assertEqual(target.receive(client), packet(SHORT, TARGET_CID, TEXT))
            target.send(packet(SHORT, CLIENT, TEXT))
            client.wait(lambda: bool(client.forwarded), "nothing is forwarded")
            back, = client.forwarded
            self.assertEqual(back[1:1 + len(client_vcid)], client_vcid)
            if scramble:
                self.assertNotIn(TEXT, back)
                back = theirs.undo(back, len(client_vcid))
            self.assertEqual(replace_cid(back, client_vcid, CLIENT), packet(SHORT, CLIENT, TEXT))
            # Long headers and other connection IDs are tunnelled.
            for other in (packet(LONG, CLIENT, TEXT), packet(SHORT, b"somebody", TEXT)):
                target.send(other)
                self.assertEqual(tunnel.receive(), other)
        stats = self.stats()
        self.assertEqual((stats["to_target"]["forwarded"], stats["to_client"]["forwarded"]), (1, 1))
        self.assertEqual(stats["cids"], [[revision, name] for name in (
            "REGISTER_CLIENT_CID", "ACK_CLIENT_VCID", "REGISTER_TARGET_CID")])

    def test_forwarding(self):
        for revision in REVISIONS:
            for transform in ("scramble-dt", "identity"):
                self.forward(revision, transform)

    def test_longer_virtual_ids(self):
        self.forward(9, "scramble-dt", "--cid-length=20")

    def test_no_forwarding(self):
        """Nothing to choose, or a key is missing: connection IDs are acknowledged without virtual ones."""
        for proxy, field in (((), ("proxy-quic-forwarding", "?0")), (("--transforms=",), forwarding_field(
                ["identity"], None)), ((), forwarding_field(["scramble-dt"], None))):
            with UdpClient(self.proxy(*proxy)) as client:
                tunnel = self.tunnel(client, self.target(), field)
                self.assertEqual(tunnel.forwarding(), Forwarding(False))
                tunnel.send_cid(CidCapsule("REGISTER_CLIENT_CID", CLIENT))
                self.assertEqual(tunnel.receive_cid("ACK_CLIENT_CID").vcid, b"")
            self.stats()

    def test_rejections(self):
        for revision, name in ((6, "CLOSE"), (8, "CLOSE"), (9, "REJECT")):
            with UdpClient(self.proxy("--reject=TARGET")) as client:
                tunnel = self.tunnel(client, self.target(), forwarding_field(["identity"], None))
                tunnel.send_cid(CidCapsule("REGISTER_TARGET_CID", TARGET_CID), revision)
                self.assertEqual(tunnel.receive_cid(f"{name}_TARGET_CID"), CidCapsule(
                    f"{name}_TARGET_CID", TARGET_CID, reason=CONFLICT if revision > 6 else 0))
                tunnel.send_cid(CidCapsule("REGISTER_CLIENT_CID", b""), revision)
                self.assertEqual(tunnel.receive_cid(f"{name}_CLIENT_CID").reason, TOO_SHORT if revision > 6 else 0)
            self.stats()

    def test_wrong_capsules(self):
        """Each ends its stream, and nothing else."""
        field = forwarding_field(["identity"], None)
        for revision in REVISIONS:
            for fields, what, complaint in (
                    ([], CidCapsule("REGISTER_CLIENT_CID", CLIENT), "without proxy-quic-forwarding"),
                    ([field], CidCapsule("ACK_CLIENT_CID", CLIENT), "only a proxy sends"),
                    ([field], CidCapsule("MAX_CONNECTION_IDS", maximum=9), "only a proxy sends"),
                    ([field], CidCapsule("ACK_CLIENT_VCID", CLIENT, b"virtual"), "of something else")):
                with UdpClient(self.proxy()) as client:
                    target = self.target()
                    tunnel = self.tunnel(client, target, *fields)
                    tunnel.send_cid(what, revision)
                    self.assertEqual(tunnel.wait_ended(), rfc9298.H3_DATAGRAM_ERROR)
                    other = self.tunnel(client, target)
                    self.exchange(other, target, other.send)
                self.assertEqual(self.program.stop(TIMEOUT), 0)
                told, = json.loads((self.run_directory / "stats.json").read_text())["complaints"]
                self.assertIn(complaint, told)

    def test_proxy_that_errs(self):
        """One that is made for a test, and runs in it."""
        addr, = net.free_addrs("127.0.0.1")
        key, cert = self.certificate
        options = udp_proxy.parse(["--listen", addr.host, str(addr.port), "--key", str(key), "--cert", str(cert),
                                   "--stats", os.devnull])
        left = threading.Event()
        with Odd(options) as proxy:
            thread = threading.Thread(target=proxy.run, args=(left.is_set, TIMEOUT))
            thread.start()
            try:
                with UdpClient(addr) as client:
                    tunnel = client.connect("127.0.0.1", 443)
                    self.assertEqual(tunnel.status(), 203)
                    self.assertEqual(tunnel.fields, [(":status", "203"), ("x-address", "127.0.0.1")])
                    self.assertEqual(tunnel.receive_cid("ACK_TARGET_CID").vcid, b"asked")
                    client.wait(lambda: bool(tunnel.other_capsules), "the unknown capsule does not arrive")
                    self.assertEqual(tunnel.other_capsules, [(0x2b, b"unknown")])
                    self.assertEqual(tunnel.receive(), b"unasked")
                    client.wait(lambda: bool(client.forwarded), "nothing is forwarded")
                    self.assertEqual(client.forwarded, [packet(SHORT, b"nobodys!", TEXT)])
            finally:
                left.set()
                thread.join()

    def test_cancel(self):
        with UdpClient(self.proxy()) as client:
            tunnel = self.tunnel(client, self.target())
            client.connection.reset_stream(tunnel.stream, REQUEST_CANCELLED)
            tunnel.wait_ended()
        self.stats()


if __name__ == "__main__":
    tap.main(UdpPeersTest)
