#!/usr/bin/env python3
"""Programs of others through ngmasque-client and ngmasque-proxy: DNS, and UDP of the size of a VPN's.

    tests/e2e/test_ngmasque_others.py --build DIR [--filter TEXT]

dig asks dnsmasq; iperf3 measures, whose control connection is TCP and goes beside the tunnel.
"""

import json
import shutil
import subprocess

import net
import tap
from net import Addr
from ngmasque_client_case import PATIENCE, ClientCase
from operated import Operated
from procs import Program

# Of a WireGuard interface with an MTU of 1370 bytes, and the packets around them; by default those are for a path of 1400 bytes
VPN_PACKET = 1370 + 32
OUTER = 1452
PACKETS = 2000


class OthersTest(ClientCase):
    def need(self, *programs: str) -> None:
        if missing := [name for name in programs if not shutil.which(name)]:
            self.skipTest(f"{', '.join(missing)} missing (ci/packages: peers)")

    def through(self, target: Addr, listen: Addr):
        """ngmasque-client on `listen`, through ngmasque-proxy to the target; both."""
        directory = self.fresh("proxy")
        world = Operated(self.build, directory, f"users = '{directory}/users'", f"access-log = '{directory}/access.json'",
                         "allow = '127.0.0.0/8'", f"ports = '{target.port}'", f"max-udp-payload-size = {OUTER}")
        secret = world.add_user("alice")
        self.stack.enter_context(world)
        client = self.start(world.addr, f"--listen={listen}", f"--proxy-cacert={world.cert}", "--proxy-sni=localhost",
                            f"--proxy-user=alice:{secret}", f"--max-udp-payload-size={OUTER}", str(target), trust=False)
        client.wait_bound([listen])
        return client, world

    def background(self, *argv: str) -> Program:
        return self.stack.enter_context(Program(list(argv), self.fresh(f"{argv[0]}.log")))

    def tell(self, *argv: str) -> str:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def test_dns(self):
        self.need("dig", "dnsmasq")
        server, local = net.free_addrs("127.0.0.2", "127.0.0.1")
        self.background("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
                        "--bind-interfaces", "--pid-file=", f"--listen-address={server.host}", f"--port={server.port}",
                        "--address=/www.test/192.0.2.7", f"--txt-record=long.test,{','.join(['x' * 200] * 5)}").wait_bound([server])
        client, world = self.through(server, local)
        dig = ("dig", f"@{local.host}", "-p", str(local.port), "+notcp", "+ignore", "+tries=20", "+time=1")
        for _ in range(20):  # from a port of its own each
            self.assertEqual(self.tell(*dig, "+short", "www.test"), "192.0.2.7\n")
        self.assertEqual(self.tell(*dig, "+short", "+bufsize=1232", "long.test", "TXT").count("x"), 1000)
        self.assertIn("status: REFUSED", self.tell(*dig, "www.example"))
        ours = client.finish()["targets"][str(server)]
        # Nothing of it is QUIC.
        self.assertEqual((ours["tunnels"], ours["plain"]), (22, 22))
        records = world.records(22)
        self.assertEqual({(record["user"], record["target"]) for record in records}, {("alice", str(server))})

    def test_vpn_packets(self):
        self.need("iperf3", "socat")
        server, = net.free_addrs("127.0.0.2")
        local = Addr("127.0.0.1", server.port)
        self.background("iperf3", "--server", "--one-off", "--forceflush", "--bind", server.host, "--port", str(server.port)).wait_output("listening")
        # Where iperf3 sends its packets it wants to have its control connection, too.
        self.background("socat", "-dd", f"TCP4-LISTEN:{local.port},bind={local.host},fork,reuseaddr",
                        f"TCP4:{server}").wait_output("listening on")
        client, world = self.through(server, local)
        result = json.loads(self.tell("iperf3", "--client", local.host, "--port", str(local.port), "--udp", "--json",
                                      "--length", str(VPN_PACKET), "--bitrate", "20M", "--bytes", str(VPN_PACKET * PACKETS)))
        counted = result["end"]["sum"]
        self.assertGreaterEqual(counted["packets"], PACKETS)
        self.assertLess(counted["lost_percent"], 5, counted)
        ours = client.finish()["targets"][str(server)]
        self.assertGreaterEqual(ours["tunnelled_tx"]["packets"], 0.95 * PACKETS, (ours, counted))
        record, = world.records(1)
        self.assertGreaterEqual(record["to_target"]["tunnelled"]["bytes"], 0.95 * PACKETS * VPN_PACKET)


if __name__ == "__main__":
    tap.main(OthersTest)
