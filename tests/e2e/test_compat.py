#!/usr/bin/env python3
"""Our programs and those of the unpatched ngtcp2, each with the other: with whom
does not know the extension, nothing of it is seen.

    tests/e2e/test_compat.py --build DIR [--filter TEXT]
"""

import signal
import socket
import unittest
from pathlib import Path

import files
import net
import qlog
import quic_crypto
import stats
import tap
from procs import Program
from quic_packets import Reader, open_packet, parse_header
from transfer import Site, received, wait_received

MIB = 1 << 20
# Moves every millisecond: enough for some
SIZE = 16 * MIB
TIMEOUT = 300
# A datagram more comes every few hundred milliseconds.
FIRST_FLIGHT_TIMEOUT = 60

ENABLE_SERVER_MIGRATION = 0x0c506bb6
ACTIVE_CONNECTION_ID_LIMIT = 0x0e
_TRANSPORT_PARAMETERS = 57


class Compat(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.site = Site(cls.work / "site", SIZE)
        cls.patched = cls.build / "examples"
        cls.unpatched = cls.build / "subprojects" / "ngtcp2-base"

    def setUp(self):
        self.run_dir = self.work / self._testMethodName
        self.downloaded = self.run_dir / "download" / self.site.file.name
        for name in ("download", "client-qlog", "server-qlog"):
            (self.run_dir / name).mkdir(parents=True)

    def server(self, examples: Path, ring: list[net.Addr], *options: str) -> Program:
        server = self.enterContext(Program(
            [examples / "gtlsserver", "--quiet", f"--htdocs={self.site.htdocs}",
             f"--qlog-dir={self.run_dir}/server-qlog", *options, ring[0].host, str(ring[0].port),
             *self.site.certificate], self.run_dir / "server.log"))
        server.wait_bound(ring)
        return server

    def client(self, examples: Path, addr: net.Addr, *options: str) -> Program:
        return self.enterContext(Program(
            [examples / "gtlsclient", "--quiet", "--exit-on-all-streams-close",
             f"--download={self.downloaded.parent}", f"--qlog-dir={self.run_dir}/client-qlog", *options,
             addr.host, str(addr.port), f"https://localhost:{addr.port}/{self.site.file.name}"],
            self.run_dir / "client.log"))

    def check(self, client: Program, server: Program) -> None:
        """Both end well, the file is the file, and no frame was sent or received."""
        self.assertEqual(client.wait(TIMEOUT), 0, client.log.read_text()[-2000:])
        self.assertEqual(server.stop(TIMEOUT), 0, server.log.read_text()[-2000:])
        self.assertEqual(received(self.downloaded), self.site.size)
        self.assertEqual(files.sha256(self.downloaded), self.site.sha256)
        for side in ("client", "server"):
            events = qlog.read(self.run_dir / f"{side}-qlog")
            for name in ("packet_sent", "packet_received"):
                frames = qlog.frames(events, f"transport:{name}")
                self.assertGreater(frames["stream"], 0, f"{side}: {name}")
                self.assertEqual(frames["server_alternate_address"], 0, f"{side}: {name}")

    def check_stays(self, side: str, end: str, addr: net.Addr) -> None:
        """The statistics of the patched side know of one address of the server, and no move."""
        counted = stats.load(self.run_dir / f"{side}.json")
        self.assertEqual(counted["server_migrations"], 0)
        self.assertEqual({entry[end] for entry in counted["paths"]}, {str(addr)})

    def test_unpatched_is_unpatched(self):
        """What these tests take for the release does not know our options, and the rest does."""
        for name, text in (("gtlsclient", b"enable-server-migration"), ("gtlsserver", b"migrate-every"),
                           ("libngtcp2.so", b"server_alternate_address")):
            self.assertFalse(text in (self.unpatched / name).read_bytes(), name)
        for name, text in (("gtlsclient", b"enable-server-migration"), ("gtlsserver", b"migrate-every")):
            self.assertTrue(text in (self.patched / name).read_bytes(), name)

    def test_unpatched_client(self):
        """The server wants to move all the time, and by signal."""
        ring = net.free_addrs("127.0.0.1", "127.0.0.2", "127.0.0.1")
        server = self.server(self.patched, ring, f"--stats={self.run_dir}/server.json", "--migrate-every=1ms",
                             *(f"--alternate-addr={addr}" for addr in ring[1:]))
        client = self.client(self.unpatched, ring[0])
        wait_received(client, self.downloaded, self.site.size // 4)
        server.send_signal(signal.SIGUSR1)
        self.check(client, server)
        self.check_stays("server", "local", ring[0])

    def test_unpatched_server(self):
        """The client offers to be moved, which such a server does not understand."""
        ring = net.free_addrs("127.0.0.1")
        server = self.server(self.unpatched, ring)
        client = self.client(self.patched, ring[0], f"--stats={self.run_dir}/client.json",
                             "--enable-server-migration")
        self.check(client, server)
        self.check_stays("client", "remote", ring[0])

    def test_unpatched_both(self):
        """These programs work at all."""
        ring = net.free_addrs("127.0.0.1")
        server = self.server(self.unpatched, ring)
        self.check(self.client(self.unpatched, ring[0]), server)

    def parameters(self, examples: Path, *options: str) -> dict[int, bytes]:
        """The transport parameters that a client sends: bytes by number."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.bind(("127.0.0.1", 0))
            sink.settimeout(FIRST_FLIGHT_TIMEOUT)
            client = self.client(examples, net.Addr(*sink.getsockname()), *options)
            crypto: dict[int, bytes] = {}
            while (hello := client_hello(crypto)) is None:
                crypto |= crypto_data(sink.recv(65536))
            client.__exit__()
        return transport_parameters(hello)

    def test_first_flight(self):
        """Only the option puts the transport parameter into the handshake; apart from it a patched
        client sends the parameters that an unpatched one sends, in whatever order."""
        sent = [self.parameters(self.unpatched), self.parameters(self.patched),
                self.parameters(self.patched, "--enable-server-migration")]
        ours = [parameters.pop(ENABLE_SERVER_MIGRATION, None) for parameters in sent]
        self.assertEqual(ours, [None, None, b""])
        for parameters in sent:
            # The only ones that differ from run to run: the client's connection ID, and a number
            # that means nothing (RFC 9000, section 18.1)
            self.assertEqual(len(parameters.pop(0x0f)), 17)
            for number in [number for number in parameters if number % 31 == 27]:
                del parameters[number]
        self.assertEqual(sent[1], sent[0])
        # With the option the client stores more connection IDs, so that the server can move often.
        limits = [parameters.pop(ACTIVE_CONNECTION_ID_LIMIT) for parameters in sent]
        self.assertLess(limits[0], limits[2])
        self.assertEqual(sent[2], sent[0])


def crypto_data(datagram: bytes) -> dict[int, bytes]:
    """What the CRYPTO frames of a client's Initial packets contain, by offset.  All of them
    have the destination connection ID that the client has made up."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(datagram) and datagram[at]:
        header = parse_header(datagram, at, 0)
        if header.level == quic_crypto.INITIAL:
            keys = quic_crypto.Keys(quic_crypto.initial_secrets(header.dcid)[0])
            packet = open_packet(datagram, at, header, keys, -1)
            keys.close()
            if packet is None:
                raise AssertionError("an Initial packet cannot be opened")
            reader = Reader(packet.payload)
            while reader:
                if (kind := reader.varint()) == 0x06:
                    offset = reader.varint()
                    found[offset] = reader.bytes(reader.varint())
                elif kind > 0x01:  # neither PADDING nor PING
                    raise AssertionError(f"a frame of type {kind} in the first flight")
        at = header.end
    return found


def client_hello(crypto: dict[int, bytes]) -> bytes | None:
    """The message, if all of it is there."""
    data = b""
    while piece := crypto.get(len(data)):
        data += piece
    if len(data) < 4 or len(data) < 4 + int.from_bytes(data[1:4]):
        return None
    return data[4:4 + int.from_bytes(data[1:4])]


def transport_parameters(hello: bytes) -> dict[int, bytes]:
    """Of a ClientHello (RFC 8446, section 4.1.2)"""
    reader = Reader(hello)
    reader.bytes(2 + 32)
    reader.bytes(reader.byte())
    reader.bytes(int.from_bytes(reader.bytes(2)))
    reader.bytes(reader.byte())
    extensions = Reader(reader.bytes(int.from_bytes(reader.bytes(2))))
    while extensions:
        number = int.from_bytes(extensions.bytes(2))
        body = Reader(extensions.bytes(int.from_bytes(extensions.bytes(2))))
        if number == _TRANSPORT_PARAMETERS:
            values: dict[int, bytes] = {}
            while body:
                key = body.varint()
                if key in values:
                    raise AssertionError(f"transport parameter {key:#x} twice")
                values[key] = body.bytes(body.varint())
            return values
    raise AssertionError("a ClientHello without transport parameters")


if __name__ == "__main__":
    tap.main(Compat)
