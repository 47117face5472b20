"""What soak.py does to two proxies for an hour: the target moves, the proxies move, the clients' NAT forgets them,
in both dialects, in forwarded mode, through one proxy and through both, with downloads and uploads that stay, and
other clients that come and go; and nothing grows."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple
from unittest import mock

import stats
from net import Addr
from operated import metrics
from procs import Program, sanitized
from proxy_case import ProxyCase
from test_moves_hostile import MovesHostile
from transfer import TIMEOUT
from wire import Link, Wire

# By host; a proxy goes to others from the first of its addresses.
CLIENT, TARGET = ["10.9.0.1"], ["10.9.3.1", "10.9.3.2", "10.9.3.3"]
PROXY = ["10.9.2.9", "10.9.2.1", "10.9.2.2", "10.9.2.3"]
# The one that some reach it through
FIRST = ["10.9.4.9", "10.9.4.1", "10.9.4.2"]
PORT = 4433
METRICS = Addr("127.0.0.1", 9100)
# Bytes per second of all downloads and of all uploads, and milliseconds of the way to a proxy
RATE, UPLOAD_RATE, DELAY = 800_000, 200_000, 3
SAMPLES = 24
# Samples from one rebinding of the NAT to the next
REBINDS = 4
# What an allocator may hold on to without anything being wrong
SLACK = 256 << 10
SLACK_SANITIZED = 4 << 20
# ... and in what is no more than the beginning, while its pools still fill
SLACK_SHORT = 1 << 20
# Others that are there in one sample and not in another: of a client that comes and goes, and of a tunnel
DESCRIPTORS, CONNECTION_IDS = 6, 40
WINDOW = "--max-data=32K", "--max-stream-data-bidi-local=32K", "--max-window=0", "--max-stream-window=0"
# What is asked for by way of the same queue must not wait long.
UPLOAD_WINDOW = "--max-data=8K", "--max-stream-data-bidi-remote=8K", "--max-window=0", "--max-stream-window=0"
# How clients reach the target
WAYS = {"draft-00": ("--proxy-dialect=draft-00",), "rfc9298": ("--proxy-dialect=rfc9298",),
        "two hops": ("--proxy-dialect=rfc9298", f"--proxy-via=https://{FIRST[1]}:{PORT}", "--proxy-via-mode=forward",
                     "--proxy-via-dialect=rfc9298")}
UPLOADS = "upload by draft-00", "upload by rfc9298"
READ = f"import urllib.request as r; print(r.urlopen('http://{METRICS}/metrics', timeout={TIMEOUT}).read().decode())"


def resident(pid: int) -> int:
    """Memory in bytes, without files that are mapped."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon:"))


class Proxy(NamedTuple):
    host: str
    addresses: list[str]


PROXIES = {"proxy": Proxy("srv", PROXY), "first proxy": Proxy("one", FIRST)}


