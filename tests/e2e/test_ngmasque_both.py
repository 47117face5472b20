#!/usr/bin/env python3
"""ngmasque-client through ngmasque-proxy, as people have them: who may use it, and for what.

    tests/e2e/test_ngmasque_both.py --build DIR [--filter TEXT]
"""

import os
import signal
from pathlib import Path

import certs
import tap
from net import Addr
from ngmasque_client_case import PATIENCE, ClientCase, Echo, Peer
from operated import Operated

# Exit codes: examples/ngmasque-client/exit.h
CREDENTIALS, DENIED = 3, 5


class BothTest(ClientCase):
    def operated(self, *options: str) -> Operated:
        directory = self.fresh("proxy")
        world = Operated(self.build, directory, f"users = '{directory}/users'", f"access-log = '{directory}/access.json'",
                         *(options or ["allow = '127.0.0.0/8'"]))
        self.secret = world.add_user("alice")
        self.stack.enter_context(world)
        return world

    def fresh_directory(self, name: str) -> Path:
        directory = self.fresh(name)
        directory.mkdir()
        return directory

    def through(self, world: Operated, target: Addr, *options: str):
        return self.forward_to(world.addr, target, f"--proxy-cacert={world.cert}", "--proxy-sni=localhost", *options,
                               trust=False)

    def test_user(self):
        """Name and secret in a file; the proxy knows whose tunnel it was, and both have counted the same."""
        world = self.operated()
        target = Echo()
        file = self.fresh("secret")
        file.write_text(f"alice:{self.secret}\nwhat is behind it is of no interest\n")
        client, port = self.through(world, target.addr, f"--proxy-user-file={file}")
        self.assertEqual(Peer(port).ask(b"query", target), b"query")
        ours = client.finish()["targets"][str(target.addr)]
        record, = world.records(1)
        self.assertEqual((record["event"], record["user"]), ("tunnel", "alice"))
        self.assertEqual((ours["tunnels"], ours["plain"]), (1, 1))

    def test_token_in_the_environment(self):
        world = self.operated()
        target = Echo()
        os.environ["NGMASQUE_PROXY_BEARER"] = self.secret
        self.addCleanup(os.environ.pop, "NGMASQUE_PROXY_BEARER")
        client, port = self.through(world, target.addr)
        self.assertEqual(Peer(port).ask(b"query", target), b"query")
        self.assertNotIn(self.secret, client.log.read_text())

    def test_certificate(self):
        """In place of a secret."""
        own = certs.make(self.fresh_directory("own"))
        world = self.operated("allow = '127.0.0.0/8'", f"client-ca = '{own.cert}'")
        target = Echo()
        client, port = self.through(world, target.addr, f"--proxy-cert={own.cert}", f"--proxy-key={own.key}")
        self.assertEqual(Peer(port).ask(b"query", target), b"query")
        client.finish()

    def test_user_is_removed(self):
        """Connection and tunnel end while it runs, and it is told what it lacks; when the user is back it goes on."""
        world = self.operated()
        target = Echo()
        client, port = self.through(world, target.addr, f"--proxy-user=alice:{self.secret}", "--retry-pause=100ms")
        peer = Peer(port)
        self.assertEqual(peer.ask(b"query", target), b"query")
        line = world.users.read_text()
        world.users.write_text("")
        world.program.send_signal(signal.SIGHUP)
        client.wait_output("closed by the peer", "next attempt in")
        peer.send(b"again")
        client.wait_output("407", "it wants credentials")
        ended, refused, *_ = world.records(2)
        self.assertEqual((ended["user"], ended["end"]), ("alice", "its user may not use the proxy any more"))
        self.assertEqual((refused["user"], refused["status"]), (None, 407))
        world.users.write_text(line)
        world.program.send_signal(signal.SIGHUP)
        while peer.ask(b"back", target) != b"back":
            pass  # Of before, when one was sent twice.
        client.finish()

    def test_proxy_drains(self):
        """Who is there goes on; who comes waits for the next proxy at the same address."""
        world = self.operated()
        target = Echo()
        client, port = self.through(world, target.addr, f"--proxy-user=alice:{self.secret}", "--idle-timeout=500ms",
                                    "--retry-pause=200ms", "--handshake-timeout=1")
        one, two = Peer(port), Peer(port)
        self.assertEqual(one.ask(b"one", target), b"one")
        world.program.send_signal(signal.SIGTERM)
        client.wait_output("takes no more tunnels")
        two.send(b"two")
        self.assertEqual(one.ask(b"one again", target), b"one again")
        self.assertNotIn(b"two", target.came)
        # When the first one has been silent, its tunnel is over, and so is the proxy.
        self.assertEqual(world.program.wait(PATIENCE), 0)
        self.stack.enter_context(world.start())
        self.assertEqual(two.ask(b"two", target), b"two")
        client.finish()

    def ends(self, world: Operated, code: int, *words: str, options: tuple[str, ...] = ()) -> None:
        client, port = self.through(world, Addr("127.0.0.2", 4433), *options)
        Peer(port).send(b"query")
        self.assertEqual(client.wait(PATIENCE), code, client.log.read_text())
        last = client.log.read_text().splitlines()[-1]
        for word in words:
            self.assertIn(word, last)

    def test_wrong_secret(self):
        world = self.operated()
        for options in ((), ("--proxy-user=alice:wrong",), ("--proxy-bearer=wrong",)):
            with self.subTest(options):
                self.ends(world, CREDENTIALS, "407", "--proxy-user", options=options)
        self.assertEqual({record["event"] for record in world.records(3)}, {"refused"})

    def test_target_that_the_policy_denies(self):
        world = self.operated("allow = '127.0.0.77'")
        self.ends(world, DENIED, "403", "127.0.0.2:4433", options=(f"--proxy-user=alice:{self.secret}",))


if __name__ == "__main__":
    tap.main(BothTest)
