#!/usr/bin/env python3
"""UDP in HTTP/3 as it is written in Python for other tests: its parts, with the values that the documents give.

    tests/e2e/test_udp_wire.py --build DIR [--filter TEXT]
"""

import os
import unittest
from pathlib import Path

import qpack
import rfc9298
import tap
from quic_aware import (CONFLICT, TOO_SHORT, CidCapsule, Forwarding, Scramble, forwarding_field, read_cid_capsule,
                        read_forwarding, replace_cid)
from quic_http import DATA, HEADERS, SETTINGS, Frames, frame
from quic_packets import QuicError, varint

# The draft's example
KEY = bytes.fromhex("f13a915f96fb8919d9d8655488ffea5778cac8cffbc27cd38c173bcbad955cff")
CID = bytes.fromhex("002e9184cb0022ca7aecf1128c91d809e1b6853f")
VCID = bytes.fromhex("0123456789abcdef0123456789abcdef01234567")
ORIGINAL = bytes.fromhex(
    "50002e9184cb0022ca7aecf1128c91d809e1b6853f1ba3bed7043a21632023048def32f4f8f260c290490413d24ea6")
SCRAMBLED = bytes.fromhex(
    "320123456789abcdef0123456789abcdef012345678ebe6906e16ec5fc90a02c0109994c3fed03f9d5d88c5f408bb6")


