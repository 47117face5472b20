#!/usr/bin/env python3
"""A crowd at ngmasque-proxy: 200 clients that come and go, half of them hostile, while one that does nothing wrong
downloads.

    tests/e2e/crowd.py --build DIR [--seconds N] [--clients N]

For a quarter of --seconds (by default ten minutes) all others are idle; then they come and go, twice, until all are gone.  The
download, by gtlsclient through ngmasque-client, must keep 0.8 of its goodput, and the proxy must have no more memory and
descriptors after the second time than after the first.  The download is slowed down to what leaves the processors of a small
machine to the crowd.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import net
from net import Addr
from ngmasque_client_case import PATIENCE
from operated import Operated, basic, get, metrics
from procs import Program, ProgramError, die_with_parent
from quic_packets import QuicError
from relay import Impairment, Relay
from soak import resident
from udp_client import UdpClient

LEAST = 0.8  # Of the goodput
RATE = 2_000_000  # In bytes per second
WORKERS = 10
# Nobody answers there
TARGET = "127.0.0.3", 4433
# Descriptors that come and go by themselves: a look-up, the metrics
SPARE = 4
# Of what an allocator holds on to
GROWTH = 0.1


def bad_secret(client: UdpClient, _) -> None:
    for _ in range(20):
        client.connect(*TARGET, [basic("guest", "0" * 32)]).status()


def denied_targets(client: UdpClient, user) -> None:
    for host in ("10.0.0.1", "169.254.169.254", "192.0.2.1", "::1", "0.0.0.0"):
        client.connect(host, 443, [user]).status()


def broken_capsules(client: UdpClient, user) -> None:
    for data in (b"\x00\xc0", b"\xff" * 64, b"\x80\xff\xe8\x00\x01\x00", random.randbytes(200)):
        tunnel = client.connect(*TARGET, [user])
        if tunnel.status() == 200:
            tunnel.send_bytes(data)


def stray_datagrams(client: UdpClient, user) -> None:
    client.connect(*TARGET, [user]).status()
    for _ in range(200):
        client.send_datagram(random.choice((b"\x3f\x00", b"\x00\x05", b"\x00\x00")) + random.randbytes(1000))


def many_tunnels(client: UdpClient, user) -> None:
    for _ in range(60):
        client.connect(*TARGET, [user])


def broken_requests(client: UdpClient, _) -> None:
    for _ in range(20):
        client.ask_bytes(b"\x01\x04" + random.randbytes(4), fin=random.random() < 0.5)


def a_while(client: UdpClient, user) -> None:
    """What is no attack: a tunnel that is used."""
    tunnel = client.connect(*TARGET, [user])
    tunnel.status()
    for _ in range(20):
        tunnel.send(random.randbytes(500))


HOSTILE = bad_secret, denied_targets, broken_capsules, stray_datagrams, many_tunnels, broken_requests


def come_and_go(number: int, proxy: Addr, secrets: dict[str, str], clients: int, told: multiprocessing.Queue, ending) -> None:
    """Of one process: `clients` at a time, every other one hostile, until `ending` is set."""
    die_with_parent()
    random.seed(number)
    done: Counter[str] = Counter()
    here: list[tuple[contextlib.ExitStack, UdpClient]] = []
    turn = number
    while not ending.is_set():
        turn += 1
        act, name = (a_while, "guest") if turn % 2 else (random.choice(HOSTILE), "mallory")
        # Each kind has its addresses: what is counted for one is not the other's.
        source = f"127.0.{1 + turn % 2}.{1 + number}"
        stack = contextlib.ExitStack()
        try:
            client = stack.enter_context(UdpClient(proxy, source))
            act(client, basic(name, secrets[name]))
            done[act.__name__] += 1
        except (QuicError, OSError):
            done[f"{act.__name__}, ended by the proxy"] += 1
            with contextlib.suppress(QuicError, OSError):
                stack.close()
            continue
        here.append((stack, client))
        if len(here) >= clients:
            leave(*here.pop(random.randrange(len(here))))
    for one in here:
        leave(*one)
    told.put(done)


def leave(stack: contextlib.ExitStack, client: UdpClient) -> None:
    """Some say that they go, and others are just gone."""
    if random.random() < 0.5:
        client.sock.close()
    with contextlib.suppress(QuicError, OSError):
        stack.close()


def stay(number: int, proxy: Addr, secrets: dict[str, str], clients: int, told: multiprocessing.Queue, ending) -> None:
    """Of one process: `clients` that are there, and no more."""
    die_with_parent()
    with contextlib.ExitStack() as stack:
        tunnels = [stack.enter_context(UdpClient(proxy, f"127.0.1.{1 + number}")).connect(*TARGET, [basic("guest", secrets["guest"])])
                   for _ in range(clients)]
        told.put(Counter(idle=sum(tunnel.status() == 200 for tunnel in tunnels)))
        while not ending.wait(5):
            for tunnel in tunnels:
                tunnel.send(b"still here")


class Crowd:
    def __init__(self, build: Path, work: Path, seconds: float, clients: int):
        self.build, self.work, self.seconds, self.clients = build, work, seconds, clients
        self.stack = contextlib.ExitStack()

    def start(self) -> None:
        directory = self.work / "proxy"
        self.metrics, = net.free_addrs("127.0.0.1")
        self.world = Operated(self.build, directory, f"users = '{directory}/users'", "allow = '127.0.0.0/8'",
                              "log-level = 'warning'", "timeout = '30s'", f"max-connections-per-client = {10 * self.clients}", f"metrics = '{self.metrics}'")
        self.secrets = {name: self.world.add_user(name) for name in ("alice", "guest", "mallory")}
        self.world.start()
        self.stack.enter_context(self.world.program)
        self.world.program.wait_bound([self.world.addr])
        target, slow, local = net.free_addrs("127.0.0.2", "127.0.0.2", "127.0.0.1")
        with (self.work / "file").open("wb") as file:
            file.truncate(1 << 40)  # takes no space
        examples = self.build / "examples"
        self.program("gtlsserver", "--quiet", f"--htdocs={self.work}", target.host, str(target.port), self.world.key,
                     self.world.cert).wait_bound([target])
        self.stack.enter_context(Relay(slow, target, down=Impairment(delay=5, rate=RATE, queue=256 << 10)))
        self.stats = self.work / "stats.json"
        self.through = self.program("ngmasque-client/ngmasque-client", f"--proxy=https://{self.world.addr}", f"--proxy-cacert={self.world.cert}",
                                    "--proxy-sni=localhost", f"--proxy-user=alice:{self.secrets['alice']}",
                                    f"--stats={self.stats}", f"--listen={local}", str(slow))
        self.through.wait_bound([local])
        self.download = self.program("gtlsclient", "--quiet", local.host, str(local.port), "https://localhost/file")

    def program(self, name: str, *options) -> Program:
        return self.stack.enter_context(Program([self.build / "examples" / name, *options], self.work / f"{Path(name).name}.log"))

    def received(self) -> int:
        """Bytes of packets to the client so far."""
        self.stats.unlink(missing_ok=True)
        self.through.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                total = json.loads(self.stats.read_text())["total"]
                return total["forwarded_rx"]["bytes"] + total["tunnelled_rx"]["bytes"]
            time.sleep(0.01)
        raise ProgramError("ngmasque-client writes no statistics")

    def goodput(self, seconds: float) -> float:
        before, begun = self.received(), time.monotonic()
        time.sleep(seconds)
        if self.download.status is not None:
            raise ProgramError(self.download.epitaph())
        return (self.received() - before) / (time.monotonic() - begun)

    def used(self) -> tuple[int, int]:
        """Memory and descriptors of the proxy."""
        pid = self.world.program.pid
        return resident(pid), len(os.listdir(f"/proc/{pid}/fd"))

    def wait_alone(self) -> None:
        """Until the proxy has forgotten all but the download."""
        deadline = time.monotonic() + PATIENCE
        while (there := metrics(get(self.metrics, "/metrics")[1])["ngmasque_connections"]) > 1:
            if time.monotonic() > deadline:
                raise ProgramError(f"the proxy still has {there} connections")
            time.sleep(0.5)

    @contextlib.contextmanager
    def others(self, what):
        """Processes that do `what`, for as long as the with block; what they tell."""
        told, ending = multiprocessing.Queue(), multiprocessing.Event()
        workers = [multiprocessing.Process(target=what, args=(number, self.world.addr, self.secrets, self.clients // WORKERS, told, ending))
                   for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        try:
            yield told
        finally:
            ending.set()
            for worker in workers:
                worker.join()

    def run(self) -> bool:
        with self.stack:
            self.start()
            while self.received() < RATE:
                time.sleep(0.1)
            with self.others(stay) as told:
                idle = sum((told.get(timeout=PATIENCE) for _ in range(WORKERS)), Counter())["idle"]
                quiet = self.goodput(self.seconds / 4)
            busy, after, done = [], [], Counter()
            for _ in range(2):
                with self.others(come_and_go) as told:
                    busy.append(self.goodput(self.seconds * 3 / 8))
                done += sum((told.get(timeout=PATIENCE) for _ in range(WORKERS)), Counter())
                self.wait_alone()
                after.append(self.used())
        share = min(busy) / quiet
        (memory, descriptors), (more, further) = after
        print(f"goodput in bytes per second: {quiet:,.0f} beside {idle} idle clients, {busy[0]:,.0f} and {busy[1]:,.0f} beside the crowd: "
              f"{share:.2f}")
        print("the crowd: " + ", ".join(f"{count} {name}" for name, count in sorted(done.items())))
        print(f"the proxy when it had gone: {memory >> 10} KiB and {descriptors} descriptors, and the second time {more >> 10} KiB and {further}")
        return share >= LEAST and more <= memory * (1 + GROWTH) and further <= descriptors + SPARE


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip(), allow_abbrev=False)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ngmasque-crowd-") as work:
        try:
            ok = Crowd(args.build.resolve(), Path(work), args.seconds, args.clients).run()
        except ProgramError as err:
            print(f"crowd: {err}", file=sys.stderr)
            return 1
    print("ok" if ok else "NOT ok")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
