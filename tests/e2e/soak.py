#!/usr/bin/env python3
"""What takes too long for every day: an hour of moves during which memory must not
grow, without a proxy and with one, whole minutes of floods, and herds of 200 clients.

    tests/e2e/soak.py --build DIR [--seconds N] [--every DURATION] [--filter TEXT]

--build build/asan looks for leaks as well.  The tests are `moves` and, with a proxy
(soak_proxy.py), `everything_moves`, each of which takes --seconds (by default an hour)
with a move --every so often (5s); `flood`, `herd` and `herd_with_delay` of
test_migration_hostile.py, and `draft_00_flood` and `rfc9298_flood` of
test_moves_hostile.py, which take some minutes.
"""

import argparse
import os
import re
import signal
import sys
import time
from unittest import mock

import stats
import tap
from net import Addr
from procs import Program, sanitized
from soak_proxy import SoakAnnouncements, SoakProxy, resident
from test_migration_hostile import HostileTest
from transfer import TIMEOUT
from wire import Link, Wire

RING = [Addr("10.9.1.1", 4433), Addr("10.9.1.2", 4434), Addr("fd09:1::1", 4435), Addr("10.9.1.3", 4436)]
# Bytes per second of the download, and milliseconds of the way
RATE, DELAY = 400_000, 5
SAMPLES = 40
# What an allocator may hold on to without anything being wrong
SLACK = 256 << 10
SLACK_SANITIZED = 2 << 20
# What comes by the shorter queue waits for what is in the longer one: as much as flow control allows, which
# must be less than what would be found.
SMALL_WINDOW = ("--max-data=64K", "--max-stream-data-bidi-local=64K", "--max-window=0", "--max-stream-window=0")
UNITS = {"ms": 0.001, "s": 1, "m": 60}


def seconds_of(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(\w+)", duration).groups()
    return int(number) * UNITS[unit]


class SoakTest(HostileTest):
    seconds, clients = 60, 200
    moving, every = 3600.0, "5s"

    def test_moves(self):
        """E22: the server moves all the time, and neither side needs more memory in the end."""
        htdocs = self.work / "endless"
        htdocs.mkdir()
        with (htdocs / "file").open("wb") as file:
            file.truncate(1 << 40)  # takes no space
        # What a sanitizer keeps of memory that was given back looks like growth
        options = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=1".lstrip(":")
        self.enterContext(mock.patch.dict(os.environ, ASAN_OPTIONS=options))
        slow = Link(delay=DELAY, rate=RATE)
        wire = self.enterContext(Wire(
            {"cli": ["10.9.0.1", "fd09::1"], "srv": [addr.host for addr in RING]},
            {addr.host: (Link(delay=DELAY), slow) for addr in RING}))
        examples = self.build / "examples"
        server = self.enterContext(Program(
            [*wire.inside("srv"), examples / "gtlsserver", "--quiet", f"--htdocs={htdocs}",
             f"--stats={self.work}/server.json", *(f"--alternate-addr={addr}" for addr in RING[1:]),
             f"--migrate-every={self.every}", RING[0].host, str(RING[0].port), *self.site.certificate],
            self.work / "server.log", "gtlsserver"))
        server.wait_bound(RING)
        client = self.enterContext(Program(
            [*wire.inside("cli"), examples / "gtlsclient", "--quiet", "--enable-server-migration", *SMALL_WINDOW,
             f"--stats={self.work}/client.json", RING[0].host, str(RING[0].port),
             f"https://localhost:{RING[0].port}/file"], self.work / "client.log", "gtlsclient"))
        samples: dict[str, list[int]] = {"client": [], "server": []}
        for _ in range(SAMPLES):
            time.sleep(self.moving / SAMPLES)
            for program, list_ in zip((client, server), samples.values()):
                self.assertIsNone(program.status, program.epitaph() if program.status is not None else "")
                list_.append(resident(program.pid))
        # The client does not have all that it asked for; a sanitizer would have another status.
        for program, status in ((client, 1), (server, 0)):
            program.send_signal(signal.SIGINT)
            self.assertEqual(program.wait(TIMEOUT), status, program.log.read_text(errors="replace")[-2000:])
        counted = stats.load(self.work / "client.json")
        for name, list_ in samples.items():
            print(f"# {name}: resident {', '.join(f'{n >> 10}' for n in list_[::SAMPLES // 10])} KiB", flush=True)
        moves = counted["server_migrations"]
        print(f"# {moves} moves, {counted['path_validations_failed']} failed, "
              f"{counted['app_bytes_received']:,} bytes", flush=True)
        self.assertGreaterEqual(moves, self.moving / seconds_of(self.every) / 4)
        slack = SLACK_SANITIZED if sanitized(self.build) else SLACK
        for name, list_ in samples.items():
            before, after = list_[SAMPLES // 4:SAMPLES // 2], list_[-SAMPLES // 4:]
            self.assertLessEqual(max(after), max(before) + slack, name)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=SoakTest.moving)
    parser.add_argument("--every", default=SoakTest.every, metavar="DURATION")
    args, rest = parser.parse_known_args()
    SoakTest.moving, SoakTest.every = args.seconds, args.every
    SoakProxy.seconds, SoakProxy.every = args.seconds, seconds_of(args.every)
    sys.argv[1:] = rest
    tap.main(SoakTest, SoakProxy, SoakAnnouncements)


if __name__ == "__main__":
    main()
