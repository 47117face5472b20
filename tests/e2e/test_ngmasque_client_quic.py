#!/usr/bin/env python3
"""ngmasque-client and connection IDs of local peers, packet by packet: of these nothing but what any packet of
QUIC shows (RFC 8999) is real.

    tests/e2e/test_ngmasque_client_quic.py --build DIR [--filter TEXT]
"""

import contextlib
import json
import select
import signal
import socket
import sys
import time
from pathlib import Path

import net
import tap
from net import Addr
from ngmasque_client_case import PATIENCE, ClientCase, ClientProgram, Echo, Peer
from procs import Program, ProgramError

INITIAL, HANDSHAKE = 0xc0, 0xe0


def long(dcid: bytes, scid: bytes, text: bytes, first: int = INITIAL, size: int = 1200) -> bytes:
    packet = bytes([first]) + b"\0\0\0\1" + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid + text
    return packet.ljust(size, b"\0")


def short(dcid: bytes, text: bytes) -> bytes:
    return b"\x40" + dcid + text.ljust(40, b"\0")


class Server:
    """The target, which does what it is told."""

    def __init__(self):
        self.addr, = net.free_addrs("127.0.0.2")
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(self.addr)
        self.source: tuple = ()

    def get(self, text: bytes) -> bytes:
        """The next packet with that text in it."""
        return _get(self.sock, text, self)

    def send(self, packet: bytes) -> None:
        self.sock.sendto(packet, self.source)


def _get(sock: socket.socket, text: bytes, server: Server | None = None) -> bytes:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([sock], [], [], 0.1)[0]:
            data, source = sock.recvfrom(65536)
            if server:
                server.source = source
            if text in data:
                return data
    raise ProgramError(f"{text!r} did not arrive")


