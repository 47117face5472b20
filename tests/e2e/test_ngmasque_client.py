#!/usr/bin/env python3
"""ngmasque-client: programs of all kinds, and what it says when something is wrong.

    tests/e2e/test_ngmasque_client.py --build DIR [--filter TEXT]
"""

import os
import pty
import re
import signal
import subprocess
import termios
import time

import files
import net
import tap
from net import Addr
from ngmasque_client_case import ALLOW, PATIENCE, ClientCase, Echo, Peer
from procs import Program, environment
from transfer import Site

# Exit codes: examples/ngmasque-client/exit.h
CREDENTIALS, NOT_TRUSTED, DENIED, NO_PROXY = 3, 4, 5, 6
PEERS = 40


class NgmasqueClientTest(ClientCase):
    def packets(self, entry: dict, *ways: str) -> int:
        return sum(entry[way]["packets"] for way in ways)

    def test_many_peers(self):
        """Each has a tunnel of its own, and so its own answers; nothing of it is QUIC."""
        target = Echo()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, target.addr)
        peers = [Peer(port) for _ in range(PEERS)]
        for number, peer in enumerate(peers):
            peer.send(b"query %d" % number)
        for number, peer in enumerate(peers):
            # What is sent again after a while may be answered twice.
            self.assertEqual(peer.ask(b"query %d" % number, target), b"query %d" % number)
        self.assertEqual(len(target.sources), PEERS, "each has a port of the proxy to itself")
        stats = client.finish()
        entry = stats["targets"][str(target.addr)]
        self.assertEqual((entry["tunnels"], entry["plain"], stats["connections"]), (PEERS, PEERS, 1))
        self.assertGreaterEqual(self.packets(entry, "tunnelled_tx"), PEERS)
        self.assertEqual(self.packets(entry, "forwarded_tx", "forwarded_rx"), 0)
        self.assertEqual(stats["total"], entry)

    def test_a_peer_beyond_the_bound(self):
        """It is dropped and said; the others go on, and when one of them has been silent, it is its turn."""
        target = Echo()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, target.addr, "--max-tunnels=1", "--idle-timeout=300ms")
        first, second = Peer(port), Peer(port)
        self.assertEqual(first.ask(b"first", target), b"first")
        second.send(b"second")
        client.wait_output("local peers at a time", "--max-tunnels")
        self.assertEqual(first.ask(b"again", target), b"again")
        self.assertNotIn(b"second", target.came)
        self.assertEqual(second.ask(b"second", target), b"second")
        self.assertGreaterEqual(client.finish()["dropped"], 1)

    def test_too_long(self):
        """A line says what fits, and which option helps; that does help."""
        target = Echo()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, target.addr)
        peer = Peer(port)
        self.assertEqual(peer.ask(b"hello", target), b"hello")  # What is sent again may be answered twice.
        packet = bytes(1400)
        for _ in range(5):
            peer.send(packet)
        client.wait_output("1400 bytes", "--max-udp-payload-size=")
        said = re.findall(r".*1400 bytes.*", client.log.read_text())[0]
        fits, option = re.search(r"up to (\d+) fit.*(--max-udp-payload-size=\d+) here", said).groups()
        longest = bytes(int(fits))
        self.assertEqual(Peer(port).ask(longest, target), longest)
        self.assertGreaterEqual(client.finish()["total"]["dropped"]["packet is too large"], 5)
        proxy, _ = self.proxy(*ALLOW, option)
        client, port = self.forward_to(proxy, target.addr, option)
        peer = Peer(port)
        self.assertEqual(peer.ask(packet, target), packet)
        client.finish()

    def download(self, *options: str, browser_options: tuple[str, ...] = ()) -> dict:
        """An HTTP/3 download through a local port; statistics of its target."""
        site = Site(self.fresh("site"), 2 << 20)
        addr, = net.free_addrs("127.0.0.2")
        key, cert = site.certificate
        server = self.stack.enter_context(Program(
            [self.build / "examples" / "gtlsserver", "--quiet", f"--htdocs={site.htdocs}", addr.host, str(addr.port),
             key, cert], self.fresh("server.log"), "server"))
        server.wait_bound([addr])
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, addr, *options)
        directory = self.fresh("download")
        directory.mkdir()
        browser = self.stack.enter_context(Program(
            [self.build / "examples" / "gtlsclient", "--quiet", "--no-quic-dump", "--no-http-dump",
             "--exit-on-all-streams-close", f"--download={directory}", *browser_options, port.host, str(port.port),
             f"https://localhost:{port.port}/file"], self.fresh("gtlsclient.log")))
        self.assertEqual(browser.wait(PATIENCE), 0)
        self.assertEqual(files.sha256(directory / "file"), site.sha256)
        return client.finish()["targets"][str(addr)]

    def test_quic_is_forwarded(self):
        """The connection IDs of a handshake are enough for most of a download."""
        entry = self.download()
        tunnelled, forwarded = (self.packets(entry, f"{way}_tx", f"{way}_rx") for way in ("tunnelled", "forwarded"))
        self.assertGreater(forwarded, 4 * tunnelled, entry)
        for way in ("forwarded_tx", "forwarded_rx"):
            self.assertGreater(entry[way]["packets"], 0)
            self.assertEqual(entry[way]["long_headers"], 0)
        self.assertEqual(entry["plain"], 0)

    def test_quic_without_client_ids_is_forwarded_up(self):
        """As of browsers; in between it is tunnelled, with a server connection ID that nobody has seen."""
        entry = self.download(browser_options=("--scid=",))
        self.assertGreater(self.packets(entry, "forwarded_tx"), self.packets(entry, "tunnelled_tx"), entry)
        self.assertEqual((entry["forwarded_rx"]["packets"], entry["plain"]), (0, 0))

    def test_quic_is_tunnelled(self):
        """--forward=off"""
        entry = self.download("--forward=off")
        self.assertEqual(self.packets(entry, "forwarded_tx", "forwarded_rx"), 0)
        self.assertGreater(self.packets(entry, "tunnelled_rx"), (2 << 20) // 1400)

    def test_draft_00_is_never_told_connection_ids(self):
        """It may put several clients on one socket, where packets with later ones would be lost."""
        entry = self.download("--proxy-dialect=draft-00")
        self.assertEqual(self.packets(entry, "forwarded_tx", "forwarded_rx"), 0)

    def test_proxy_gone_and_back(self):
        """The local port stays, and the same peer gets answers again."""
        target = Echo()
        addr, proxy = self.proxy()
        client, port = self.forward_to(addr, target.addr, "--proxy-timeout=1", "--retry-pause=300ms")
        peer = Peer(port)
        self.assertEqual(peer.ask(b"before", target), b"before")
        proxy.send_signal(signal.SIGKILL)
        proxy.wait(PATIENCE)
        client.wait_output("connection to the proxy", "next attempt in")
        self.proxy(addr=addr)
        while peer.ask(b"after", target) != b"after":
            pass  # Of before, when one was sent twice.
        self.assertEqual(client.finish()["connections"], 2)

    def test_proxy_that_comes_later(self):
        """What is sent before waits, and is not lost."""
        target = Echo()
        addr, = net.free_addrs("127.0.0.1")
        client, port = self.forward_to(addr, target.addr, "--retry-pause=300ms")
        peer = Peer(port)
        peer.send(b"early")
        client.wait_output("next attempt in")
        self.proxy(addr=addr)
        self.assertEqual(peer.ask(b"late", target), b"early")
        self.assertEqual(client.finish()["total"]["not_sent"], 0)

    def ends(self, proxy: Addr, code: int, *words: str, options: tuple[str, ...] = (), trust: bool = True) -> str:
        """It ends by itself with this code, and its last line says what to do."""
        client, port = self.forward_to(proxy, Addr("127.0.0.2", 4433), *options, trust=trust)
        Peer(port).send(b"query")
        self.assertEqual(client.wait(PATIENCE), code, client.log.read_text())
        last = client.log.read_text().splitlines()[-1]
        for word in words:
            self.assertIn(word, last)
        return client.log.read_text()

    def test_wrong_password(self):
        text = self.ends(self.answering_proxy(407), CREDENTIALS, "407", "--proxy-user",
                         options=("--proxy-user=fred:open sesame",))
        self.assertNotIn("sesame", text)

    def test_empty_payloads(self):
        """What is no QUIC may say something without a byte."""
        for dialect in ("draft-00", "rfc9298"):
            with self.subTest(dialect):
                proxy, _ = self.proxy()
                target = Echo()
                client, port = self.forward_to(proxy, target.addr, f"--proxy-dialect={dialect}")
                peer = Peer(port)
                self.assertEqual([peer.ask(data, target) for data in (b"", b"query", b"")], [b"", b"query", b""])
                client.finish()

    def test_proxy_that_says_when_to_try_again(self):
        """It is not asked before that, by whatever else comes."""
        client, port = self.forward_to(self.answering_proxy(429, "--retry-after=100"), Addr("127.0.0.2", 4433))
        peer = Peer(port)
        peer.send(b"query")
        client.wait_output("may work in 100 s")
        # Without it a first pause is a second at most.
        for _ in range(20):
            peer.send(b"query")
            time.sleep(0.1)
        client.finish()
        self.assertEqual(client.log.read_text().count("answered 429"), 1)

    def test_denied_target(self):
        proxy, _ = self.proxy("--connect-udp-allow=127.0.0.77")
        self.ends(proxy, DENIED, "127.0.0.2:4433", "403", "policy")

    def test_no_proxy(self):
        self.ends(self.answering_proxy(404), NO_PROXY, "404", "--proxy-template")

    def test_expired_certificate(self):
        pair = self.expired_certificate()
        proxy, _ = self.proxy(certificate=pair)
        self.ends(proxy, NOT_TRUSTED, "expired", "--proxy-cacert", trust=False,
                  options=(f"--proxy-cacert={pair.cert}", "--proxy-sni=localhost"))

    def test_certificate_that_nobody_trusts(self):
        """The system's trust store holds, unless there is another one, or none is wanted."""
        proxy, _ = self.proxy()
        target = Echo()
        client, port = self.forward_to(proxy, target.addr, "--proxy-insecure", trust=False)
        self.assertEqual(Peer(port).ask(b"query", target), b"query")
        client.finish()
        with self.subTest("trust store"):
            client, _ = self.forward_to(proxy, target.addr, trust=False)
            # 1 on a machine without trust store
            self.assertIn(client.wait(PATIENCE), (NOT_TRUSTED, 1))
            self.assertIn("--proxy-cacert", client.log.read_text().splitlines()[-1])

    def test_usage(self):
        for argv, words in ((["--listen=127.0.0.1:5353"], "--proxy"), (["--proxy=https://[::1]"], "--listen"),
                            (["--proxy=https://[::1]", "--socks=0.0.0.0:1080"], "--socks-user"),
                            (["--proxy=https://[::1]", "--listen=127.0.0.1:0", "a:1", "--proxy-key"], "--proxy-key")):
            done = subprocess.run([self.program, *argv], capture_output=True, text=True, timeout=PATIENCE,
                                  env=environment())
            self.assertEqual(done.returncode, 2, argv)
            self.assertEqual((done.stdout, done.stderr.count("\n")), ("", 1), "one line")
            self.assertIn(words, done.stderr)

    def test_secrets_do_not_stay_on_the_command_line(self):
        proxy, _ = self.proxy()
        client, _ = self.forward_to(proxy, Addr("127.0.0.2", 4433), "--proxy-user=fred:sesame")
        with open(f"/proc/{client.pid}/cmdline") as line:
            text = line.read()
        self.assertIn("--proxy-user=*", text)
        self.assertNotIn("sesame", text)

    def test_status_in_a_terminal(self):
        """A table that begins at the upper left corner again each time, and is no larger than the terminal."""
        target = Echo()
        proxy, _ = self.proxy()
        addr, = net.free_addrs("127.0.0.1")
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        termios.tcsetwinsize(slave, (5, 60))
        client = self.stack.enter_context(subprocess.Popen(
            [self.program, f"--proxy=https://{proxy}", "--proxy-insecure", "--status", f"--listen={addr}", str(target.addr)],
            stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.DEVNULL, env=environment()))
        self.stack.callback(client.kill)
        os.close(slave)
        seen = b""
        while not re.search(rb"127\.0\.0\.2:\d+ +1 +1 +5 B", seen):
            seen += os.read(master, 65536)
            if b"connected to" in seen and not target.came:
                self.assertEqual(Peer(addr).ask(b"query", target), b"query")
        client.send_signal(signal.SIGINT)
        self.assertEqual(client.wait(PATIENCE), 0)
        for screen in seen.split(b"\x1b[H\x1b[J")[1:-1]:
            lines = screen.split(b"\r\n")
            self.assertLessEqual(len(lines), 5)
            self.assertLessEqual(max(map(len, lines)), 60)

    def test_status(self):
        """Where there is no terminal, a line a second; SIGUSR1 writes the statistics."""
        target = Echo()
        proxy, _ = self.proxy()
        client, port = self.forward_to(proxy, target.addr, "--status")
        self.assertEqual(Peer(port).ask(b"query", target), b"query")
        client.wait_output("connected to", "1 tunnels", "tunnelled 1 packets")
        client.send_signal(signal.SIGUSR1)
        client.wait_output("connected to", "forwarded 0")
        while not os.path.exists(client.stats_file):
            self.assertIsNone(client.status)
        client.finish()


if __name__ == "__main__":
    tap.main(NgmasqueClientTest)