class UdpWireTest(unittest.TestCase):
    build: Path

    def test_scramble(self):
        transform = Scramble(KEY)
        self.addCleanup(transform.close)
        self.assertEqual(transform.apply(replace_cid(ORIGINAL, CID, VCID), 20), SCRAMBLED)
        self.assertEqual(replace_cid(transform.undo(SCRAMBLED, 20), VCID, CID), ORIGINAL)
        for length in (0, 1, 20, 255):
            for size in (0, 1, 15, 16, 17, 1200):
                original = bytes([0x40 | size % 64]) + os.urandom(length + 16 + size)
                scrambled = transform.apply(original, length)
                self.assertFalse(scrambled[0] & 0x80)
                self.assertEqual(scrambled[1:length + 1], original[1:length + 1])
                self.assertNotEqual(scrambled[length + 1:], original[length + 1:])
                self.assertEqual(transform.undo(scrambled, length), original)
            self.assertIsNone(transform.apply(bytes(length + 16), length))
            self.assertIsNone(transform.undo(bytes(length + 16), length))

    def test_scramble_counter_wraps(self):
        """The counter is all of the block."""
        transform = Scramble(KEY)
        self.addCleanup(transform.close)
        wrapped, fresh = (transform.apply(b"\0" + iv + bytes(31), 0) for iv in (b"\xff" * 16, bytes(16)))
        # The first byte and fifteen behind the IV are one block; what follows is the next.
        self.assertEqual(wrapped[17 + 15 + 1:], fresh[17:17 + 15])

    def test_path(self):
        for host, port, text in (("192.0.2.6", 443, "192.0.2.6/443"), ("2001:db8::42", 443, "2001%3Adb8%3A%3A42/443"),
                                 ("target.example.org", 1, "target.example.org/1")):
            self.assertEqual(rfc9298.path(host, port), f"/.well-known/masque/udp/{text}/")
            self.assertEqual(rfc9298.target(rfc9298.path(host, port)), (host, port))
        for text in ("a/0", "a/65536", "a/+443", "a", "a/443/b", "/443"):
            self.assertIsNone(rfc9298.target(f"/.well-known/masque/udp/{text}/"), text)

    def test_datagrams(self):
        self.assertEqual(rfc9298.datagram(44, b"payload").hex(), "0b00" + b"payload".hex())
        self.assertEqual(rfc9298.datagram(256, b"", 2).hex(), "404002")
        self.assertEqual(rfc9298.read_datagram(bytes.fromhex("40400278")), (256, 2, b"x"))
        with self.assertRaises(QuicError):
            rfc9298.read_datagram(b"\x0b")

    def test_capsules(self):
        """However they are cut into pieces"""
        several = [(0, b"\0payload"), (0x2b, b""), (rfc9298.DATAGRAM, bytes(300)), ((1 << 62) - 1, b"x")]
        data = b"".join(rfc9298.capsule(*one) for one in several)
        for size in (1, 2, 7, len(data)):
            capsules, found = rfc9298.Capsules(), []
            for at in range(0, len(data), size):
                found += capsules.feed(data[at:at + size])
                self.assertEqual(capsules.cut_off, at + size < len(data) and sum(
                    len(rfc9298.capsule(*one)) for one in found) < at + size)
            self.assertEqual(found, several)

    def test_cid_capsules(self):
        """Types and layouts, by revision of the draft"""
        for revision, what, text in (
                (6, CidCapsule("REGISTER_CLIENT_CID", b"1234"), "80ffe600" "04" "31323334"),
                (6, CidCapsule("REGISTER_TARGET_CID", b"abcd", token=b"T" * 16),
                 "80ffe601" "16" "0461626364" "10" + "54" * 16),
                (6, CidCapsule("ACK_CLIENT_CID", b"1234", b"bdfh"), "80ffe602" "0a" "0431323334" "0462646668"),
                (6, CidCapsule("ACK_CLIENT_VCID", b"1234", b"bdfh"), "80ffe603" "0b" "0431323334" "0462646668" "00"),
                (6, CidCapsule("ACK_TARGET_CID", b"", b""), "80ffe604" "03" "000000"),
                (6, CidCapsule("CLOSE_TARGET_CID", b""), "80ffe606" "00"),
                (6, CidCapsule("MAX_CONNECTION_IDS", maximum=64), "80ffe607" "02" "4040"),
                (8, CidCapsule("REGISTER_CLIENT_CID", b"1"), "80ffe700" "02" "0031"),
                (8, CidCapsule("REGISTER_TARGET_CID", b"1"), "80ffe701" "04" "00" "0131" "00"),
                (8, CidCapsule("CLOSE_CLIENT_CID", b"1", reason=CONFLICT), "80ffe705" "02" "0231"),
                (9, CidCapsule("REJECT_CLIENT_CID", b"1", reason=TOO_SHORT), "80ffe805" "02" "0131"),
                (9, CidCapsule("REJECT_TARGET_CID", b"1"), "80ffe806" "02" "0031"),
                (9, CidCapsule("CLOSE_TARGET_CID", b"1"), "80ffe808" "02" "0031"),
                (9, CidCapsule("MAX_CONNECTION_IDS", maximum=3), "80ffe809" "01" "03")):
            data = what.write(revision)
            self.assertEqual(data.hex(), text, what)
            (kind, value), = rfc9298.Capsules().feed(data)
            self.assertEqual(read_cid_capsule(kind, value), (revision, what))
        for kind, value in ((0xffe602, b"\0"), (0xffe602, b"\0\0\0"), (0xffe601, b"\0\x0f" + bytes(15)),
                            (0xffe600, bytes(256)), (0xffe700, b""), (0xffe809, b"")):
            with self.assertRaises(QuicError, msg=f"{kind:#x} {value.hex()}"):
                read_cid_capsule(kind, value)
        self.assertIsNone(read_cid_capsule(0xffe608, b""))

    def test_forwarding_field(self):
        name, value = forwarding_field(["scramble-dt", "identity"], b"k" * 32)
        self.assertEqual((name, value), ("proxy-quic-forwarding", '?1; accept-transform="scramble-dt,identity"; '
                                         "scramble-key=:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=:"))
        self.assertEqual(read_forwarding([(name, value)]), Forwarding(True, ("scramble-dt", "identity"), b"k" * 32))
        self.assertEqual(read_forwarding([forwarding_field(["identity"], None, response=True)], response=True),
                         Forwarding(True, ("identity",)))
        self.assertEqual(read_forwarding([forwarding_field([], None)]), Forwarding(False))
        # A proxy does not look for what only proxies say, nor a client for the other.
        self.assertEqual(read_forwarding([(name, '?1; transform="identity"')]), Forwarding(True))
        self.assertEqual(read_forwarding([(name, value)], response=True).transforms, ())
        for bad in ("1", "?2", "?1 x", "?1, ?1", '?1; accept-transform="', ""):
            self.assertIsNone(read_forwarding([(name, bad)]), bad)
        self.assertIsNone(read_forwarding([(name, "?1"), (name, "?1")]))

    def test_qpack(self):
        self.assertEqual(len(qpack.STATIC), 99)
        fields = [(":status", "200"), ("capsule-protocol", "?1"), ("x" * 200, "y" * 200)]
        self.assertEqual(qpack.decode_fields(qpack.encode_fields(fields)), fields)
        # RFC 9204, appendix B.1; RFC 7541, appendices C.4.1 and C.6.1
        self.assertEqual(qpack.decode_fields(bytes.fromhex("0000510b2f696e6465782e68746d6c")),
                         [(":path", "/index.html")])
        self.assertEqual(qpack.huffman(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")), "www.example.com")
        self.assertEqual(qpack.huffman(bytes.fromhex("9d29ad171863c78f0b97c8e9ae82ae43d3")), "https://www.example.com")
        for bad in ("0100", "0000bf", "000040", "000010", "0000ff24", "00002a05"):
            with self.assertRaises(QuicError, msg=bad):
                qpack.decode_fields(bytes.fromhex(bad))

    def test_frames(self):
        """However they are cut into pieces; DATA frames in pieces, too"""
        data = frame(HEADERS, b"fields") + frame(DATA, b"content") + frame(DATA, b"") + frame(0x21, b"grease")
        for size in (1, 3, len(data)):
            frames, whole, content = Frames(), [], b""
            for at in range(0, len(data), size):
                for kind, payload in frames.feed(data[at:at + size]):
                    if kind == DATA:
                        content += payload
                    else:
                        whole.append((kind, payload))
            self.assertEqual((whole, content), ([(HEADERS, b"fields"), (0x21, b"grease")], b"content"))
            self.assertFalse(frames.cut_off)
        frames.feed(varint(SETTINGS))
        self.assertTrue(frames.cut_off)


if __name__ == "__main__":
    tap.main(UdpWireTest)
