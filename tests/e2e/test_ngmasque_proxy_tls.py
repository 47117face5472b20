#!/usr/bin/env python3
"""ngmasque-proxy's certificates and its clients', and what it knows of them after a new start.

    tests/e2e/test_ngmasque_proxy_tls.py --build build [--filter TEXT]
"""

import re
import signal

import certs
import net
import tap
from net import Addr
from ngmasque_client_case import PATIENCE, ClientCase, Echo, Peer
from operated import Operated, get, metrics
from operated_case import ALLOW
from procs import Program

# Exit codes: examples/ngmasque-client/exit.h
CREDENTIALS, NOT_TRUSTED = 3, 4


class TlsTest(ClientCase):
    def operated(self, *options: str) -> Operated:
        """Not started."""
        self.directory = self.fresh("proxy")
        return Operated(self.build, self.directory, ALLOW, *options)

    def through(self, world: Operated, target: Addr, *options: str, sni: str = "localhost", ca=None):
        return self.forward_to(world.addr, target, f"--proxy-cacert={ca or world.cert}", f"--proxy-sni={sni}",
                               "--retry-pause=100ms", *options, trust=False)

    def check_through(self, world: Operated, *options: str, **more) -> None:
        target = Echo()
        client, port = self.through(world, target.addr, *options, **more)
        self.assertEqual(Peer(port).ask(b"query", target), b"query")
        client.finish()

    def ends(self, world: Operated, code: int, *words: str, options: tuple[str, ...] = (), **more) -> None:
        """The client does by itself, and its last line says why."""
        client, port = self.through(world, Addr("127.0.0.2", 4433), *options, **more)
        Peer(port).send(b"query")
        self.assertEqual(client.wait(PATIENCE), code, client.log.read_text())
        last = client.log.read_text().splitlines()[-1]
        for word in words:
            self.assertIn(word, last)

    # Its own

    def test_the_name_says_which_certificate(self):
        """The client believes one of them alone, and so gets through with that one only."""
        world = self.operated()
        pairs = []
        for name in ("first.example", "second.example"):
            directory = self.fresh(name)
            directory.mkdir()
            pairs.append(certs.make(directory, [name]))
        first, second = pairs
        lines = [f"listen = '{world.addr}'", ALLOW]

        def configure(*those: certs.Certificate) -> None:
            world.file.write_text("\n".join([*lines, f"cert = {[str(pair.cert) for pair in those]}",
                                             f"key = {[str(pair.key) for pair in those]}"]) + "\n")

        configure(first, second)
        with world:
            self.check_through(world, ca=first.cert, sni="first.example")
            self.check_through(world, ca=second.cert, sni="second.example")
            self.ends(world, NOT_TRUSTED, "--proxy-cacert", ca=first.cert, sni="second.example")
            # For any other name the first one, which is not for it.
            self.ends(world, NOT_TRUSTED, "does not match", ca=first.cert, sni="third.example")
            configure(second)
            world.program.send_signal(signal.SIGHUP)
            world.program.wait_output("info: reloaded")
            self.check_through(world, ca=second.cert, sni="second.example")
            self.ends(world, NOT_TRUSTED, "--proxy-cacert", ca=first.cert, sni="first.example")

    # Of clients

    def shows(self, pair: certs.Certificate) -> tuple[str, str]:
        return f"--proxy-cert={pair.cert}", f"--proxy-key={pair.key}"

    def test_certificates_of_clients(self):
        """Without users and --open each has to have one, and it is who they are."""
        ours, others = (certs.Authority(self.fresh(name)) for name in ("ours", "others"))
        world = self.operated()
        world.write(ALLOW, f"client-ca = '{ours.own.cert}'", f"access-log = '{world.access_log}'")
        with world:
            self.check_through(world, *self.shows(ours.issue("alice")))
            for options, words in ((self.shows(others.issue("mallory")), "CA is unknown"),
                                   (self.shows(ours.issue("bob", days=-1)), "expired"), ((), "required")):
                self.ends(world, CREDENTIALS, words, "--proxy-cert", options=options)
            record, = world.records(1)
        self.assertEqual((record["user"], record["event"]), ("alice", "tunnel"))
        self.assertIn("no handshake: certificate of the peer", world.log())

    def test_certificates_besides_users(self):
        """Those who show none need a secret; one that is wrong is no better than before."""
        ours, others = (certs.Authority(self.fresh(name)) for name in ("ours", "others"))
        world = self.operated()
        world.write(ALLOW, f"client-ca = '{ours.own.cert}'", f"users = '{world.users}'")
        secret = world.add_user("alice")
        with world:
            self.check_through(world, *self.shows(ours.issue("bob")))
            self.check_through(world, f"--proxy-user=alice:{secret}")
            self.ends(world, CREDENTIALS, "407")
            self.ends(world, CREDENTIALS, "--proxy-cert",
                      options=(*self.shows(others.issue("mallory")), f"--proxy-user=alice:{secret}"))

    # A new start

    def browse(self, world: Operated, remembered: str, *options: str) -> tuple[int, str]:
        """A client that keeps what it was given; how many bytes the server's part of the handshake had, and its log."""
        keep = [f"--{what}-file={self.run_ / remembered}-{what}" for what in ("session", "tp", "token")]
        client = self.stack.enter_context(Program(
            [self.build / "examples" / "gtlsclient", "--exit-on-all-streams-close", *keep, *options,
             world.addr.host, str(world.addr.port), "https://localhost/"], self.fresh("gtlsclient.log")))
        self.assertEqual(client.wait(PATIENCE), 0)
        log = client.log.read_text()
        return max(int(offset) + int(size) for offset, size in re.findall(
            r"frm rx \d+ Handshake CRYPTO\S* offset=(\d+) len=(\d+)", log)), log

    def start_again(self, world: Operated) -> None:
        """As after a crash."""
        world.program.send_signal(signal.SIGKILL)
        world.program.wait(PATIENCE)
        world.start().__enter__()

    def test_knows_its_clients_after_a_new_start(self):
        """With --secret-file: no Retry with a token of before, no certificate with a ticket of before."""
        for kept in (True, False):
            with self.subTest(kept=kept):
                addr, = net.free_addrs("127.0.0.1")
                world = self.operated(f"metrics = '{addr}'", "retry-from = 0")
                secret = self.directory / "secret"
                if kept:
                    world.write(ALLOW, f"metrics = '{addr}'", "retry-from = 0", f"secret-file = '{secret}'")
                    self.assertEqual(world.run("--check"), (0, ""))
                    self.assertFalse(secret.exists(), "--check makes nothing")
                with world:
                    first, _ = self.browse(world, f"kept-{kept}", "--wait-for-ticket")
                    self.start_again(world)
                    second, log = self.browse(world, f"kept-{kept}")
                    retries = metrics(get(addr, "/metrics")[1])["ngmasque_retries_total"]
                certificate = len(world.cert.read_text()) // 2
                self.assertGreater(first, certificate)
                if kept:
                    self.assertLess(second, certificate)
                    self.assertEqual(retries, 0)
                    self.assertEqual(secret.stat().st_mode & 0o777, 0o600)
                    # What was sent early could have been sent before.
                    self.assertIn("Early data was rejected", log)
                else:
                    self.assertGreater(second, certificate)
                    self.assertEqual(retries, 1)

    def test_connections_of_before_are_reset(self):
        """At once: the client, which would wait for half a minute otherwise, is told, and comes back."""
        world = self.operated()
        world.write(ALLOW, f"secret-file = '{self.directory}/secret'")
        target = Echo()
        with world:
            client, port = self.through(world, target.addr)
            peer = Peer(port)
            self.assertEqual(peer.ask(b"before", target), b"before")
            self.start_again(world)
            while peer.ask(b"after", target) != b"after":
                pass  # Of before, when one was sent twice.
            self.assertIn("the peer has reset the connection", client.log.read_text())
            self.assertEqual(client.finish()["connections"], 2)

    def test_a_secret_that_is_none(self):
        world = self.operated()
        secret = self.directory / "secret"
        secret.write_text("short\n")
        for mode, words in ((0o644, f"chmod o= {secret}"), (0o600, "32 bytes or more: openssl rand -hex 32")):
            secret.chmod(mode)
            for option in ("--check", "--log-level=info"):
                status, err = world.run(f"--secret-file={secret}", option)
                self.assertEqual((status, err.count("\n")), (2, 1), err)
                self.assertIn(words, err)
        status, err = world.run("--check", "--secret-file=/nowhere/secret")
        self.assertEqual(status, 2)
        self.assertIn("/nowhere/secret: No such file", err)


if __name__ == "__main__":
    tap.main(TlsTest)
