#!/usr/bin/env python3
"""ngmasque-proxy as its operators use it.

    tests/e2e/test_ngmasque_proxy.py --build build [--filter TEXT]
"""

import shutil
import signal
import socket

import net
import tap
from operated import TIMEOUT, Operated, basic, bearer, get, metrics
from operated_case import ALLOW, OperatedCase
from procs import run
from proxy_client import REQUEST_CANCELLED
from quic_packets import QuicError
from udp_client import Tunnel, UdpClient
from udp_target import Target


class OperatedTest(OperatedCase):
    def with_users(self, *options: str) -> Operated:
        directory = self.work / self._testMethodName
        return self.operated(f"users = '{directory}/users'", f"access-log = '{directory}/access.json'", ALLOW,
                             *options)

    def answer(self, client: UdpClient, target: net.Addr, *fields: tuple[str, str]) -> tuple[int, Tunnel]:
        client.check_settings()
        tunnel = client.connect(*target, [*fields])
        return tunnel.status(), tunnel

    # Before it runs

    def test_what_it_says_of_itself(self):
        binary = self.operated().binary
        for option, words in (("--help", "--max-sockets=<N>"), ("--version", "draft-ietf-masque-quic-proxy-06"),
                              ("--man-page", ".SH EXIT STATUS"), ("--completion", "complete -o filenames"),
                              ("--sample-config", "#max-sockets = 20000")):
            status, out, err = run([binary, option])
            self.assertEqual((status, err), (0, b""))
            self.assertIn(words, out.decode())

    def test_sample_configuration_is_one(self):
        world = self.operated()
        sample = run([world.binary, "--sample-config"])[1].decode()
        world.file.write_text(sample)
        self.assertEqual(world.run("--check", f"--listen={world.addr}", f"--cert={world.cert}", f"--key={world.key}"),
                         (0, ""))

    def test_check(self):
        """One line, which says where and what to do; and nothing is begun."""
        world = self.operated()
        self.assertEqual(world.run("--check"), (0, ""))
        for line, words in (("max-sokets = 5", f"{world.file}:4: there is no option max-sokets: did you mean max-sockets?"),
                            ("max-sockets = 'many'", f"{world.file}:4: max-sockets must be a number"),
                            ("allow = ['10.0.0.1/8']", f"{world.file}:4: allow must be an address"),
                            ("users = '/nowhere/users'", "/nowhere/users: No such file or directory"),
                            ("cert = 'twice'", f"{world.file}:4: this is no TOML")):
            world.write(line)
            for option in ("--check", "--log-level=info"):
                status, err = world.run(option)
                self.assertEqual((status, err.count("\n")), (2, 1), err)
                self.assertIn(words, err)
        world.write("")
        status, err = world.run("--check", f"--key={world.cert}")
        self.assertEqual(status, 2)
        self.assertIn("its own key", err)

    def test_no_open_proxy_by_accident(self):
        world = self.operated(host="0.0.0.0")
        status, err = world.run()
        self.assertEqual(status, 2)
        self.assertIn("--users=<FILE> or --client-ca=<FILE>, listen on a loopback address, or say --open", err)
        self.assertEqual(world.run("--check", "--open"), (0, ""))
        world.add_user("alice")
        self.assertEqual(world.run("--check", f"--users={world.users}"), (0, ""))

    def test_port_in_use(self):
        world = self.operated()
        with socket.socket(world.addr.family, socket.SOCK_DGRAM) as taken:
            taken.bind(world.addr)
            status, err = world.run()
        self.assertEqual(status, 1)
        self.assertIn(f"{world.addr}", err)

    # Users

    def test_users(self):
        world = self.with_users()
        secret = world.add_user("alice")
        with world, Target() as target:
            with UdpClient(world.addr) as client:
                for fields in ([], [basic("alice", "wrong")], [basic("nobody", secret)], [bearer("wrong")],
                               [("proxy-authorization", "Basic ###")]):
                    status, tunnel = self.answer(client, target.addr, *fields)
                    self.assertEqual(status, 407, fields)
                    challenges = [value for name, value in tunnel.fields if name == "proxy-authenticate"]
                    self.assertEqual([challenge.split()[0] for challenge in challenges], ["Basic", "Bearer"])
                status, tunnel = self.answer(client, target.addr, basic("alice", secret))
                self.assertEqual(status, 200)
                self.check_tunnel(tunnel, target)
            with UdpClient(world.addr) as client:
                status, tunnel = self.answer(client, target.addr, bearer(secret))
                self.assertEqual(status, 200)
                self.check_tunnel(tunnel, target)
            records = world.records(7)
        self.assertEqual([record["event"] for record in records], 5 * ["refused"] + 2 * ["tunnel"])
        for record in records[:5]:
            self.assertEqual((record["status"], record["user"], record["target"]), (407, None, str(target.addr)))
        for record in records[5:]:
            self.assertEqual((record["user"], record["status"], record["address"]), ("alice", 200, str(target.addr)))
            for way in ("to_target", "to_client"):
                self.assertEqual(record[way]["tunnelled"]["packets"], 1, record)
        self.assertNotIn(secret, world.log() + world.access_log.read_text())

    def test_users_of_an_origin(self):
        """What a URI template leads to may be taken for an origin, which has fields of its own."""
        world = self.with_users()
        secret = world.add_user("alice")
        with world, Target() as target, UdpClient(world.addr) as client:
            for scheme in ("Bearer", "bearer"):
                status, tunnel = self.answer(client, target.addr, ("authorization", f"{scheme} wrong"))
                self.assertEqual(status, 401)
                self.assertEqual([value.split()[0] for name, value in tunnel.fields if name == "www-authenticate"],
                                 ["Basic", "Bearer"])
                self.assertEqual(self.answer(client, target.addr, ("authorization", f"{scheme} {secret}"))[0], 200)

    def test_many_wrong_secrets(self):
        """After some of them nobody listens to that address, whatever it says."""
        world = self.with_users()
        secret = world.add_user("alice")
        with world, Target() as target, UdpClient(world.addr) as client, UdpClient(world.addr, "127.0.0.9") as other:
            seen = [self.answer(client, target.addr, bearer(f"wrong{number}"))[0] for number in range(20)]
            self.assertEqual((seen[0], seen[-1]), (407, 429))
            self.assertEqual(seen, sorted(seen))
            self.assertEqual(self.answer(client, target.addr, bearer(secret))[0], 429)
            self.assertEqual(self.answer(other, target.addr, bearer(secret))[0], 200)

    def test_policy_of_a_user(self):
        world = self.with_users("[policy.narrow]", "allow = '127.0.0.0/8'", "ports = '1-1023'", "[policy.home]",
                                "allow = '127.0.0.0/8'", "deny = '127.0.0.3'", "rate-per-client = '1G'")
        narrow, home, any_of_them = (world.add_user(name, policy)
                                     for name, policy in (("narrow", "narrow"), ("home", "home"), ("any", "")))
        with world, Target() as target, Target("127.0.0.3") as denied:
            for secret, asked, status in ((narrow, target.addr, 403), (any_of_them, target.addr, 200),
                                          (any_of_them, denied.addr, 200), (home, target.addr, 200),
                                          (home, denied.addr, 403),
                                          # Whatever is allowed, that is nobody's target.
                                          (home, world.addr, 403), (any_of_them, world.addr, 403)):
                with self.subTest(str((secret, asked))), UdpClient(world.addr) as client:
                    self.assertEqual(self.answer(client, asked, bearer(secret))[0], status)
            records = world.records(7)
        self.assertEqual({(record["user"], record["status"]) for record in records},
                         {("narrow", 403), ("any", 200), ("home", 200), ("home", 403), ("any", 403)})

    def test_denied_target(self):
        world = self.operated(f"access-log = '{self.work / self._testMethodName}/access.json'")
        with world, Target() as target, UdpClient(world.addr) as client:
            self.assertEqual(self.answer(client, target.addr)[0], 403)
            record, = world.records(1)
        self.assertEqual((record["event"], record["status"], record["target"]), ("refused", 403, str(target.addr)))
        self.assertTrue(record["error"])

    # Signals

    def test_reload(self):
        """New users, another certificate and another access log; what is there stays."""
        world = self.with_users()
        alice = world.add_user("alice")
        with world, Target() as target, UdpClient(world.addr) as client:
            status, tunnel = self.answer(client, target.addr, bearer(alice))
            self.assertEqual(status, 200)
            bob = world.add_user("bob")
            shutil.move(world.access_log, world.directory / "access.json.1")
            world.program.send_signal(signal.SIGHUP)
            world.program.wait_output("info: reloaded")
            self.check_tunnel(tunnel, target)
            with UdpClient(world.addr) as other:
                self.assertEqual(self.answer(other, target.addr, bearer("wrong"))[0], 407)
                self.assertEqual(self.answer(other, target.addr, bearer(bob))[0], 200)
            self.assertEqual(world.records(1)[0]["status"], 407)
            self.assertEqual(world.program.stop(TIMEOUT), 0, world.log())

    def test_reloaded_policy(self):
        """It is for new tunnels."""
        world = self.operated()
        with world, Target() as target, UdpClient(world.addr) as client:
            self.assertEqual(self.answer(client, target.addr)[0], 403)
            world.write(ALLOW)
            world.program.send_signal(signal.SIGHUP)
            world.program.wait_output("info: reloaded")
            status, tunnel = self.answer(client, target.addr)
            self.assertEqual(status, 200)
            world.write(ALLOW, "deny-name = 'example.com'", f"deny = '{target.addr.host}'")
            world.program.send_signal(signal.SIGHUP)
            client.wait(lambda: world.log().count("info: reloaded") == 2, "it is not reloaded")
            for host in (target.addr.host, "www.example.com"):
                self.assertEqual(self.answer(client, net.Addr(host, target.addr.port))[0], 403)
            self.check_tunnel(tunnel, target)

    def test_wrong_reload(self):
        """All stays as it was, and a line says what is wrong."""
        world = self.with_users()
        alice = world.add_user("alice")
        with world, Target() as target, UdpClient(world.addr) as client:
            for wrong, words in (("listn = 'x'", "there is no option listn"), ("users = '/nowhere'", "/nowhere"),
                                 ("access-log = '/nowhere/a'", "/nowhere/a")):
                world.write(wrong, ALLOW)
                world.program.send_signal(signal.SIGHUP)
                world.program.wait_output("error: not reloaded, all stays as it was", words)
            status, tunnel = self.answer(client, target.addr, bearer(alice))
            self.assertEqual(status, 200)
            self.check_tunnel(tunnel, target)

    def test_no_open_proxy_by_a_reload(self):
        """Where it listens does not change, whatever the file says by then."""
        world = self.operated(ALLOW, f"users = '{self.work / self._testMethodName}/users'", host="0.0.0.0")
        secret = world.add_user("alice")
        with world, Target() as target, UdpClient(net.Addr("127.0.0.1", world.addr.port)) as client:
            world.file.write_text(f"listen = '127.0.0.1:1'\ncert = '{world.cert}'\nkey = '{world.key}'\n{ALLOW}\n")
            world.program.send_signal(signal.SIGHUP)
            world.program.wait_output("not reloaded, all stays as it was: without users everybody could use", str(world.addr))
            self.assertEqual(self.answer(client, target.addr)[0], 407)
            self.assertEqual(self.answer(client, target.addr, bearer(secret))[0], 200)

    def test_what_needs_a_new_start(self):
        world = self.operated()
        with world:
            world.write("max-sockets = 5")
            world.program.send_signal(signal.SIGHUP)
            world.program.wait_output("max-sockets has changed, which needs a new start")
            world.program.wait_output("info: reloaded")

    def test_drain(self):
        """The tunnel goes on, nobody else gets one, and it ends with the last."""
        addr, = net.free_addrs("127.0.0.1")
        world = self.operated(f"metrics = '{addr}'", ALLOW)
        with world, Target() as target, UdpClient(world.addr) as client:
            _, tunnel = self.answer(client, target.addr)
            world.program.send_signal(signal.SIGTERM)
            world.program.wait_output("1 tunnels may go on for 1m")
            self.assertEqual(get(addr, "/health"), (503, "draining\n"))
            self.assertEqual(metrics(get(addr, "/metrics")[1])["ngmasque_draining"], 1)
            self.check_tunnel(tunnel, target)
            with self.assertRaises(QuicError):
                with UdpClient(world.addr):
                    pass
            self.check_tunnel(tunnel, target)
            client.connection.reset_stream(tunnel.stream, REQUEST_CANCELLED)
            client.work()
            self.assertEqual(world.program.wait(TIMEOUT), 0)
            self.assertIn("the last tunnel is over", world.log())

    def test_drain_is_cut_off(self):
        """By a second signal, and by the time limit."""
        for how, words in (("signal", "ended at once"), ("timeout", "1 tunnels are cut off: --drain-timeout is over")):
            with self.subTest(how):
                world = Operated(self.build, self.work / f"cut-off-{how}", ALLOW)
                world.start(*(["--drain-timeout=1ms"] if how == "timeout" else []))
                with world, Target() as target, UdpClient(world.addr) as client:
                    self.answer(client, target.addr)
                    world.program.send_signal(signal.SIGQUIT)
                    if how == "signal":
                        world.program.wait_output("1 tunnels may go on")
                        world.program.send_signal(signal.SIGTERM)
                    self.assertEqual(world.program.wait(TIMEOUT), 0)
                    self.assertIn(words, world.log())

    # Metrics

    def test_metrics(self):
        addr, = net.free_addrs("127.0.0.1")
        world = self.operated(f"metrics = '{addr}'", ALLOW)
        with world, Target() as target, UdpClient(world.addr) as client:
            self.assertEqual(get(addr, "/health"), (200, "ok\n"))
            self.assertEqual(get(addr, "/other")[0], 404)
            self.assertEqual(get(addr, "/metrics", "POST")[0], 405)
            before = metrics(get(addr, "/metrics")[1])
            self.assertEqual((before["ngmasque_tunnels"], before["ngmasque_requests_total"]), (0, 0))
            _, tunnel = self.answer(client, target.addr)
            self.check_tunnel(tunnel, target)
            self.answer(client, world.addr)
            after = metrics(get(addr, "/metrics")[1])
        self.assertEqual((after["ngmasque_tunnels"], after["ngmasque_requests_total"],
                          after["ngmasque_requests_accepted_total"]), (1, 2, 1))
        self.assertEqual(after['ngmasque_requests_refused_total{status="403"}'], 1)
        for way in ("to_target", "to_client"):
            self.assertEqual(after[f'ngmasque_packets_total{{mode="tunnelled",direction="{way}"}}'], 1)
        self.assertEqual(after["ngmasque_connections"], 1)


if __name__ == "__main__":
    tap.main(OperatedTest)
