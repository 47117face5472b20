"""What soak.py does to a proxy for an hour: the target moves, the proxy moves, the clients' NAT forgets them, in both
dialects, in forwarded mode, with other clients that come and go; and nothing grows."""

import json
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import stats
from net import Addr
from operated import metrics
from procs import Program, sanitized
from proxy_case import ProxyCase
from test_moves_hostile import MovesHostile
from transfer import TIMEOUT
from wire import Link, Wire

# By host; the proxy goes to targets from the first of its addresses.
CLIENT, PROXY, TARGET = ["10.9.0.1"], ["10.9.2.9", "10.9.2.1", "10.9.2.2", "10.9.2.3"], ["10.9.3.1", "10.9.3.2", "10.9.3.3"]
PORT = 4433
METRICS = Addr("127.0.0.1", 9100)
# Bytes per second of all downloads, and milliseconds of the way to the proxy
RATE, DELAY = 800_000, 3
SAMPLES = 24
# Samples from one rebinding of the NAT to the next
REBINDS = 4
# What an allocator may hold on to without anything being wrong
SLACK = 256 << 10
SLACK_SANITIZED = 4 << 20
# Others that are there in one sample and not in another: of a client that comes and goes, and of a tunnel
DESCRIPTORS, CONNECTION_IDS = 6, 40
WINDOW = ("--max-data=64K", "--max-stream-data-bidi-local=64K", "--max-window=0", "--max-stream-window=0")
DIALECTS = "draft-00", "rfc9298"
READ = f"import urllib.request as r; print(r.urlopen('http://{METRICS}/metrics', timeout={TIMEOUT}).read().decode())"


def resident(pid: int) -> int:
    """Memory in bytes, without files that are mapped."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon:"))


class SoakProxy(ProxyCase):
    SIZES = (64 << 10, 64 << 10)
    seconds, every = 3600.0, 5.0

    def start_all(self, wire: Wire) -> None:
        examples, key_and_cert = self.build / "examples", self.site.certificate
        target, *others = (Addr(address, PORT) for address in TARGET)
        self.target = self.enterContext(Program(
            [*wire.inside("tgt"), examples / "gtlsserver", "--quiet", f"--htdocs={self.site.htdocs}",
             f"--stats={self.work}/target.json", *(f"--alternate-addr={addr}" for addr in others),
             f"--migrate-every={int(self.every * 700)}ms", target.host, str(PORT), *key_and_cert],
            self.work / "target.log", "target"))
        self.target.wait_bound([target, *others])
        listen, *alternates = (Addr(address, PORT) for address in PROXY[1:])
        self.proxy = self.enterContext(Program(
            [*wire.inside("srv"), examples / "ngmasque-proxy" / "ngmasque-proxy", f"--listen={listen}",
             f"--key={key_and_cert[0]}", f"--cert={key_and_cert[1]}", "--open", "--allow=10.0.0.0/8", f"--metrics={METRICS}",
             *(f"--alternate-addr={addr}" for addr in alternates), f"--migrate-every={int(self.every * 1000)}ms"],
            self.work / "proxy.log", "proxy"))
        self.proxy.wait_bound([listen, *alternates])

    def client(self, wire: Wire, dialect: str, name: str, file: str, *options: str) -> Program:
        return self.enterContext(Program(
            [*wire.inside("cli"), self.build / "examples" / "gtlsclient", "--quiet", "--no-quic-dump", "--no-http-dump",
             "--enable-server-migration", *WINDOW, f"--proxy=https://{PROXY[1]}:{PORT}", "--proxy-mode=forward",
             f"--proxy-dialect={dialect}", f"--stats={self.work}/{name}.json", *options, TARGET[0], str(PORT),
             f"https://localhost:{PORT}/{file}"], self.work / f"{name}.log", name))

    def metrics(self, wire: Wire) -> dict[str, int]:
        done = subprocess.run([*wire.inside("srv"), sys.executable, "-c", READ], capture_output=True, text=True,
                              timeout=TIMEOUT, check=True)
        return metrics(done.stdout.strip())

    def sample(self, wire: Wire, programs: dict[str, Program]) -> dict[str, int]:
        taken = {}
        for name, program in programs.items():
            self.assertIsNone(program.status, program.epitaph() if program.status is not None else "")
            taken[f"{name}: memory"] = resident(program.pid)
            taken[f"{name}: descriptors"] = len(os.listdir(f"/proc/{program.pid}/fd"))
        now = self.metrics(wire)
        for name in ("tunnels", "target_sockets", "connection_ids", "waiting_bytes"):
            taken[f"proxy: {name}"] = now[f"ngmasque_{name}"]
        return taken

    def check_flat(self, samples: list[dict[str, int]]) -> None:
        """In the last quarter as in the second."""
        quarter = len(samples) // 4
        memory = SLACK_SANITIZED if sanitized(self.build) else SLACK
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
        way = Link(delay=DELAY), Link(delay=DELAY, rate=RATE, shared="proxy")
        up, down = Link(delay=DELAY, shared="proxy"), way[1]
        wire = self.enterContext(Wire({"cli": CLIENT, "srv": PROXY, "tgt": TARGET},
                                      {address: (up, down) for address in PROXY[1:]}))
        self.start_all(wire)
        staying = {dialect: self.client(wire, dialect, dialect, self.endless.file.name) for dialect in DIALECTS}
        programs = {"proxy": self.proxy, "target": self.target, **staying}
        samples: list[dict[str, int]] = []
        began = time.monotonic()
        while len(samples) < SAMPLES:
            visitor = self.client(wire, DIALECTS[len(samples) % 2], "visitor", self.site.file.name,
                                  "--exit-on-all-streams-close")
            self.assertEqual(visitor.wait(TIMEOUT), 0, visitor.log.read_text(errors="replace")[-2000:])
            time.sleep(max(0.0, began + (len(samples) + 1) * self.seconds / SAMPLES - time.monotonic()))
            samples.append(self.sample(wire, programs))
            if len(samples) % REBINDS == 0:
                wire.rebind()
        connections = self.metrics(wire)["ngmasque_handshakes_total"]
        # The clients do not have all that they asked for.
        for program, status in ((*((client, 1) for client in staying.values()), (self.target, 0), (self.proxy, 0))):
            program.send_signal(signal.SIGINT)
            self.assertEqual(program.wait(TIMEOUT), status, program.log.read_text(errors="replace")[-2000:])
        for dialect in DIALECTS:
            counted = stats.load_proxy(self.work / f"{dialect}.json", "client")
            proxy = counted["proxy"]
            print(f"# {dialect}: {counted['app_bytes_received']:,} bytes; the target has moved "
                  f"{counted['server_migrations']} times, the proxy {proxy['server_migrations']} times; forwarded "
                  f"{stats.forwarded_share(counted, 'rx'):.1%}; {json.dumps(proxy['dropped'])}", flush=True)
            self.assertGreaterEqual(min(counted["server_migrations"], proxy["server_migrations"]),
                                    self.seconds / self.every / 4)
            # The longer the proxy stays anywhere, the more it is.
            self.assertGreater(stats.forwarded_share(counted, "rx"), 0.5 if self.every >= 1 else 0.05)
            self.assertGreater(counted["app_bytes_received"], self.seconds * RATE / 16)
        print(f"# {SAMPLES} visitors, {SAMPLES // REBINDS} rebindings", flush=True)
        self.assertEqual(connections, len(DIALECTS) + SAMPLES)
        self.check_flat(samples)


class SoakAnnouncements(MovesHostile):
    """For a minute."""

    announcements = 60_000
