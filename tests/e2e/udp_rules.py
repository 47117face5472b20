"""What every UDP proxy in HTTP/3 has to do, packet by packet, whoever wrote it: RFC 9297, RFC 9298 and
draft-ietf-masque-quic-proxy.  A class of tests says how its proxy is started."""

import os
import socket
from contextlib import AbstractContextManager

from net import Addr
from proxy_client import MESSAGE_ERROR
from quic_aware import CidCapsule, Scramble, forwarding_field, replace_cid
from quic_packets import QuicError, varint
from rfc9298 import (DATAGRAM, H3_DATAGRAM, H3_DATAGRAM_ERROR, LAST_QUARTER, MAX_PAYLOAD, capsule, datagram,
                     datagram_capsule, path, request)
from udp_case import CLIENT_ID, TARGET_ID, TEXT, UdpCase, forwarded, pause
from udp_client import UdpClient
from udp_target import LONG, SHORT, Target, packet

SETTINGS_ERROR = 0x109
REVISIONS = (6, 8, 9)


class UdpRules(UdpCase):
    """For a unittest.TestCase."""

    def started(self, *options: str) -> AbstractContextManager[Addr]:
        """The proxy, whose targets may be on loopback addresses, and which ends in order; `options` are those of
        udp_proxy.py."""
        raise NotImplementedError

    # Requests: RFC 9298, sections 3, 3.1 and 3.4

    def test_settings(self):
        with self.started() as addr, UdpClient(addr) as client:
            client.check_settings()

    def test_bad_requests(self):
        """Each is refused or reset, and a tunnel of the same connection works on."""
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            good = self.open(client, target)
            fields = dict(request(str(addr), *target.addr))
            host, port = target.addr
            bad = {
                **{f":protocol {text!r}": fields | {":protocol": text} for text in ("connect-ip", "", "CONNECT-UDP")},
                ":method GET": fields | {":method": "GET"},
                ":scheme http": fields | {":scheme": "http"},
                **{f"without {name}": {n: v for n, v in fields.items() if n != name}
                   for name in (":scheme", ":path", ":authority")},
                **{f"path {text!r}": fields | {":path": text} for text in (
                    "", "/", path(host, port)[1:], path(host, port) + "x", path("", port), "/.well-known/masque/udp/",
                    f"/.well-known/masque/udp/{host}/", f"/.well-known/masque/udp/{host}//",
                    *(f"/.well-known/masque/udp/{host}/{text}/" for text in (
                        "0", "65536", "+443", "-1", "4 43", "0x1bb", "443%00", "%EF%BC%94%EF%BC%94%EF%BC%93",
                        "99999999999999999999")),
                    *(f"/.well-known/masque/udp/{text}/{port}/" for text in (
                        "%", "%2", "%zz", "%00", "127.0.0.2%00", "a%2Fb", "%5B", "a b")))},
            }
            for what, wrong in bad.items():
                tunnel = client.ask_fields(list(wrong.items()))
                try:
                    self.assertGreaterEqual(tunnel.status(), 400, what)
                except QuicError:
                    self.assertEqual(tunnel.reset_code, MESSAGE_ERROR, what)
                tunnel.wait_ended()
                self.check_tunnel(good, target)
            for name in (":method", ":protocol", ":scheme", ":authority", ":path"):
                doubled = [pair for n, v in fields.items() for pair in [(n, v)] * (1 + (n == name))]
                tunnel = client.ask_fields(doubled)
                try:
                    self.assertGreaterEqual(tunnel.status(), 400, name)
                except QuicError:
                    self.assertEqual(tunnel.reset_code, MESSAGE_ERROR, name)
                self.check_tunnel(good, target)

    # Datagrams: RFC 9297, section 2.1; RFC 9298, sections 4 and 5

    def test_datagrams_for_nobody(self):
        """Contexts that are not known, streams that are not there, or not any more"""
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            good, gone = self.open(client, target), self.open(client, target)
            gone.send_bytes(b"", fin=True)
            gone.wait_ended()
            for data in (datagram(good.stream, b"x", 2), datagram(good.stream, b"x", (1 << 62) - 1),
                         datagram(gone.stream, b"x"), datagram(4000, b"x"), datagram(4 * LAST_QUARTER, b"x")):
                client.send_datagram(data)
                self.assertTrue(target.silent(client), data.hex())
            self.check_tunnel(good, target)

    def test_datagram_errors(self):
        """Of the connection"""
        for data in (b"", b"\x40", varint(LAST_QUARTER + 1) + b"\0x"):
            with self.started() as addr, Target() as target, UdpClient(addr) as client:
                self.open(client, target)
                client.send_datagram(data)
                client.wait(lambda: client.connection.closed or None, f"{data.hex()}: nothing is closed", 60)
                self.assertEqual(client.connection.close_code, H3_DATAGRAM_ERROR, data.hex())

    def test_bad_setting(self):
        with self.started() as addr, UdpClient(addr, settings={H3_DATAGRAM: 2}) as client:
            client.wait(lambda: client.connection.closed or None, "H3_DATAGRAM is 2 and nothing is closed")
            self.assertEqual(client.connection.close_code, SETTINGS_ERROR)

    # Capsules: RFC 9297, sections 3.2, 3.3 and 3.5

    def test_capsules_in_pieces(self):
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            tunnel = self.open(client, target)
            data = capsule(0x2b, b"unknown") + datagram_capsule(b"in pieces")
            for byte in data:
                tunnel.send_bytes(bytes([byte]))
            self.assertEqual(target.receive(client), b"in pieces")
            tunnel.send_bytes(datagram_capsule(b"one") + datagram_capsule(b"") + datagram_capsule(b"three"))
            self.assertEqual([target.receive(client) for _ in range(3)], [b"one", b"", b"three"])
            self.check_tunnel(tunnel, target)

    def test_capsules_only(self):
        """A client that negotiates no datagrams"""
        with self.started() as addr, Target() as target, UdpClient(addr, settings={}) as client:
            client.proxy_settings()
            tunnel = client.connect(*target.addr)
            self.assertEqual(tunnel.status(), 200)
            for payload in (b"x", b"", bytes(1200)):
                tunnel.send_capsule(payload)
                self.assertEqual(target.receive(client), payload)
                target.send(payload)
                self.assertEqual(tunnel.receive(), payload)
            self.assertEqual(tunnel.in_datagrams, 0)

    def test_unknown_capsule_without_end(self):
        """One that is 2^62-1 bytes long: its stream is of no more use, but of no harm either."""
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            good, endless = self.open(client, target), self.open(client, target)
            endless.send_bytes(varint(0x2b) + varint((1 << 62) - 1) + bytes(64 << 10))
            self.check_tunnel(good, target)
            endless.send(b"still a tunnel")
            self.assertEqual(target.receive(client), b"still a tunnel")

    def test_cut_off(self):
        """A stream that ends in a capsule, as a malformed message; the others go on."""
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            good = self.open(client, target)
            for data in (b"\0", b"\0\x40", datagram_capsule(b"payload")[:-1], varint(0x2b) + varint(3)):
                tunnel = self.open(client, target)
                tunnel.send_bytes(data, fin=True)
                self.check_ends(client, tunnel, data.hex())
                self.assertTrue(target.silent(client))
                self.check_tunnel(good, target)

    def test_payload_too_long(self):
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            good, tunnel = self.open(client, target), self.open(client, target)
            tunnel.send_bytes(capsule(DATAGRAM, b"\0" + bytes(MAX_PAYLOAD + 1)))
            self.check_ends(client, tunnel, "a payload of 65,528 bytes")
            self.check_tunnel(good, target)

    # Connection IDs and forwarding: draft-ietf-masque-quic-proxy

    def test_forwarding(self):
        """Nothing before the acknowledgements, long headers never, and only from the client's own address."""
        for revision in REVISIONS:
            with (self.started() as addr, Target() as target, UdpClient(addr) as client,
                  UdpClient(addr) as other):
                tunnel = self.open(client, target, forwarding_field(["identity"], None))
                self.assertEqual(tunnel.forwarding()[:2], (True, ("identity",)))
                self.check_tunnel(tunnel, target)
                client_vcid, target_vcid = self.register(tunnel, revision)
                to_client, to_target = packet(SHORT, CLIENT_ID, TEXT), packet(SHORT, TARGET_ID, TEXT)
                target.send(to_client)
                self.assertEqual((tunnel.receive(), forwarded(client, client_vcid)), (to_client, []))
                tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, client_vcid), revision)
                # Another registration is answered when that has been read; it is the third.
                tunnel.receive_cid("MAX_CONNECTION_IDS")
                tunnel.send_cid(CidCapsule("REGISTER_TARGET_CID", b"another one"), revision)
                tunnel.receive_cid("ACK_TARGET_CID")
                target.send(to_client)
                client.wait(lambda: client.forwarded, "nothing is forwarded to the client")
                self.assertEqual(client.forwarded.pop(), packet(SHORT, client_vcid, TEXT))
                client.forward(packet(SHORT, target_vcid, TEXT))
                self.assertEqual(target.receive(client), to_target)
                target.send(packet(LONG, CLIENT_ID, TEXT))
                self.assertEqual((tunnel.receive(), forwarded(client, client_vcid)),
                                 (packet(LONG, CLIENT_ID, TEXT), []))
                for sender, what in ((client, packet(LONG, target_vcid, TEXT)), (client, to_target),
                                     (other, packet(SHORT, target_vcid, TEXT))):
                    sender.forward(what)
                    self.assertTrue(target.silent(client), what)
                # What is closed, and what its stream has taken along
                tunnel.send_cid(CidCapsule("CLOSE_CLIENT_CID", CLIENT_ID), revision)
                tunnel.send_cid(CidCapsule("CLOSE_TARGET_CID", TARGET_ID), revision)
                self.check_tunnel(tunnel, target)
                client.forward(packet(SHORT, target_vcid, TEXT))
                self.assertTrue(target.silent(client))
                self.assertEqual(forwarded(client, client_vcid), [])
                tunnel.send_bytes(b"", fin=True)
                tunnel.wait_ended()

    def test_scramble(self):
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            key = os.urandom(32)
            tunnel = self.open(client, target, forwarding_field(["scramble-dt"], key))
            answer = tunnel.forwarding()
            self.assertEqual((answer.allowed, answer.transforms, len(answer.key or b"")), (True, ("scramble-dt",), 32))
            self.assertNotEqual(answer.key, key)
            self.check_tunnel(tunnel, target)
            client_vcid, target_vcid = self.register(tunnel, 9)
            tunnel.send_cid(CidCapsule("ACK_CLIENT_VCID", CLIENT_ID, client_vcid))
            ours, theirs = Scramble(key), Scramble(answer.key)
            for size in (0, 1, 15, 16, 17, 1100):
                text = os.urandom(16 + size)
                client.forward(ours.apply(packet(SHORT, target_vcid, text), len(target_vcid)))
                self.assertEqual(target.receive(client), packet(SHORT, TARGET_ID, text))
                target.send(packet(SHORT, CLIENT_ID, text))
                client.wait(lambda: client.forwarded, "nothing is forwarded to the client")
                back = client.forwarded.pop()
                self.assertFalse(back[0] & 0x80)
                plain = replace_cid(theirs.undo(back, len(client_vcid)), client_vcid, CLIENT_ID)
                self.assertEqual(plain[1:], packet(SHORT, CLIENT_ID, text)[1:])
            # Too short: nothing arrives, or it comes by the tunnel.
            client.forward(packet(SHORT, target_vcid, bytes(15)))
            self.assertTrue(target.silent(client))
            target.send(packet(SHORT, CLIENT_ID, bytes(15)))
            pause(client)
            self.assertEqual(forwarded(client, client_vcid), [])
            ours.close()
            theirs.close()

    def test_no_forwarding(self):
        """Asked for in a way that does not count: connection IDs have no virtual ones then, if they are known at
        all."""
        for field in (forwarding_field(["unknown"], None), forwarding_field(["scramble-dt"], None),
                      forwarding_field(["scramble-dt"], bytes(31)), ("proxy-quic-forwarding", "?1"),
                      ("proxy-quic-forwarding", '"?1"'), ("proxy-quic-forwarding", '?1; transform="identity"')):
            with self.started() as addr, Target() as target, UdpClient(addr) as client:
                tunnel = self.open(client, target, field)
                answer = tunnel.forwarding()
                self.assertFalse(answer and answer.allowed, field)
                if not field[1].startswith("?1; accept"):
                    self.assertIsNone(answer, field)
                self.check_tunnel(tunnel, target)

    def test_wrong_capsules(self):
        """Those that only a proxy sends, and those that are malformed"""
        field = forwarding_field(["identity"], None)
        for revision, first in ((6, 0xffe600), (8, 0xffe700), (9, 0xffe800)):
            wrong = [CidCapsule(name, CLIENT_ID, b"virtual").write(revision) for name in (
                "ACK_CLIENT_CID", "ACK_TARGET_CID", "ACK_CLIENT_VCID")]
            wrong += [CidCapsule("MAX_CONNECTION_IDS", maximum=100).write(revision)]
            if revision == 9:
                wrong += [CidCapsule("REJECT_CLIENT_CID", CLIENT_ID).write(9)]
            malformed = [capsule(first + 1, b"\x05"), capsule(first + 1, b""), capsule(first + 3, bytes(50))]
            with self.started() as addr, Target() as target, UdpClient(addr) as client:
                good = self.open(client, target)
                for data in wrong + malformed:
                    tunnel = self.open(client, target, field)
                    tunnel.send_bytes(data)
                    # RFC 9297, section 3.3, has malformed ones be treated as a malformed message.
                    codes = (H3_DATAGRAM_ERROR, MESSAGE_ERROR) if data in malformed else (H3_DATAGRAM_ERROR,)
                    self.assertIn(tunnel.wait_ended(), codes, data.hex())
                    self.check_tunnel(good, target)

    def test_too_many_registrations(self):
        """More than two before the proxy has allowed them"""
        with self.started("--allowance=0") as addr, Target() as target, UdpClient(addr) as client:
            good = self.open(client, target)
            tunnel = self.open(client, target, forwarding_field(["identity"], None))
            for number in range(1000):
                tunnel.send_cid(CidCapsule("REGISTER_TARGET_CID", b"target-%d" % number))
                if tunnel.ended:
                    break
            self.check_ends(client, tunnel, "a thousand registrations")
            self.check_tunnel(good, target)

    def test_source_of_answers(self):
        """What comes from elsewhere than the target goes nowhere: RFC 9298, section 3.1."""
        with self.started() as addr, Target() as target, UdpClient(addr) as client:
            tunnel = self.open(client, target)
            self.check_tunnel(tunnel, target)
            with socket.socket(target.addr.family, socket.SOCK_DGRAM) as stranger:
                stranger.bind((target.addr.host, 0))
                stranger.sendto(b"from a stranger", target.source)
            pause(client)
            self.assertEqual(tunnel.payloads, [])
            self.check_tunnel(tunnel, target)
