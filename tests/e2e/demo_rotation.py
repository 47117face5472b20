"""The scenarios of the demonstration in which the server rotates its addresses, in a network with a
round trip of 58 ms and 72 Mbit/s."""

import shutil
import unittest

from net import Addr
from scenario import Failed, Result, Stage, packets_by_address
from transfer import Site, Transfer
from wire import Link, Wire

SIZE = 32 << 20
CLIENT = "10.9.0.1"
RING = [Addr(f"10.9.1.{n}", 4433) for n in (1, 2, 3)]
PREFIX = "10.128.0.0/9"
EVERY = "10ms"
# All addresses share one link.
LINKS = Link(delay=29, shared="all"), Link(delay=29, rate=9_000_000, queue=1 << 20, shared="all")
# Of the 400 that are asked for, while the download starts and the queue fills
LEAST_KNOWN = 100
# A new address takes a round trip, with the queue 174 ms.
LEAST_FRESH = 8


def _download(stage: Stage, result: Result, ring: list[Addr], least: int, *prefixes: str) -> None:
    run = stage.out / result.name
    run.mkdir(exist_ok=True)
    hosts = [*(addr.host for addr in ring), *prefixes]
    options = (f"--migrate-every={EVERY}", "--alternate-addr-same-path", *(f"--alternate-prefix={p}" for p in prefixes))
    try:
        with (Wire({"cli": [CLIENT], "srv": hosts}, dict.fromkeys(hosts, LINKS)) as wire,
              Transfer(stage.build, Site(run / "site", SIZE, "rotation"), run, ring, options,
                       ("--quiet", "--enable-server-migration", "--exit-on-all-streams-close"), wire) as transfer):
            transfer.start()
            outcome = transfer.finish()
    except unittest.SkipTest as err:
        raise Failed(str(err)) from None
    finally:
        shutil.rmtree(run / "site", ignore_errors=True)
    if outcome.sha256_ok:  # what differs is kept
        shutil.rmtree(transfer.downloaded.parent)
    result.record(outcome)
    addresses = packets_by_address(outcome, ring)
    if not prefixes:  # those of a prefix are too many for a table
        result.addresses = addresses
    result.check_content(SIZE)
    moves = outcome.client["server_migrations"], outcome.server["server_migrations"]
    if min(moves) < least:
        raise Failed(f"the client counts {moves[0]} moves and the server {moves[1]}; {least} would be few")
    used = sum(packets["received"] > 0 for packets in addresses.values())
    if prefixes and used < least:
        raise Failed(f"packets came from {used} addresses only")


def rotation(stage: Stage, result: Result) -> None:
    _download(stage, result, RING, LEAST_KNOWN)


def rotation_prefix(stage: Stage, result: Result) -> None:
    _download(stage, result, RING[:1], LEAST_FRESH, PREFIX)


SCENARIOS = {"rotation": rotation, "rotation-prefix": rotation_prefix}
