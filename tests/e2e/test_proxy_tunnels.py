#!/usr/bin/env python3
"""Several tunnels of one client on one connection to the proxy, each to a target of its own.

    tests/e2e/test_proxy_tunnels.py --build DIR [--filter TEXT]

The client is many_tunnels.cc, and targets are UDP sockets that answer each packet.
"""

import re
import select

import tap
from procs import Program
from proxy_case import PacketCase
from udp_target import Target

ROUNDS, TUNNELS = 60, 10
# Whose connection ID a packet has, in the form of many_tunnels.cc
SERVER_ID = re.compile(rb"server-(\d\d)")
LINE = re.compile(r"(\d+) tunnelled_tx=(\d+) forwarded_tx=(\d+) tunnelled_rx=(\d+) forwarded_rx=(\d+) dropped=(\d+) (.*)")
# Of the whole client, in seconds
TIMEOUT = 120


class TunnelsTest(PacketCase):
    def run_client(self, world, targets: list[Target], authorities: list[str]) -> tuple[dict, list[int]]:
        """Answers until the client has ended; its lines by tunnel, and what came to each target."""
        program = Program([self.build / "tests" / "e2e" / "many-tunnels", world.proxy_addr.host,
                           str(world.proxy_addr.port), str(ROUNDS), *authorities], world.run / "client.log")
        came = [0] * len(targets)
        with program:
            while program.status is None:
                for sock in select.select([target.sock for target in targets], [], [], 0.1)[0]:
                    index = [target.sock for target in targets].index(sock)
                    data, source = sock.recvfrom(65536)
                    self.assertEqual(SERVER_ID.search(data)[1], b"%02d" % index, "a packet of another tunnel")
                    came[index] += 1
                    sock.sendto(SERVER_ID.sub(rb"client-\1", data, count=1), source)
            self.assertEqual(program.wait(TIMEOUT), 0, program.log.read_text())
        text = program.log.read_text()
        lines = {int(number): (*map(int, counts), how) for number, *counts, how in LINE.findall(text)}
        self.assertIn("unknown=0", text)
        return lines, came

    def check_lines(self, lines: dict, came: list[int]) -> None:
        """Each has had all its rounds, and its statistics are its own."""
        for index, count in enumerate(came):
            with self.subTest(tunnel=index):
                tunnelled_tx, forwarded_tx, tunnelled_rx, forwarded_rx, dropped, how = lines[index]
                self.assertEqual((how, count, dropped), ("done", ROUNDS, 0))
                self.assertEqual((tunnelled_tx + forwarded_tx, tunnelled_rx + forwarded_rx), (ROUNDS, ROUNDS))
                # Every third one has a long header.
                self.assertGreaterEqual(min(tunnelled_tx, tunnelled_rx), ROUNDS // 3)
                self.assertGreater(min(forwarded_tx, forwarded_rx), 0)

    def test_many(self):
        """Ten tunnels, both ways and in both modes; the proxy has counted as much as they have."""
        targets = [Target() for _ in range(TUNNELS)]
        with self.proxy() as world:
            lines, came = self.run_client(world, targets, [target.authority for target in targets])
            self.check_lines(lines, came)
            proxy = self.stop(world)
            for way, at_client in (("tunnelled_rx", 0), ("forwarded_rx", 1), ("tunnelled_tx", 2), ("forwarded_tx", 3)):
                self.assertEqual(proxy[way]["packets"], sum(line[at_client] for line in lines.values()), way)
            self.assertEqual((proxy["flows"], proxy["refused"]), (TUNNELS, {}))
        for target in targets:
            target.sock.close()

    def test_refused_among_others(self):
        """A target that is not allowed is refused, and the others know nothing of it."""
        with self.proxy() as world, Target() as one, Target() as two:
            lines, came = self.run_client(world, [one, two], [one.authority, two.authority, "127.0.0.2:53"])
            self.check_lines(lines, came)
            self.assertRegex(lines[2][-1], "the proxy has answered 403")
            self.assertEqual(self.stop(world)["refused"], {"403": 1})


if __name__ == "__main__":
    tap.main(TunnelsTest)
