#!/usr/bin/env python3
"""What a proxy answers and does, packet by packet: wrong requests, conflicts and the
rules of forwarding.

    tests/e2e/test_proxy_rules.py --build DIR [--filter TEXT]

Most clients here are the one of proxy_client.py, and targets are UDP sockets.
"""

import errno
import ipaddress
import json
import socket
import subprocess
import time

import tap
from net import Addr
from proxy_case import PacketCase
from proxy_client import MESSAGE_ERROR, PATIENCE, ProxyClient, sf_bytes
from quic_packets import QuicError
from refusing import refusing
from udp_target import LONG, SHORT, SILENCE, Target, packet

ONE, TWO = b"client-one", b"client-two"


class RulesTest(PacketCase):
    # Wrong requests

    def test_bad_requests(self):
        """400 to each, and the flow of the same connection works on."""
        with self.proxy() as world, Target() as target:
            good = [(":method", "CONNECT-UDP"), (":authority", target.authority)]
            flow, cid = ("datagram-flow-id", "2"), ("client-connection-id", sf_bytes(b"valid-one"))
            server = ("server-connection-id", sf_bytes(b"valid-one"))
            bad = {
                "both IDs": [*good, flow, cid, server],
                "the ID twice": [*good, flow, cid, cid],
                "a list of IDs": [*good, flow, (cid[0], f"{cid[1]}, {cid[1]}")],
                "an ID as a string": [*good, flow, (cid[0], '"valid-one"')],
                "an ID as a token": [*good, flow, (cid[0], "valid")],
                "no base64": [*good, flow, (cid[0], ":****:")],
                "an ID that does not end": [*good, flow, (cid[0], ":MTIz")],
                "an ID of 256 bytes": [*good, flow, (cid[0], sf_bytes(bytes(256)))],
                "no flow": [*good, cid],
                "a negative flow": [*good, ("datagram-flow-id", "-2"), cid],
                "a flow of 16 digits": [*good, ("datagram-flow-id", "1000000000000000"), cid],
                "a decimal flow": [*good, ("datagram-flow-id", "2.0"), cid],
                "an odd flow": [*good, ("datagram-flow-id", "3"), cid],
                "two flows": [*good, flow, flow, cid],
                "a flow that is a list": [*good, ("datagram-flow-id", "2, 4"), cid],
                "a first request with the server's ID": [*good, flow, server],
                "the flow of another authority": [good[0], (":authority", "127.0.0.2:9"),
                                                  ("datagram-flow-id", "0"), cid],
                **{f"the authority {text!r}": [good[0], (":authority", text), flow, cid]
                   for text in ("127.0.0.2", "127.0.0.2:", "127.0.0.2:0", "127.0.0.2:65536", "127.0.0.2:+443",
                                "[::1")},
            }
            with ProxyClient(world.proxy_addr) as client:
                self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
                answers = {}
                for what, fields in bad.items():
                    stream = client.request_fields(fields)
                    try:
                        answers[what] = client.status(stream)
                    except QuicError as err:
                        answers[what] = str(err)
                    client.wait(lambda: client.ended(stream), f"the stream of the refused request stays open: {what}")
                    self.check_flow(client, target, 0, ONE)
                self.assertEqual({what: answer for what, answer in answers.items() if answer != 400}, {})
            self.assertGreater(self.stop(world)["refused"]["400"], 10)

    def test_malformed_http(self):
        """What is no HTTP message at all is nghttp3's affair: it ends that stream; more of it is in
        test_proxy_malformed.py."""
        with self.proxy() as world, Target() as target:
            with ProxyClient(world.proxy_addr) as client:
                self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
                request = [(":method", "CONNECT-UDP"), ("datagram-flow-id", "0"),
                           ("client-connection-id", sf_bytes(TWO))]
                for what, more in (("authority", [(":authority", f"{target.authority}/")]),
                                   ("userinfo", [(":authority", f"user@{target.authority}")]),
                                   ("no authority", []),
                                   ("scheme alone", [(":authority", target.authority), (":scheme", "https")]),
                                   ("two methods", [(":authority", target.authority), (":method", "CONNECT-UDP")])):
                    stream = client.request_fields([request[0], *more, *request[1:]])
                    with self.assertRaises(QuicError, msg=what):
                        client.status(stream)
                    self.assertEqual(client.connection.resets.get(stream), MESSAGE_ERROR, what)
                    self.check_flow(client, target, 0, ONE)
            self.stop(world)

    def test_conflicts(self):
        """409: equal, prefix either way and zero length, on a shared socket and on one 4-tuple."""
        with self.proxy() as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one, ProxyClient(world.proxy_addr) as two:
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                for number, cid in enumerate((ONE, ONE[:4], ONE + b"more", b"")):
                    self.assertEqual(two.ask(target.authority, 2 * number, client_cid=cid), 409, cid)
                self.assertEqual(two.ask(target.authority, 10, client_cid=TWO), 200)
                self.assertEqual(two.ask(target.authority, 10, server_cid=b"server-id"), 200)
                for cid in (b"server-id", b"server", b"server-id-2", b""):
                    self.assertEqual(two.ask(target.authority, 10, server_cid=cid), 409, cid)
                # Another 4-tuple is no conflict, but the proxy's own connection IDs are one.
                self.assertEqual(one.ask(target.authority, 0, server_cid=b"server-id"), 200)
                own = one.connection.peer_cids[one.connection.peer_cid]
                for cid in (own, own[:5], own + b"x"):
                    self.assertEqual(one.ask(target.authority, 0, server_cid=cid), 409, cid)
                self.check_flow(one, target, 0, ONE)
                self.check_flow(two, target, 10, TWO)
            self.assertEqual(self.stop(world)["refused"], {"409": 11})

    def test_return_to_earlier_path(self):
        """The client goes from one address to another and back, which QUIC does not validate again:
        what is mapped goes with it each time."""
        server_id = b"server-id-18-bytes"
        with self.proxy() as world, Target() as target, ProxyClient(world.proxy_addr) as client:
            self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
            self.assertEqual(client.ask(target.authority, 0, server_cid=server_id), 200)
            other = socket.socket(world.proxy_addr.family, socket.SOCK_DGRAM)
            other.setblocking(False)
            other.connect(world.proxy_addr)
            with other:
                for turn in range(4):
                    client.send(0, packet(LONG, server_id, b"%d" % turn))
                    target.receive(client)
                    up, down = packet(SHORT, server_id, b"up %d" % turn), packet(SHORT, ONE, b"down %d" % turn)
                    deadline = time.monotonic() + PATIENCE
                    client.forward(up)
                    while target.silent(client):
                        self.assertLess(time.monotonic(), deadline, f"turn {turn}: nothing is forwarded")
                        client.forward(up)
                    # Nothing goes to the new address before it is validated.
                    client.forwarded.clear()
                    client.wait(lambda: target.send(down) or down in client.forwarded,
                                f"turn {turn}: nothing comes back")
                    other = client.use(other)
                    while not target.silent(client):
                        target.receive(client)

    # Packets that the system refuses to send

    def test_refused_packets(self):
        """They are counted as dropped and not as sent, both ways, and a target cannot fill the log
        with them."""
        small = packet(SHORT, ONE, bytes(100))
        for error, reason in ((errno.EMSGSIZE, "packet is too large"), (errno.ENETUNREACH, "there is no way to it"),
                              (errno.ENOBUFS, "socket is blocked"), (errno.EPERM, "packet could not be sent")):
            with (refusing(self.build, self.work / f"refused-{error}", LARGE=1400, LARGE_ERROR=error),
                  self.proxy() as world, Target() as target):
                with ProxyClient(world.proxy_addr) as client:
                    self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
                    self.assertEqual(client.ask(target.authority, 0, server_cid=b"server-id"), 200)
                    self.check_flow(client, target, 0, ONE)
                    client.forward(packet(SHORT, b"server-id", b"up"))
                    target.receive(client)
                    for number in range(100):
                        text = bytes(1500) + bytes([number])  # no two are the same
                        target.send(packet(SHORT, ONE, text))
                        client.forward(packet(SHORT, b"server-id", text))
                        if number % 10 == 0:  # The proxy's sockets have room for them.
                            target.send(small)
                            client.wait(lambda: client.forwarded, "a small packet does not arrive")
                            self.assertEqual(client.forwarded.pop(), small)
                    target.send(small)
                    client.wait(lambda: client.forwarded, "the last packet does not arrive")
                    self.assertTrue(target.silent(client))
                proxy = self.stop(world)
                self.assertEqual(proxy["dropped"], {reason: 200})
                self.assertEqual(proxy["forwarded_tx"]["packets"], 11)
                said = [line for line in world.proxy.log.read_text().splitlines() if "sendmsg" in line or "drop" in line]
                self.assertTrue(said)
                self.assertLess(len(said), 20, said)

    # Wrong targets

    def test_own_addresses(self):
        """Whatever is allowed, and whoever listens there: neither the proxy's listener nor another
        address of this machine, apart from loopback ones."""
        shown = json.loads(subprocess.run(["ip", "-json", "address"], check=True, capture_output=True).stdout)
        own = [info["local"] for device in shown for info in device["addr_info"]]
        own = [host for host in own if not ipaddress.ip_address(host).is_loopback]
        if not own:
            self.skipTest("this machine has loopback addresses only")
        with self.proxy("--connect-udp-allow=0.0.0.0/0", "--connect-udp-allow=::/0") as world:
            refused = [world.proxy_addr, Addr("0.0.0.0", world.proxy_addr.port),
                       *(Addr(host, port) for host in own for port in (443, world.proxy_addr.port))]
            with ProxyClient(world.proxy_addr) as client:
                for flow, addr in enumerate(refused):
                    self.assertEqual(client.ask(str(addr), 2 * flow, client_cid=ONE), 403, addr)
            self.assertEqual(self.stop(world)["sockets"], 0)

    def test_ports(self):
        with self.proxy() as world, ProxyClient(world.proxy_addr) as client:
            for flow, (port, status) in enumerate({443: 200, 53: 403, 5353: 403, 11211: 403, 4433: 200}.items()):
                self.assertEqual(client.ask(f"127.0.0.3:{port}", 2 * flow, client_cid=ONE), status, port)
                self.assertEqual(client.ask(f"localhost:{port}", 2 * flow + 20, client_cid=TWO) == 403, status == 403)
        with self.proxy("--connect-udp-ports=53,5000-5999") as world, ProxyClient(world.proxy_addr) as client:
            for flow, (port, status) in enumerate({443: 403, 53: 200, 5353: 200, 4999: 403, 6000: 403}.items()):
                self.assertEqual(client.ask(f"127.0.0.3:{port}", 2 * flow, client_cid=ONE), status, port)

    # Forwarding

    def test_forwarding(self):
        """Short headers, with a connection ID that is mapped, from the client's own address: these
        are forwarded as they are, and nothing else."""
        with self.proxy() as world, Target() as target:
            with ProxyClient(world.proxy_addr) as client, ProxyClient(world.proxy_addr) as other:
                self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
                self.check_flow(client, target, 0, ONE)
                to_target, to_client = packet(SHORT, b"server-id", b"to target"), packet(SHORT, ONE, b"to client")

                # Before the proxy has agreed
                client.forward(to_target)
                self.assertTrue(target.silent(client))
                stream = client.request(target.authority, 0, server_cid=b"server-id")
                self.assertEqual(client.status(stream), 200)

                # Tunnelled until the client has forwarded something
                target.send(to_client)
                client.wait(lambda: client.tunnelled, "nothing comes by the tunnel")
                self.assertEqual((client.tunnelled.pop(), client.forwarded), ((0, to_client), []))
                client.forward(to_target)
                self.assertEqual(target.receive(client), to_target)
                target.send(to_client)
                client.wait(lambda: client.forwarded, "nothing is forwarded")
                self.assertEqual((client.forwarded.pop(), client.tunnelled), (to_client, []))

                # Long headers go by the tunnel alone.
                client.forward(packet(LONG, b"server-id", b"to target"))
                self.assertTrue(target.silent(client))
                target.send(packet(LONG, ONE, b"to client"))
                client.wait(lambda: client.tunnelled, "nothing comes by the tunnel")
                self.assertEqual((client.tunnelled.pop()[0], client.forwarded), (0, []))

                # Others' addresses, other connection IDs
                other.forward(to_target)
                client.forward(packet(SHORT, b"server-di", b"to target"))
                self.assertTrue(target.silent(client))
                target.send(packet(SHORT, b"client-two", b"to client"))
                client.work(SILENCE)
                self.assertEqual((client.forwarded, client.tunnelled), ([], []))

                # The mapping goes with its request.
                client.end(stream)
                client.work(SILENCE)
                client.forward(to_target)
                self.assertTrue(target.silent(client))
                self.check_flow(client, target, 0, ONE)
            proxy = self.stop(world)
            self.assertEqual((proxy["forwarded_rx"]["packets"], proxy["forwarded_tx"]["packets"]), (1, 1))
            self.assertEqual(proxy["forwarded_rx"]["bytes"], len(to_target))

    def test_forwarded_sizes(self):
        """Forwarded as it is, whatever its size: nothing is cut."""
        with self.proxy() as world, Target() as target:
            with ProxyClient(world.proxy_addr) as client:
                self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
                self.assertEqual(client.ask(target.authority, 0, server_cid=b"server-id"), 200)
                for size in (0, 1, 1200, 1452, 9000):
                    data = packet(SHORT, b"server-id", bytes(size))
                    client.forward(data)
                    self.assertEqual(target.receive(client), data)
                    back = packet(SHORT, ONE, bytes(size))
                    target.send(back)
                    client.wait(lambda: client.forwarded, f"{size} bytes are not forwarded")
                    self.assertEqual(client.forwarded.pop(), back)
            self.stop(world)

    def test_source_of_answers(self):
        """What comes to a server-facing socket from elsewhere than the target goes nowhere (P15)."""
        with self.proxy() as world, Target() as target, Target() as stranger:
            with ProxyClient(world.proxy_addr) as client:
                self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
                self.check_flow(client, target, 0, ONE)
                stranger.source = target.source
                stranger.send(packet(LONG, ONE, b"from a stranger"))
                client.work(SILENCE)
                self.assertEqual((client.tunnelled, client.forwarded), ([], []))
                self.check_flow(client, target, 0, ONE)
            self.stop(world)

    def test_connection_ends(self):
        """All of its mappings are gone, and its socket is closed."""
        with self.proxy() as world, Target() as target:
            with ProxyClient(world.proxy_addr) as one:
                self.assertEqual(one.ask(target.authority, 0, client_cid=ONE), 200)
                self.check_flow(one, target, 0, ONE)
            with ProxyClient(world.proxy_addr) as two:
                # The proxy may still be busy with the end of the other one.
                deadline, flow = time.monotonic() + PATIENCE, 0
                while (status := two.ask(target.authority, flow, client_cid=ONE)) == 409:
                    self.assertLess(time.monotonic(), deadline)
                    flow += 2
                self.assertEqual(status, 200)
                self.check_flow(two, target, flow, ONE)
            self.stop(world)


if __name__ == "__main__":
    tap.main(RulesTest)
