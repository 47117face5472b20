#!/usr/bin/env python3
"""Three proxies behind a balancer that knows nothing of QUIC (nginx, from Debian), and twenty clients.

Each proxy tells its clients an address of its own right after the handshake, so that the balancer
sees handshakes alone.  draft-pauly-masque-quic-proxy-00, section 7, says that proxies in forwarded
mode should not stand behind load balancers, as these would have to route the packets of targets.

    tests/e2e/test_fleet.py --build DIR [--filter TEXT]
"""

import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import net
import stats
import tap
from procs import Program, sanitized
from proxied import ALLOW, Client, Outcome, Proxied
from proxy_case import MIB, ProxyCase
from transfer import TIMEOUT

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
PROXIES = 3
CLIENTS = 20
# Where the balancer reaches a proxy, its own address, and another one for when it is drained
ENTRY, OWN, OTHER = range(3)


class Fleet(Proxied):
    """Proxied, with several proxies behind one address; `own` says whether they have addresses
    of their own."""

    def __init__(self, *args, own: bool = True, **how):
        super().__init__(*args, **how)
        self.addrs = [net.free_addrs(*[f"127.0.1.{number + 1}"] * 3) for number in range(PROXIES)]
        self.own = own
        self.proxies: list[Program] = []

    def start_proxy(self) -> None:
        key, cert = self.site.certificate
        for number, addrs in enumerate(self.addrs):
            moves = (*(f"--alternate-addr={addr}" for addr in addrs[OWN:]), "--migrate-after=1ms") if self.own else ()
            program = Program(
                [self._gtlsserver, "--quiet", "--connect-udp", f"--stats={self.stats_file(number)}",
                 f"--htdocs={self.site.htdocs}", *ALLOW, *moves, addrs[ENTRY].host, str(addrs[ENTRY].port), key, cert],
                self.run / f"proxy-{number}.log", f"proxy {number}")
            self._programs.append(program)
            self.proxies.append(program)
            program.wait_bound(addrs if self.own else addrs[:OWN])
        self.proxy = self.proxies[0]
        config = self.run / "nginx.conf"
        servers = "".join(f"server {addrs[ENTRY]}; " for addrs in self.addrs)
        config.write_text(f"""load_module {STREAM_MODULE};
daemon off; user root; worker_processes 1; pid {self.run}/nginx.pid;
events {{ worker_connections 1024; }}
stream {{
  upstream proxies {{ hash "$remote_addr:$remote_port"; {servers}}}
  server {{ listen {self.proxy_addr} udp; proxy_pass proxies; proxy_timeout 60s; }}
}}
""")
        balancer = Program(["nginx", "-e", "stderr", "-p", self.run, "-c", config], self.run / "nginx.log", "nginx")
        self._programs.append(balancer)
        # The worker has inherited the socket by then.
        balancer.wait_bound([self.proxy_addr])

    def stats_file(self, number: int) -> Path:
        return self.run / f"proxy-{number}-stats.json"

    def stop_proxies(self) -> list[stats.Stats]:
        for program in self.proxies:
            program.stop(TIMEOUT)
        return [stats.load_proxy(self.stats_file(number), "proxy") for number in range(PROXIES)]


class FleetTest(ProxyCase):
    SIZES = (4 * MIB, 2 * MIB)

    def setUp(self):
        if not shutil.which("nginx") or not STREAM_MODULE.exists():
            self.skipTest("Debian's nginx and libnginx-mod-stream are not installed")

    def fleet(self, **how) -> Fleet:
        run = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        run.mkdir()
        return Fleet(self.build, how.pop("site", self.site), run, **how)

    def check_all(self, clients: list[Client]) -> list[Outcome]:
        outcomes = [client.finish() for client in clients]
        for outcome in outcomes:
            self.check(outcome)
        return outcomes

    def received_at(self, proxies: list[stats.Stats], world: Fleet, which: int) -> int:
        """Packets from clients at those addresses."""
        return sum(stats.by_server_address(proxy, "local", "packets_received")[str(addrs[which])]
                   for proxy, addrs in zip(proxies, world.addrs))

    def test_twenty_clients(self):
        """The proxies share them, and they find their own one without the balancer."""
        for dialect in ("rfc9298", "draft-00"):
            with self.subTest(dialect), self.fleet(dialect=dialect) as world:
                count = CLIENTS if not sanitized(self.build) else CLIENTS // 2
                outcomes = self.check_all([world.start() for _ in range(count)])
                proxies = world.stop_proxies()
                self.assertEqual(sum(proxy["connections"] for proxy in proxies), count)
                # By a hash of their ports, so that one proxy may have none of a few; but no one has them all.
                self.assertLess(max(proxy["connections"] for proxy in proxies), count)
                for outcome in outcomes:
                    self.assertEqual(outcome.stats["proxy"]["server_migrations"], 1)
                    self.assertGreaterEqual(stats.forwarded_share(outcome.stats, "rx"), 0.3, outcome.stats)
                # The balancer has had handshakes, and what was on its way when they were over.
                self.assertGreater(self.received_at(proxies, world, OWN), self.received_at(proxies, world, ENTRY))
                for proxy, addrs in zip(proxies, world.addrs):
                    sent = stats.by_server_address(proxy, "local", "bytes_sent")
                    self.assertEqual(sent[str(addrs[ENTRY])] > 0, proxy["connections"] > 0)

    def test_drained(self):
        """A proxy sends its clients to another address of its machine, and nothing is lost."""
        with self.fleet(site=self.endless, dialect="rfc9298") as world, ExitStack() as left:
            clients = [world.start() for _ in range(4)]
            for client in clients:
                client.wait_received(2 * MIB)
            for program in world.proxies:
                program.send_signal(signal.SIGUSR1)
            now = [client.received() for client in clients]
            for client, size in zip(clients, now):
                client.wait_received(size + 2 * MIB)
                left.callback(client.kill)
            left.close()
            proxies = world.stop_proxies()
            self.assertEqual(sum(proxy["proxy"]["connections"] for proxy in proxies), 4)
            self.assertGreater(self.received_at(proxies, world, OTHER), 0)

    def test_stay_behind_balancer(self):
        """Without the extension all goes by way of the balancer, forwarded packets too as long as it
        knows the client's address and port, and works."""
        with self.fleet(own=False, dialect="rfc9298") as world:
            self.check_all([world.start(mode="tunnel"), world.start()])
            proxies = world.stop_proxies()
            self.assertEqual(self.received_at(proxies, world, OWN), 0)


if __name__ == "__main__":
    tap.main(FleetTest)