class QuicTest(ClientCase):
    def handshake(self, peer: Peer, server: Server, client_id: bytes, server_id: bytes) -> None:
        peer.send(long(b"original", client_id, b"hello"))
        server.get(b"hello")
        server.send(long(client_id, server_id, b"welcome"))
        _get(peer, b"welcome")
        peer.send(long(server_id, client_id, b"finished", HANDSHAKE, 100))
        server.get(b"finished")

    def forwarding(self) -> tuple[ClientProgram, Peer, Server]:
        """With one connection, whose packets are forwarded both ways."""
        server = Server()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, server.addr)
        peer = Peer(port)
        self.handshake(peer, server, b"client-1", b"server-1")
        self.exchange(client, peer, server, b"client-1", b"server-1", "forwarded_rx")
        return client, peer, server

    def exchange(self, client: ClientProgram, peer: Peer, server: Server, client_id: bytes, server_id: bytes,
                 until: str) -> None:
        """Packets both ways, until the statistics show some that went that way."""
        deadline = time.monotonic() + PATIENCE
        for number in range(1_000_000):
            peer.send(short(server_id, b"ping %d;" % number))
            server.get(b"ping %d;" % number)
            server.send(short(client_id, b"pong %d;" % number))
            _get(peer, b"pong %d;" % number)
            client.stats_file.unlink(missing_ok=True)
            client.send_signal(signal.SIGUSR1)
            while not client.stats_file.exists():
                if client.status is not None or time.monotonic() > deadline:
                    raise ProgramError(f"nothing of {until}")
                time.sleep(0.001)
            if self.stats(client)["total"][until]["packets"]:
                return

    def stats(self, client: ClientProgram) -> dict:
        return json.loads(client.stats_file.read_text())

    def test_two_connections_of_one_port(self):
        """What the second one begins with waits for the proxy, and both are forwarded."""
        client, peer, server = self.forwarding()
        self.handshake(peer, server, b"client-2", b"server-2")
        before = self.stats(client)["total"]["forwarded_tx"]["packets"]
        for ids in ((b"client-2", b"server-2"), (b"client-1", b"server-1")):
            for number in range(10):
                peer.send(short(ids[1], b"to %d;" % number))
                server.get(b"to %d;" % number)
                server.send(short(ids[0], b"back %d;" % number))
                _get(peer, b"back %d;" % number)
        total = client.finish()["total"]
        # The first one of the second connection is what shows its server's ID.
        self.assertGreaterEqual(total["forwarded_tx"]["packets"], before + 15)
        self.assertEqual((total["tunnels"], total["plain"], total["not_sent"]), (1, 0, 0))
        self.assertEqual((total["unseen_to_target"], total["unseen_to_client"], total["fallbacks"]), (0, 0, {}))

    def test_bursts(self):
        """What comes together goes together: nothing is lost, and all is in order, whatever the sizes."""
        client, peer, server = self.forwarding()
        before = self.stats(client)["total"]
        sizes = [900] * 7 + [300] + [300] * 5 + [1100] * 3 + [60, 61, 60]
        texts = [b"%d;" % number + b"." * size for number, size in enumerate(sizes)]
        client.send_signal(signal.SIGSTOP)  # So that they wait for it.
        for text in texts:
            peer.send(short(b"server-1", text))
        client.send_signal(signal.SIGCONT)
        self.assertEqual([server.get(b";") for _ in texts], [short(b"server-1", text) for text in texts])
        client.send_signal(signal.SIGSTOP)
        for text in texts:
            server.send(short(b"client-1", text))
        client.send_signal(signal.SIGCONT)
        self.assertEqual([_get(peer, b";") for _ in texts], [short(b"client-1", text) for text in texts])
        total = client.finish()["total"]
        for way in ("forwarded_tx", "forwarded_rx"):
            self.assertEqual(total[way]["packets"] - before[way]["packets"], len(texts))

    def test_ids_that_come_later(self):
        """They are tunnelled, both ways, and counted."""
        client, peer, server = self.forwarding()
        peer.send(short(b"server-9", b"later"))
        server.get(b"later")
        server.send(short(b"client-9", b"later"))
        _get(peer, b"later")
        total = client.finish()["total"]
        self.assertEqual((total["unseen_to_target"], total["unseen_to_client"]), (1, 1))

    def test_the_same_id_twice(self):
        """A second peer with it cannot be told to take another one: its packets are tunnelled."""
        server = Server()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, server.addr)
        one, two = Peer(port), Peer(port)
        self.handshake(one, server, b"client-1", b"server-1")
        self.handshake(two, server, b"client-1", b"server-2")
        for number in range(5):
            two.send(short(b"server-2", b"two %d;" % number))
            server.get(b"two %d;" % number)
            server.send(short(b"client-1", b"two %d;" % number))
            _get(two, b"two %d;" % number)
        total = client.finish()["total"]
        self.assertEqual((total["plain"], total["forwarded_tx"]["packets"]), (1, 0))

    def test_no_connection_id(self):
        """As browsers have it: forwarded towards the target, tunnelled back."""
        server = Server()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, server.addr)
        peers = [Peer(port), Peer(port)]
        for number, peer in enumerate(peers):
            self.handshake(peer, server, b"", b"server-%d" % number)
            before = server.source
            self.exchange(client, peer, server, b"", b"server-%d" % number, "forwarded_tx")
            self.assertEqual(server.source, before)
        before = self.stats(client)["total"]["forwarded_tx"]["packets"]
        for number in range(10):
            for which, peer in enumerate(peers):
                peer.send(short(b"server-%d" % which, b"to %d;" % number))
                server.get(b"to %d;" % number)
                server.send(short(b"", b"back %d to %d;" % (number, which)))
                _get(peer, b"back %d to %d;" % (number, which))
        total = client.finish()["total"]
        # The first ones of the second connection may have been tunnelled.
        self.assertGreaterEqual(total["forwarded_tx"]["packets"], before + 15)
        self.assertEqual((total["forwarded_rx"]["packets"], total["plain"], total["tunnels"]), (0, 0, 2))
        self.assertEqual((total["unseen_to_target"], total["unseen_to_client"], total["fallbacks"]), (0, 0, {}))

    def test_no_connection_id_is_refused(self):
        """By a proxy that wants one: then all is tunnelled, and the next one is not asked for."""
        server = Server()
        client, port = self.forward_to(self.answering_proxy(200), server.addr)
        for number in range(2):
            peer = Peer(port)
            deadline = time.monotonic() + PATIENCE
            while not select.select([peer], [], [], 0.2)[0]:  # It has no word for what is lost with the first tunnel.
                self.assertLess(time.monotonic(), deadline)
                peer.send(long(b"original", b"", b"hello"))
                with contextlib.suppress(BlockingIOError):
                    while True:
                        _, server.source = server.sock.recvfrom(65536, socket.MSG_DONTWAIT)
                        server.send(long(b"", b"server-%d" % number, b"welcome"))
            _get(peer, b"welcome")
            peer.send(long(b"server-%d" % number, b"", b"finished", HANDSHAKE, 100))
            server.get(b"finished")
            for _ in range(10):
                peer.send(short(b"server-%d" % number, b"ping"))
                server.get(b"ping")
                server.send(short(b"", b"pong"))
                _get(peer, b"pong")
        total = client.finish()["total"]
        self.assertEqual((total["plain"], total["tunnels"], total["forwarded_tx"]["packets"]), (2, 3, 0))

    def test_no_connection_id_with_draft_00(self):
        """It says nothing of forwarding one way alone."""
        server = Server()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, server.addr, "--proxy-dialect=draft-00")
        peer = Peer(port)
        self.handshake(peer, server, b"", b"server-0")
        for _ in range(5):
            peer.send(short(b"server-0", b"ping"))
            server.get(b"ping")
            server.send(short(b"", b"pong"))
            _get(peer, b"pong")
        self.assertEqual(client.finish()["total"]["forwarded_tx"]["packets"], 0)

    def test_proxy_gone_and_back(self):
        """The inner connection goes on, and is forwarded again."""
        server = Server()
        addr, proxy = self.proxy()
        client, port = self.forward_to(addr, server.addr, "--proxy-timeout=1", "--retry-pause=300ms")
        peer = Peer(port)
        self.handshake(peer, server, b"client-1", b"server-1")
        self.exchange(client, peer, server, b"client-1", b"server-1", "forwarded_rx")
        proxy.send_signal(signal.SIGKILL)
        proxy.wait(PATIENCE)
        client.wait_output("connection to the proxy", "next attempt in")
        self.proxy(addr=addr)
        client.stats_file.unlink(missing_ok=True)
        before = server.source
        deadline = time.monotonic() + PATIENCE
        while server.source == before and time.monotonic() < deadline:
            peer.send(short(b"server-1", b"back"))
            with contextlib.suppress(BlockingIOError):
                _, server.source = server.sock.recvfrom(65536, socket.MSG_DONTWAIT)
            time.sleep(0.05)
        self.assertNotEqual(server.source, before)
        for number in range(20):
            peer.send(short(b"server-1", b"again %d;" % number))
            server.get(b"again %d;" % number)
            server.send(short(b"client-1", b"and back %d;" % number))
            _get(peer, b"and back %d;" % number)
        stats = client.finish()
        forwarded = stats["total"]["forwarded_tx"]["packets"]
        self.assertEqual((stats["connections"], stats["total"]["tunnels"]), (2, 2))
        self.assertGreater(forwarded, 15)

    def test_proxy_that_drains(self):
        """Its tunnel goes on, and the next one is on another connection."""
        addr, = net.free_addrs("127.0.0.1")
        key, cert = self.certificate
        proxy = self.stack.enter_context(Program(
            [sys.executable, Path(__file__).with_name("draining_proxy.py"), "--listen", addr.host, str(addr.port),
             f"--key={key}", f"--cert={cert}", f"--stats={self.fresh('proxy.json')}"], self.fresh("proxy.log"), "proxy"))
        proxy.wait_bound([addr])
        target = Echo()
        client, port = self.forward_to(Addr(*addr), target.addr, "--retry-pause=100ms")
        one, two = Peer(port), Peer(port)
        self.assertEqual(one.ask(b"one", target), b"one")
        two.send(b"two")
        client.wait_output("takes no more tunnels")
        self.assertEqual(two.ask(b"two", target), b"two")
        self.assertEqual(one.ask(b"one again", target), b"one again")
        stats = client.finish()
        self.assertEqual((stats["connections"], len(target.sources)), (2, 2))


if __name__ == "__main__":
    tap.main(QuicTest)
