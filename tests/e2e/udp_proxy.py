#!/usr/bin/env python3
"""The UDP proxy of udp_proxy_server.py, for tests of clients.

    tests/e2e/udp_proxy.py --listen HOST PORT --key FILE --cert FILE --stats FILE [OPTIONS]

SIGINT ends it, and --stats gets what happened: a JSON object with `connections`, `settings` (of the clients),
`requests` (lists of fields), `to_target` and `to_client` (payloads by the way that they came or went: `datagrams`,
`capsules`, `forwarded`), `cids` (of each capsule that came, in order: the draft's revision, and its name), and
`complaints`: what clients did that they must not.
"""

import argparse
import json
import signal
import socket
import sys
from pathlib import Path

from udp_proxy_server import Proxy


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--listen", nargs=2, required=True, metavar=("HOST", "PORT"))
    for name in ("key", "cert", "stats"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE")
    parser.add_argument("--status", type=int, default=200, help="of the answer to every request that is right")
    parser.add_argument("--retry-after", type=int, metavar="SECONDS", help="in every answer that is no 200")
    parser.add_argument("--no-datagrams", action="store_true", help="negotiates no QUIC datagrams")
    parser.add_argument("--no-extended-connect", action="store_true", help="does not say that it knows the method")
    parser.add_argument("--capsules", action="store_true", help="sends DATAGRAM capsules and no datagrams")
    parser.add_argument("--transforms", default="scramble-dt,identity", metavar="LIST",
                        help="what it can do to forwarded packets, the best first; with none it does not forward")
    parser.add_argument("--reject", default="", metavar="LIST", help="CLIENT, TARGET: whose connection IDs it rejects")
    parser.add_argument("--allowance", type=int, default=8, metavar="N", help="how many further ones it allows")
    parser.add_argument("--cid-length", type=int, default=0, metavar="N", help="least length of virtual ones")
    return parser.parse_args(arguments)


def main(kind: type[Proxy] = Proxy) -> None:
    # Not by an exception, which would be lost in a function that a library calls.
    told: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    wake, other = socket.socketpair()
    other.setblocking(False)
    signal.set_wakeup_fd(other.fileno())
    with kind(parse(sys.argv[1:])) as proxy:
        proxy.run(lambda: bool(told), wake=wake)
        proxy.options.stats.write_text(json.dumps(proxy.stats(), indent=2) + "\n")


if __name__ == "__main__":
    main()
