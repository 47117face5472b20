#!/usr/bin/env python3
"""ngmasque-proxy: what SIGHUP does to those who are there, and when clients may try again.

    tests/e2e/test_ngmasque_proxy_reload.py --build build [--filter TEXT]
"""

import select
import signal
import time

import net
import tap
from operated import TIMEOUT, Operated, basic, bearer, get, metrics
from operated_case import ALLOW, OperatedCase
from udp_client import Tunnel, UdpClient
from udp_target import LONG, Target, packet

GONE = "its user may not use the proxy any more"
NO_ERROR = 0x100


class ReloadTest(OperatedCase):
    def operated(self, *options: str) -> Operated:
        world = super().operated()
        self.lines = [f"access-log = '{world.access_log}'", ALLOW]
        world.write(*self.lines, *options)
        return world

    def with_users(self, *names: str) -> tuple[Operated, list[str]]:
        """And the secrets of theirs."""
        world = self.operated()
        self.lines.append(f"users = '{world.users}'")
        world.write(*self.lines)
        return world, [world.add_user(name) for name in names]

    def reload(self, world: Operated, *options: str) -> None:
        world.write(*self.lines, *options)
        before = world.log().count("info: reloaded")
        world.program.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + TIMEOUT
        while world.log().count("info: reloaded") == before:
            self.assertLess(time.monotonic(), deadline, "it is not reloaded")
            time.sleep(0.01)

    def remove(self, world: Operated, name: str) -> None:
        lines = world.users.read_text().splitlines(keepends=True)
        world.users.write_text("".join(line for line in lines if not line.startswith(f"{name}:")))

    def check_closed(self, client: UdpClient) -> None:
        """By the proxy, and not because of an error."""
        client.wait(lambda: client.connection.closed is not None, "it is not closed")
        self.assertEqual(client.connection.close_code, NO_ERROR, client.connection.closed)

    def open_as(self, client: UdpClient, target: Target, secret: str) -> Tunnel:
        tunnel = self.open(client, target, bearer(secret))
        self.check_tunnel(tunnel, target)
        return tunnel

    def test_a_user_is_removed(self):
        """Tunnels and connections end at once, and the access log says why; those of others do not."""
        world, (alice, bob) = self.with_users("alice", "bob")
        with (world, Target() as target, UdpClient(world.addr) as hers, UdpClient(world.addr) as again,
              UdpClient(world.addr) as his):
            self.open_as(hers, target, alice)
            self.open_as(again, target, alice)
            kept = self.open_as(his, target, bob)
            self.remove(world, "alice")
            self.reload(world)
            self.assertIn("2 connections are closed", world.log())
            self.check_closed(hers)
            self.check_closed(again)
            records = world.records(2)
            self.assertEqual([(record["event"], record["user"], record["end"]) for record in records],
                             2 * [("tunnel", "alice", GONE)])
            for record in records:
                self.assertEqual(record["to_target"]["tunnelled"]["packets"], 1)
            self.check_tunnel(kept, target)
            with UdpClient(world.addr) as new:
                new.check_settings()
                self.assertEqual(new.connect(*target.addr, [bearer(alice)]).status(), 407)

    def test_another_secret(self):
        """Who has the old one only is out; the same line in another place is no other one."""
        world, (alice, bob) = self.with_users("alice", "bob")
        with world, Target() as target, UdpClient(world.addr) as hers, UdpClient(world.addr) as his:
            self.open_as(hers, target, alice)
            kept = self.open_as(his, target, bob)
            self.remove(world, "alice")
            another = world.add_user("alice")
            self.reload(world)
            self.check_closed(hers)
            self.check_tunnel(kept, target)
            with UdpClient(world.addr) as new:
                new.check_settings()
                self.assertEqual(new.connect(*target.addr, [basic("alice", alice)]).status(), 407)
                self.assertEqual(new.connect(*target.addr, [basic("alice", another)]).status(), 200)

    def test_users_instead_of_everybody(self):
        world = self.operated()
        secret = world.add_user("alice")
        with world, Target() as target, UdpClient(world.addr) as client:
            self.check_tunnel(self.open(client, target), target)
            self.lines.append(f"users = '{world.users}'")
            self.reload(world)
            self.check_closed(client)
            record, = world.records(1)
            self.assertEqual((record["user"], record["end"]), (None, GONE))
            with UdpClient(world.addr) as new:
                self.open_as(new, target, secret)

    def test_a_policy_is_for_new_tunnels(self):
        """Also that of a user, and on a connection that is there."""
        world, _ = self.with_users()
        secret = world.add_user("alice", "staff")
        self.lines.append("[policy.staff]")
        world.write(*self.lines)
        with world, Target() as target, UdpClient(world.addr) as client:
            kept = self.open_as(client, target, secret)
            self.reload(world, f"deny = '{target.addr.host}'")
            self.assertEqual(client.connect(*target.addr, [bearer(secret)]).status(), 403)
            self.check_tunnel(kept, target)
            self.assertNotIn("are closed", world.log())

    def test_rates_are_for_all(self):
        """What was allowed at once is used up, and then nothing goes through any more; and without a rate all does."""
        addr, = net.free_addrs("127.0.0.1")
        world = self.operated()
        self.lines.insert(0, f"metrics = '{addr}'")
        world.write(*self.lines)

        def dropped() -> int:
            return metrics(get(addr, "/metrics")[1])['ngmasque_dropped_packets_total{reason="above the client\'s rate"}']

        with world, Target() as target, UdpClient(world.addr) as client:
            tunnel = self.open(client, target)
            self.check_tunnel(tunnel, target)
            self.assertEqual(dropped(), 0)
            self.reload(world, "rate-per-client = 1")
            self.assertNotIn("needs a new start", world.log())
            large = packet(LONG, b"target-id", bytes(1000))
            def came() -> list[bytes]:
                """What waits at the target, which has little room."""
                packets = []
                while select.select([target.sock], [], [], 0)[0]:
                    packets.append(target.sock.recv(65536))
                return packets

            def exceeds() -> bool:
                for _ in range(100):
                    tunnel.send(large)
                came()
                return dropped() > 0

            def goes_through() -> bool:
                tunnel.send(last)
                return last in came()

            client.wait(exceeds, "everything goes through")
            self.reload(world)
            last = packet(LONG, b"target-id", b"last")
            client.wait(goes_through, "nothing goes through any more")

    def test_what_needs_a_new_start(self):
        """A line for each."""
        world = self.operated()
        with world:
            self.reload(world, "max-sockets = 5", "timeout = '7s'", f"secret-file = '{world.directory}/secret'",
                        "drain-timeout = '5s'")
            lines = [line.split("warning: ", 1)[1] for line in world.log().splitlines() if "new start" in line]
            self.assertEqual(lines, [f"{name} has changed, which needs a new start"
                                     for name in ("timeout", "secret-file", "max-sockets")])

    def test_when_to_try_again(self):
        """429 says so: after wrong secrets what is left of the time, and of bounds a round number."""
        world, (secret,) = self.with_users("alice")
        self.lines.append("max-flows-per-client = 1")
        world.write(*self.lines)
        with world, Target() as target, UdpClient(world.addr) as client:
            self.open_as(client, target, secret)
            tunnel = client.connect(*target.addr, [bearer(secret)])
            self.assertEqual((tunnel.status(), dict(tunnel.fields).get("retry-after")), (429, "10"))
            for _ in range(10):
                tunnel = client.connect(*target.addr, [bearer("wrong")])
                self.assertEqual((tunnel.status(), dict(tunnel.fields).get("retry-after")), (407, None))
            tunnel = client.connect(*target.addr, [bearer(secret)])
            self.assertEqual(tunnel.status(), 429, "be it right or wrong")
            self.assertIn(int(dict(tunnel.fields)["retry-after"]), range(1, 7))


if __name__ == "__main__":
    tap.main(ReloadTest)
