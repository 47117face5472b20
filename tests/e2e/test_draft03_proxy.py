#!/usr/bin/env python3
"""The proxy of 2021 that other tests have in Python, with the client of proxy_client.py, and with a client that is not
of its time.

    tests/e2e/test_draft03_proxy.py --build DIR [--filter TEXT]
"""

import json
import sys
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certs
import net
import tap
from procs import Program
from proxy_client import ProxyClient, sf_bytes
from quic_http import DATA, HEADERS, H3_DATAGRAM, control_stream, encode_fields, frame
from quic_packets import varint
from udp_target import LONG, SILENCE, Target, packet

TIMEOUT = 60


class LateClient(ProxyClient):
    """Sends no SETTINGS by itself."""

    def __enter__(self) -> "LateClient":
        self._connect()
        return self

    def settings(self, values: dict[int, int]) -> None:
        self.connection.send_stream(self.connection.open_stream(uni=True), control_stream(values))
        self.work()


class Draft03Test(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.certificate = certs.make(cls.work)

    @contextmanager
    def started(self) -> Iterator[net.Addr]:
        addr, = net.free_addrs("127.0.0.1")
        key, cert = self.certificate
        stats = self.work / f"{self._testMethodName}.json"
        with Program([sys.executable, Path(__file__).with_name("draft03_proxy.py"), "--listen", addr.host,
                      str(addr.port), "--key", key, "--cert", cert, "--stats", stats],
                     self.work / f"{self._testMethodName}.log", "draft03_proxy") as program:
            program.wait_bound([addr])
            yield addr
            self.assertEqual(program.stop(TIMEOUT), 0, program.log.read_text())
            self.stats = json.loads(stats.read_text())
            self.assertEqual(self.stats["complaints"], [])

    def fields(self, target: Target, scheme: str = "masque", path: str = "/") -> list[tuple[str, str]]:
        return [(":method", "CONNECT-UDP"), (":authority", target.authority), (":scheme", scheme), (":path", path),
                ("client-connection-id", sf_bytes(b"client-0")), ("datagram-flow-id", "0")]

    def check(self, client: ProxyClient, target: Target) -> None:
        """Flow 0 works."""
        for payload in (packet(LONG, b"server", b"x"), b"", bytes(1200)):
            client.send(0, payload)
            self.assertEqual(target.receive(client), payload)
            target.send(payload)
            client.wait(lambda: client.tunnelled, "nothing comes back")
            self.assertEqual(client.tunnelled.pop(), (0, payload))

    def test_datagrams(self):
        for scheme in ("masque", "https"):
            with self.started() as addr, Target() as target, ProxyClient(addr) as client:
                self.assertEqual(client.status(client.request_fields(self.fields(target, scheme))), 200)
                self.check(client, target)
            self.assertEqual((self.stats["to_target"], self.stats["to_client"]), ({"datagrams": 3}, {"datagrams": 3}))

    def test_wants_scheme_and_path(self):
        with self.started() as addr, Target() as target, ProxyClient(addr) as client:
            fields = self.fields(target)
            for wrong in (fields[:2] + fields[4:], self.fields(target, path="/x"), self.fields(target, "http"),
                          self.fields(target, path="")):
                self.assertEqual(client.status(client.request_fields(wrong)), 400)
            self.assertEqual(client.status(client.request_fields(fields)), 200)
            # Nothing is known of connection IDs: a flow has one request.
            self.assertEqual(client.status(client.request_fields(fields)), 400)
            self.check(client, target)

    def test_waits_for_settings(self):
        with self.started() as addr, Target() as target, LateClient(addr) as client:
            stream = client.request_fields(self.fields(target))
            other = client.connection.open_stream(uni=True)
            client.connection.send_stream(other, varint(0x21) + b"grease")
            client.work(SILENCE)
            self.assertEqual(client._streams[stream][0], b"")
            client.settings({H3_DATAGRAM: 1})
            self.assertEqual(client.status(stream), 200)
            self.check(client, target)

    def test_chunks(self):
        """Without datagrams, payloads are in chunks on the stream."""
        with self.started() as addr, Target() as target, LateClient(addr) as client:
            client.settings({})
            stream = client.request_fields(self.fields(target)[:-1])
            self.assertEqual(client.status(stream), 200)
            client.connection.send_stream(stream, frame(DATA, b"\x2b\x01?" b"\0\x01x"))
            self.assertEqual(target.receive(client), b"x")
            target.send(b"yz")
            answer = frame(HEADERS, encode_fields([(":status", "200")])) + frame(DATA, b"\0\x02yz")
            client.wait(lambda: client._streams[stream][0] == answer, "no chunk comes back")


if __name__ == "__main__":
    tap.main(Draft03Test)
