#!/usr/bin/env python3
"""ngmasque-client and the name of its proxy: there is a name server that says what it is told to.

    tests/e2e/test_ngmasque_client_name.py --build DIR [--filter TEXT]
"""

import os
import signal
import socket
import threading
import time
import unittest

import tap
from net import Addr
from ngmasque_client_case import PATIENCE, ClientCase, ClientProgram, Echo, Peer

SERVER = "127.0.53.53"
NAME = "proxy.example"
NO_PROXY = 6  # examples/ngmasque-client/exit.h
A = 1
NO_ERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


class NameServer(threading.Thread):
    """It knows one name.  `address`: of that, nothing if there is none such; `rcode`: what it answers, if not that;
    `silent`: nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((SERVER, 53))
        self.address, self.rcode, self.silent = "", NO_ERROR, False
        self.asked = threading.Event()
        self.start()

    def run(self) -> None:
        while True:
            query, client = self.sock.recvfrom(4096)
            if not query:
                return
            self.asked.set()
            if not self.silent:
                self.sock.sendto(self.answer(query), client)

    def answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        labels, kind = query[12:end - 4], int.from_bytes(query[end - 4:end - 2], "big")
        wanted = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split(".")) + b"\0"
        known = bool(self.address) and labels.lower() == wanted
        rcode = self.rcode or (NO_ERROR if known else NXDOMAIN)
        records = b""
        if rcode == NO_ERROR and kind == A:
            records = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(self.address)
        return (query[:2] + bytes([0x81, 0x80 | rcode]) + b"\0\1" + (b"\0\1" if records else b"\0\0") + b"\0\0\0\0" +
                query[12:end] + records)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"", (SERVER, 53))
        self.join()
        self.sock.close()


@unittest.skipIf(os.geteuid() != 0, "only root may give the client another name server")
class NameTest(ClientCase):
    def setUp(self):
        super().setUp()
        self.names = NameServer()
        self.stack.callback(self.names.close)

    def named(self, port: int, target: Addr, *options: str) -> ClientProgram:
        """A client of `NAME`, in a file system where that server is the system's."""
        conf = self.fresh("resolv.conf")
        conf.write_text(f"nameserver {SERVER}\n")
        program = self.program
        self.program = self.fresh("client")
        self.program.write_text(f'#!/bin/sh\nexec unshare --mount sh -c \'mount --bind "{conf}" /etc/resolv.conf && exec "$@"\' '
                                f'sh "{program}" "$@"\n')
        self.program.chmod(0o700)
        try:
            return self.stack.enter_context(ClientProgram(
                self, [f"--proxy=https://{NAME}:{port}", "--proxy-sni=localhost", f"--proxy-cacert={self.certificate.cert}",
                       "--listen=127.0.0.1:0", "--retry-pause=300ms", *options, str(target)]))
        finally:
            self.program = program

    def test_name_that_there_is_not(self):
        """It is of no use to try again; the last line says what to do."""
        client = self.named(443, Echo().addr)
        self.assertEqual(client.wait(PATIENCE), NO_PROXY)
        last = client.log.read_text().strip().splitlines()[-1]
        for word in (NAME, "there is no such name", "--proxy", "name server"):
            self.assertIn(word, last)
        self.assertNotIn("next attempt", client.log.read_text())

    def test_nothing_waits_for_the_answer(self):
        """SIGUSR1 is answered meanwhile, and so is everybody else."""
        self.names.silent = True
        target = Echo()
        proxy, _ = self.proxy()
        client = self.named(proxy.port, target.addr)
        port = client.where("UDP")
        self.assertTrue(self.names.asked.wait(PATIENCE))
        client.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while not client.stats_file.exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertNotIn("connected to", client.log.read_text())
        self.assertNotIn("next attempt", client.log.read_text(), "it had an answer, or had given up")
        self.names.address, self.names.silent = proxy.host, False  # It is asked again soon.
        self.assertEqual(Peer(port).ask(b"hello", target), b"hello")
        client.finish()

    def test_servers_that_cannot_say(self):
        """That passes."""
        self.names.rcode = SERVFAIL
        target = Echo()
        proxy, _ = self.proxy()
        client = self.named(proxy.port, target.addr)
        port = client.where("UDP")
        client.wait_output("name does not resolve", "next attempt in")
        self.names.rcode, self.names.address = NO_ERROR, proxy.host
        self.assertEqual(Peer(port).ask(b"hello", target), b"hello")
        client.finish()

    def test_name_that_was_there(self):
        """Without it the client goes on trying, and finds the proxy where it is then."""
        target = Echo()
        first, program = self.proxy()
        self.names.address = first.host
        client = self.named(first.port, target.addr, "--proxy-timeout=1")
        peer = Peer(client.where("UDP"))
        self.assertEqual(peer.ask(b"hello", target), b"hello")
        self.names.address = ""
        program.send_signal(signal.SIGKILL)
        program.wait(PATIENCE)
        client.wait_output("there is no such name", "next attempt in")
        other = Addr("127.0.0.9", first.port)
        self.proxy(addr=other)
        self.names.address = other.host
        # An answer that comes late looks the same: what counts is that the target hears of it again.
        heard = len(target.came)
        deadline = time.monotonic() + PATIENCE
        while len(target.came) == heard and time.monotonic() < deadline:
            self.assertEqual(peer.ask(b"hello", target), b"hello")
        client.wait_output(f"connected to {other}")
        client.finish()


if __name__ == "__main__":
    tap.main(NameTest)
