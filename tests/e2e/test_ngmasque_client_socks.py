#!/usr/bin/env python3
"""ngmasque-client's SOCKS 5 port: RFC 1928, UDP ASSOCIATE.

    tests/e2e/test_ngmasque_client_socks.py --build DIR [--filter TEXT]
"""

import select
import signal
import socket
import struct
import time

import tap
from net import Addr
from ngmasque_client_case import PATIENCE, ClientCase, Echo
from procs import ProgramError


def address(host: str, port: int) -> bytes:
    try:
        return b"\1" + socket.inet_aton(host) + struct.pack(">H", port)
    except OSError:
        return b"\3" + bytes([len(host)]) + host.encode() + struct.pack(">H", port)


class Socks:
    """A SOCKS client with one association."""

    def __init__(self, server: Addr, credentials: tuple[bytes, bytes] | None = None):
        self.control = socket.create_connection(server, PATIENCE)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((server.host, 0))
        self.control.sendall(b"\5\2\0\2" if credentials else b"\5\1\0")
        self.method = self.read(2)[1]
        self.credentials_status = None
        if credentials and self.method == 2:
            name, secret = credentials
            self.control.sendall(b"\1" + bytes([len(name)]) + name + bytes([len(secret)]) + secret)
            self.credentials_status = self.read(2)[1]

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (more := self.control.recv(size - len(data))):
                raise EOFError
            data += more
        return data

    def associate(self) -> int:
        """The reply code."""
        self.control.sendall(b"\5\3\0" + address("0.0.0.0", 0))
        reply = self.read(10)
        self.relay = (socket.inet_ntoa(reply[4:8]), struct.unpack(">H", reply[8:])[0])
        return reply[1]

    def send(self, host: str, port: int, data: bytes, frag: int = 0) -> None:
        self.udp.sendto(b"\0\0" + bytes([frag]) + address(host, port) + data, self.relay)

    def ask(self, host: str, port: int, data: bytes, *targets: Echo) -> bytes:
        """Sends until there is an answer: that, with its header."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.send(host, port, data)
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                for target in targets:
                    target.pump()
                if select.select([self.udp], [], [], 0.01)[0]:
                    return self.udp.recv(65536)
        raise ProgramError("there was no answer")

    def close(self) -> None:
        self.control.close()


class SocksTest(ClientCase):
    def begin(self, *options: str):
        proxy, _ = self.proxy()
        client = self.start(proxy, "--socks=127.0.0.1:0", *options)
        return client, client.where("SOCKS 5 at")

    def test_two_targets(self):
        """One association goes to several, and each answer says from which; names are the proxy's to look up."""
        client, port = self.begin()
        one, two = Echo(), Echo("127.0.0.1")
        socks = Socks(port)
        self.assertEqual(socks.associate(), 0)
        for target, host in ((one, one.addr.host), (two, "localhost")):
            answer = socks.ask(host, target.addr.port, b"query", one, two)
            self.assertEqual(answer, b"\0\0\0" + address(host, target.addr.port) + b"query")
        self.assertEqual((one.came[0], two.came[0]), (b"query", b"query"))
        stats = client.finish()
        self.assertEqual(set(stats["targets"]), {str(one.addr), f"localhost:{two.addr.port}"})
        self.assertEqual(stats["total"]["tunnels"], 2)

    def test_bursts(self):
        """What comes together, for two targets in turn, gets there, and the answers come back."""
        client, port = self.begin()
        one, two = Echo(), Echo("127.0.0.1")
        socks = Socks(port)
        self.assertEqual(socks.associate(), 0)
        for target in (one, two):
            self.assertTrue(socks.ask(*target.addr, b"query", target).endswith(b"query"))
        queries = [(target, b"%d of %d" % (number, size) + b"." * size) for size in (500, 900, 200)
                   for target in (one, two) for number in range(5)]
        client.send_signal(signal.SIGSTOP)  # So that they wait for it.
        for target, query in queries:
            socks.send(*target.addr, query)
        client.send_signal(signal.SIGCONT)
        answers: list[bytes] = []
        deadline = time.monotonic() + PATIENCE
        while len(answers) < len(queries) and time.monotonic() < deadline:
            one.pump()
            two.pump()
            if select.select([socks.udp], [], [], 0.01)[0]:
                answer = socks.udp.recv(65536)
                if not answer.endswith(b"query"):  # What was sent again may be answered late.
                    answers.append(answer)
        for target in (one, two):
            asked = [query for to, query in queries if to is target]
            self.assertEqual([query for query in target.came if query != b"query"], asked)
            header = b"\0\0\0" + address(*target.addr)
            self.assertEqual([answer for answer in answers if answer.startswith(header)],
                             [header + query for query in asked])
        client.finish()

    def test_what_is_dropped(self):
        """Fragments, what is none of it, and what comes from elsewhere: the association goes on."""
        client, port = self.begin()
        target = Echo()
        socks = Socks(port)
        self.assertEqual(socks.associate(), 0)
        socks.send(*target.addr, b"fragment", frag=1)
        socks.udp.sendto(b"\0", socks.relay)
        self.assertTrue(socks.ask(*target.addr, b"query", target).endswith(b"query"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.sendto(b"\0\0\0" + address(*target.addr) + b"stranger", socks.relay)
            self.assertTrue(socks.ask(*target.addr, b"query", target).endswith(b"query"))
        self.assertEqual(set(target.came), {b"query"})
        self.assertEqual(client.finish()["dropped"], 3)

    def test_ends_with_its_connection(self):
        """Then nobody listens at its UDP port."""
        client, port = self.begin()
        target = Echo()
        socks = Socks(port)
        self.assertEqual(socks.associate(), 0)
        self.assertTrue(socks.ask(*target.addr, b"query", target).endswith(b"query"))
        socks.close()
        socks.udp.connect(socks.relay)
        with self.assertRaises(ConnectionRefusedError):
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                socks.udp.send(b"\0\0\0" + address(*target.addr) + b"late")
                select.select([socks.udp], [], [], 0.01)
        stats = client.finish()
        self.assertEqual((stats["associations"], stats["total"]["open"]), (0, 0))

    def test_credentials(self):
        """Only who knows them gets an association."""
        _, port = self.begin("--socks-user=fred:open sesame")
        target = Echo()
        self.assertEqual(Socks(port).method, 0xff, "without any")
        self.assertEqual(Socks(port, (b"fred", b"open")).credentials_status, 1)
        right = Socks(port, (b"fred", b"open sesame"))
        self.assertEqual((right.credentials_status, right.associate()), (0, 0))
        self.assertTrue(right.ask(*target.addr, b"query", target).endswith(b"query"))

    def test_bounds(self):
        """Tunnels of all together: what would need a further one is dropped, and said."""
        client, port = self.begin("--max-tunnels=1")
        one, two = Echo(), Echo()
        socks = Socks(port)
        self.assertEqual(socks.associate(), 0)
        self.assertTrue(socks.ask(*one.addr, b"query", one).endswith(b"query"))
        socks.send(*two.addr, b"too many")
        client.wait_output("tunnels at a time", "--max-tunnels")
        self.assertTrue(socks.ask(*one.addr, b"query", one, two).endswith(b"query"))
        self.assertEqual(two.came, [])

    def test_other_commands(self):
        """CONNECT is for TCP, which goes through no UDP proxy."""
        _, port = self.begin()
        socks = Socks(port)
        socks.control.sendall(b"\5\1\0" + address("127.0.0.2", 80))
        self.assertEqual(socks.read(10)[1], 7)
        self.assertEqual(socks.control.recv(1), b"")


if __name__ == "__main__":
    tap.main(SocksTest)