class SoakProxy(ProxyCase):
    SIZES = (64 << 10, 64 << 10)
    seconds, every = 3600.0, 5.0

    def start_target(self, wire: Wire) -> Program:
        target, *others = (Addr(address, PORT) for address in TARGET)
        program = self.enterContext(Program(
            [*wire.inside("tgt"), self.build / "examples" / "gtlsserver", "--quiet", f"--htdocs={self.site.htdocs}",
             *UPLOAD_WINDOW, *(f"--alternate-addr={addr}" for addr in others),
             f"--migrate-every={int(self.every * 700)}ms", target.host, str(PORT), *self.site.certificate],
            self.work / "target.log", "target"))
        program.wait_bound([target, *others])
        return program

    def start_proxy(self, wire: Wire, name: str, every: float) -> Program:
        key, cert = self.site.certificate
        listen, *alternates = (Addr(address, PORT) for address in PROXIES[name].addresses[1:])
        program = self.enterContext(Program(
            [*wire.inside(PROXIES[name].host), self.build / "examples" / "ngmasque-proxy" / "ngmasque-proxy",
             f"--listen={listen}", f"--key={key}", f"--cert={cert}", "--open", "--allow=10.0.0.0/8", f"--metrics={METRICS}",
             *(f"--alternate-addr={addr}" for addr in alternates), f"--migrate-every={int(every * 1000)}ms"],
            self.work / f"{name}.log", name))
        program.wait_bound([listen, *alternates])
        return program

    def client(self, wire: Wire, name: str, way: str, file: str, *options: str) -> Program:
        return self.enterContext(Program(
            [*wire.inside("cli"), self.build / "examples" / "gtlsclient", "--quiet", "--no-quic-dump", "--no-http-dump",
             "--enable-server-migration", *WINDOW, f"--proxy=https://{PROXY[1]}:{PORT}", "--proxy-mode=forward",
             *WAYS[way], f"--stats={self.work}/{name}.json", *options, TARGET[0], str(PORT),
             f"https://localhost:{PORT}/{file}"], self.work / f"{name}.log", name))

    def start_staying(self, wire: Wire) -> dict[str, Program]:
        staying = {way: self.client(wire, way, way, self.endless.file.name) for way in WAYS}
        for name in UPLOADS:
            staying[name] = self.client(wire, name, name.split()[-1], self.site.file.name,
                                        f"--data={self.endless.file}", "--http-method=PUT")
        return staying

    def metrics(self, wire: Wire, name: str) -> dict[str, int]:
        done = subprocess.run([*wire.inside(PROXIES[name].host), sys.executable, "-c", READ], capture_output=True,
                              text=True, timeout=TIMEOUT, check=True)
        return metrics(done.stdout.strip())

    def sample(self, wire: Wire, programs: dict[str, Program]) -> dict[str, int]:
        taken = {}
        for name, program in programs.items():
            self.assertIsNone(program.status, program.epitaph() if program.status is not None else "")
            taken[f"{name}: memory"] = resident(program.pid)
            taken[f"{name}: descriptors"] = len(os.listdir(f"/proc/{program.pid}/fd"))
        for proxy in PROXIES:
            now = self.metrics(wire, proxy)
            for name in ("tunnels", "target_sockets", "connection_ids", "waiting_bytes"):
                taken[f"{proxy}: {name}"] = now[f"ngmasque_{name}"]
        return taken

    def check_flat(self, samples: list[dict[str, int]]) -> None:
        """In the last quarter as in the second."""
        quarter = len(samples) // 4
        memory = SLACK_SANITIZED if sanitized(self.build) else SLACK if self.seconds >= 60 else SLACK_SHORT
        for name in samples[0]:
            values = [sample[name] for sample in samples]
            print(f"# {name}: {values[0]:,} at the beginning, {values[len(values) // 2]:,} in the middle, "
                  f"{values[-1]:,} at the end, {max(values):,} at most", flush=True)
            what = name.split(": ")[1]
            slack = {"memory": memory, "waiting_bytes": memory, "connection_ids": CONNECTION_IDS}.get(what, DESCRIPTORS)
            self.assertLessEqual(max(values[-quarter:]), max(values[quarter:2 * quarter]) + slack, name)

    def test_everything_moves(self):
        # What a sanitizer keeps of memory that was given back looks like growth.
        options = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=1".lstrip(":")
        self.enterContext(mock.patch.dict(os.environ, ASAN_OPTIONS=options))
        ways = {address: (Link(delay=DELAY, rate=UPLOAD_RATE, shared=name), Link(delay=DELAY, rate=RATE, shared=name))
                for name, proxy in PROXIES.items() for address in proxy.addresses[1:]}
        wire = self.enterContext(Wire({"cli": CLIENT, "srv": PROXY, "tgt": TARGET, "one": FIRST}, ways))
        target = self.start_target(wire)
        proxies = {name: self.start_proxy(wire, name, self.every * factor) for name, factor in zip(PROXIES, (1, 1.3))}
        staying = self.start_staying(wire)
        samples: list[dict[str, int]] = []
        began = time.monotonic()
        while len(samples) < SAMPLES:
            visitor = self.client(wire, "visitor", list(WAYS)[len(samples) % len(WAYS)], self.site.file.name,
                                  "--exit-on-all-streams-close")
            self.assertEqual(visitor.wait(TIMEOUT), 0, visitor.log.read_text(errors="replace")[-2000:])
            time.sleep(max(0.0, began + (len(samples) + 1) * self.seconds / SAMPLES - time.monotonic()))
            samples.append(self.sample(wire, {**proxies, "target": target, **staying}))
            if len(samples) % REBINDS == 0:
                wire.rebind()
        connections = {name: self.metrics(wire, name)["ngmasque_handshakes_total"] for name in PROXIES}
        # The clients do not have all that they asked for.
        for program, status in (*((client, 1) for client in staying.values()), (target, 0),
                                *((proxy, 0) for proxy in proxies.values())):
            program.send_signal(signal.SIGINT)
            self.assertEqual(program.wait(TIMEOUT), status, program.log.read_text(errors="replace")[-2000:])
        for name in staying:
            self.check_moved(name, stats.load_proxy(self.work / f"{name}.json", "client"))
        print(f"# {SAMPLES} visitors, {SAMPLES // REBINDS} rebindings", flush=True)
        self.assertEqual(connections, {"proxy": len(staying) + SAMPLES, "first proxy": 1 + SAMPLES // len(WAYS)})
        self.check_flat(samples)

    def check_moved(self, name: str, counted: stats.Stats) -> None:
        """It has followed them all, most of it was forwarded wherever it went through, and it has got on."""
        upload = name in UPLOADS
        moves = [counted["server_migrations"], counted["proxy"]["server_migrations"]]
        shares = [stats.forwarded_share(counted, "tx" if upload else "rx")]
        if via := counted.get("via"):
            moves.append(via["server_migrations"])
            shares.append(stats.forwarded_share({"proxy": via}, "rx"))
        size = counted["app_bytes_sent" if upload else "app_bytes_received"]
        print(f"# {name}: {size:,} bytes; moves of the target, the proxy, the first proxy: {moves}; forwarded "
              f"{', '.join(f'{share:.1%}' for share in shares)}; longest gap {counted['longest_gap_ms']:,} ms; "
              f"{json.dumps(counted['proxy']['dropped'])}", flush=True)
        self.assertGreaterEqual(min(moves), self.seconds / self.every / 4, name)
        # The longer the proxies stay anywhere, the more it is: to register costs a round trip.  How long nothing comes
        # after a rebinding has nothing to do with it, and in short tests there are many.
        long = self.every >= 1
        self.assertGreater(min(shares), 0.5 if long else 0, name)
        self.assertGreater(size, self.seconds * (UPLOAD_RATE if upload else RATE) / (16 if long else 100), name)


class SoakAnnouncements(MovesHostile):
    """For a minute."""

    announcements = 60_000
