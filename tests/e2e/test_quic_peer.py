#!/usr/bin/env python3
"""The endpoint in Python against the sample programs, without a proxy: what it is
used for elsewhere works by itself.

    tests/e2e/test_quic_peer.py --build DIR [--filter TEXT]
"""

import sys
import unittest
from pathlib import Path

import files
import net
import quic_crypto
import stats
import tap
from procs import Program
from proxy_client import ProxyClient
from quic_http import encode_fields, status
from quic_packets import Reader, open_packet, parse_header, seal_packet, varint
from relay import Impairment, Relay
from transfer import Site

MIB = 1 << 20
TIMEOUT = 300
EVERY = 256 << 10


class PeerTest(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.site = Site(cls.work / "site", 2 * MIB)

    def download(self, *options: str, bad: Impairment | None = None) -> tuple[stats.Stats, stats.Stats]:
        """From quic_target.py by gtlsclient; what both count."""
        run = self.work / self._testMethodName
        (run / "download").mkdir(parents=True)
        addr, between = net.free_addrs("127.0.0.1", "127.0.0.1")
        key, cert = self.site.certificate
        target = Program([sys.executable, Path(__file__).with_name("quic_target.py"), "--listen", addr.host,
                          str(addr.port), "--key", key, "--cert", cert, "--file", self.site.file,
                          "--stats", run / "target.json", *options], run / "target.log")
        self.addCleanup(target.__exit__)
        target.wait_bound([addr])
        if bad:
            self.relay = self.enterContext(Relay(between, addr, bad, bad))
            addr = between
        with Program([self.build / "examples" / "gtlsclient", "--quiet", "--exit-on-all-streams-close",
                      f"--stats={run}/client.json", f"--download={run}/download", addr.host, str(addr.port),
                      f"https://localhost:{addr.port}/file"], run / "client.log") as client:
            self.assertEqual(client.wait(TIMEOUT), 0, client.log.read_text())
        self.assertEqual(target.stop(TIMEOUT), 0, target.log.read_text())
        self.assertEqual(files.sha256(run / "download" / "file"), self.site.sha256)
        return stats.load(run / "client.json"), stats.load_json(run / "target.json")

    def test_download(self):
        _, target = self.download()
        self.assertEqual((target["connections"], target["rotations"], target["changes"]), (1, 0, 0))
        # The one that the client made up, and one of the target
        self.assertEqual(len(target["server_ids"]), 2)
        self.assertEqual(len(target["client_ids"]), 1)

    def test_new_ids(self):
        _, target = self.download(f"--new-ids-every={EVERY}")
        self.assertGreaterEqual(target["rotations"], self.site.size // EVERY // 2)
        self.assertGreater(len(target["server_ids"]), target["rotations"])

    def test_change_ids(self):
        _, target = self.download(f"--change-ids-every={EVERY}")
        self.assertGreaterEqual(target["changes"], self.site.size // EVERY // 2)
        self.assertEqual(len(target["client_ids"]), target["changes"] + 1)

    def test_bad_network(self):
        _, target = self.download(f"--new-ids-every={EVERY}", f"--change-ids-every={EVERY}",
                                  bad=Impairment(loss=0.02, delay=2, reorder=0.02, duplicate=0.02))
        self.assertGreater(target["rotations"], 0)
        self.assertGreater(target["changes"], 0)
        for way in ("up", "down"):
            self.assertGreater(self.relay.counts()[way]["lost"], 0)

    def test_client(self):
        """A request to gtlsserver."""
        addr, = net.free_addrs("127.0.0.1")
        with Program([self.build / "examples" / "gtlsserver", "--quiet", f"--htdocs={self.site.htdocs}", addr.host,
                      str(addr.port), *self.site.certificate], self.work / "server.log") as server:
            server.wait_bound([addr])
            with ProxyClient(addr) as client:
                for path, answer in (("/file", 200), ("/missing", 404)):
                    stream = client.request_fields([(":method", "GET"), (":scheme", "https"),
                                                    (":authority", "localhost"), (":path", path)], fin=True)
                    self.assertEqual(client.status(stream), answer)
            self.assertEqual(server.stop(TIMEOUT), 0)

    # The parts, with the values of RFC 9001, appendix A, and RFC 9000, appendix A

    def test_initial_secrets(self):
        client, server = quic_crypto.initial_secrets(bytes.fromhex("8394c8f03e515708"))
        self.assertEqual(client.hex(), "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea")
        self.assertEqual(server.hex(), "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b")

    def test_header_protection(self):
        keys = quic_crypto.Keys(quic_crypto.initial_secrets(bytes.fromhex("8394c8f03e515708"))[0])
        self.assertEqual(keys.mask(bytes.fromhex("d1b1c98dd7689fb8ec11d242b123dc9b")).hex(), "437b9aec36")
        keys.close()

    def test_packet(self):
        """A packet is what it was when its protection is taken off; damaged it is nothing."""
        keys = quic_crypto.Keys(bytes(32))
        for level in quic_crypto.LEVELS:
            for largest, number in ((-1, 0), (0xfffe, 0x1ffff), (1 << 40, (1 << 40) + 1)):
                sealed = seal_packet(level, number, b"8 bytes.", b"source", b"a payload of a few bytes", keys)
                header = parse_header(sealed, 0, 8)
                packet = open_packet(sealed, 0, header, keys, largest)
                self.assertEqual(packet, (level, number, b"8 bytes.", b"a payload of a few bytes"))
                for at in (0, 3, len(sealed) - 1):
                    damaged = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1:]
                    self.assertIsNone(open_packet(damaged, 0, header, keys, largest), at)
        keys.close()

    def test_varint(self):
        for text, value in (("c2197c5eff14e88c", 151288809941952652), ("9d7f3e7d", 494878333), ("7bbd", 15293),
                            ("25", 37)):
            self.assertEqual(varint(value).hex(), text)
            self.assertEqual(Reader(bytes.fromhex(text)).varint(), value)

    def test_status(self):
        """Of the static table, as a literal, and with Huffman coding."""
        huffman = f"{int('011011' '00000' '00010', 2):04x}"  # 5, 0, 2
        for text, value in (("0000d9", 200), ("0000ff05", 403), ("00005f0903343039", 409),
                            (f"00005f0982{huffman}", 502)):
            self.assertEqual(status(bytes.fromhex(text)), value)
        self.assertEqual(encode_fields([("a", "b")]).hex(), "00002161" + "0162")


if __name__ == "__main__":
    tap.main(PeerTest)
