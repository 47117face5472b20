#!/usr/bin/env python3
"""An HTTP/3 server that changes connection IDs while a response is on its way,
which no sample program does by itself.

    tests/e2e/quic_target.py --listen HOST PORT --key FILE --cert FILE --file FILE --stats FILE
                             [--connection-id-length N] [--new-ids-every BYTES] [--change-ids-every BYTES]

It answers every request with the file.  After every --new-ids-every bytes of a
response it issues new connection IDs and asks the client to retire all others
(Retire Prior To).  After every --change-ids-every bytes it addresses the client
by another of the client's connection IDs and retires the one before.  The rest of the
response waits until the client has made that possible.

SIGINT ends it, and --stats gets what happened: a JSON object with `connections`,
`addresses` (of clients), and over all connections `server_ids` and `client_ids`
(connection ID in hex -> packets that came with it, or were sent to it),
`rotations` (all old ones were retired) and `changes`.
"""

import argparse
import json
import select
import signal
import socket
import sys
import time
from pathlib import Path

from net import Addr
from quic_connection import Connection
from quic_http import DATA, HEADERS, STATUS_200, control_stream, frame
from quic_packets import QuicError, parse_header

# Datagrams that are read before answers are sent
BATCH = 32


class _Client:
    """One connection, and the responses that are on their way."""

    def __init__(self, server: "Server", original: bytes, address: tuple):
        self.server = server
        self.address = address
        self.connection = Connection(time.monotonic(), certificate=server.certificate, original=original,
                                     cid_length=server.cid_length, on_stream=self._on_stream)
        self._greeted = False
        self._streams: dict[int, int] = {}  # number -> size of what has been given to the connection
        self._rest: dict[int, bytes] = {}  # number -> what has not
        self._next_new = self._next_change = 0
        self._issued_before = 0

    def _on_stream(self, number: int, _: bytes, ended: bool) -> None:
        if number & 3 == 0 and ended and number not in self._streams:
            self._streams[number] = 0
            self._rest[number] = frame(HEADERS, STATUS_200) + frame(DATA, self.server.content)

    def transmit(self, sock: socket.socket, now: float) -> None:
        connection = self.connection
        if connection.established and not self._greeted:
            self._greeted = True
            connection.send_stream(connection.open_stream(uni=True), control_stream())
        sent = sum(size - connection.unsent(number) for number, size in self._streams.items() if size)
        self._rotate(sent)
        if not self._due(sent):
            self._go_on()
        for datagram in connection.transmit(now):
            try:
                sock.sendto(datagram, self.address)
            except OSError:
                pass  # lost, as far as QUIC is concerned
        for cid in connection.cids.values():
            self.server.clients[cid] = self

    def _new_due(self, sent: int) -> bool:
        return bool(self.server.new_every) and sent >= self._next_new + self.server.new_every

    def _change_due(self, sent: int) -> bool:
        return bool(self.server.change_every) and sent >= self._next_change + self.server.change_every

    def _due(self, sent: int) -> bool:
        return self._new_due(sent) or self._change_due(sent)

    def _go_on(self) -> None:
        """With the responses, up to the next change."""
        piece = min(filter(None, (self.server.new_every, self.server.change_every)), default=None)
        for number, rest in list(self._rest.items()):
            if self._streams[number] and self.connection.unsent(number):
                continue
            data, rest = rest[:piece], rest[piece:] if piece else b""
            self.connection.send_stream(number, data, fin=not rest)
            self._streams[number] += len(data)
            if rest:
                self._rest[number] = rest
            else:
                del self._rest[number]

    def _rotate(self, sent: int) -> None:
        server, connection = self.server, self.connection
        # Not before the client has done what it was asked for the last time
        if self._new_due(sent) and min(connection.cids, default=0) >= self._issued_before:
            server.rotations += bool(self._issued_before)
            self._next_new = sent
            self._issued_before = connection.issued
            connection.issue_cids(len(connection.cids), retire=True)
        if self._change_due(sent) and connection.change_peer_cid():
            self._next_change = sent
            server.changes += 1


class Server:
    def __init__(self, args: argparse.Namespace):
        self.certificate = (args.key, args.cert)
        self.content = args.file.read_bytes()
        self.cid_length = args.connection_id_length
        self.new_every, self.change_every = args.new_ids_every, args.change_ids_every
        self.rotations = self.changes = 0
        # By every connection ID that a client may use, the one it made up at first too
        self.clients: dict[bytes, _Client] = {}
        self._all: list[_Client] = []
        self._addresses: set[Addr] = set()
        addr = Addr(args.listen[0], int(args.listen[1]))
        self._sock = socket.socket(addr.family, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.setblocking(False)
        self._sock.bind(addr)

    def run(self) -> None:
        while True:
            live = [client for client in self._all if not client.connection.closed]
            deadlines = [d for client in live if (d := client.connection.deadline()) is not None]
            timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            if select.select([self._sock], [], [], timeout)[0]:
                for _ in range(BATCH):
                    try:
                        data, source = self._sock.recvfrom(65536)
                    except BlockingIOError:
                        break
                    self._receive(data, source)
            for client in live:
                client.transmit(self._sock, time.monotonic())

    def _receive(self, data: bytes, source: tuple) -> None:
        try:
            header = parse_header(data, 0, self.cid_length)
        except QuicError:
            return
        client = self.clients.get(header.dcid)
        if not client:
            if not (data[0] & 0x80 and header.level is not None and len(data) >= 1200):
                return  # nothing that begins a connection
            client = self.clients[header.dcid] = _Client(self, header.dcid, source)
            self._all.append(client)
        try:
            client.connection.receive(data, time.monotonic())
        except QuicError as err:
            print(f"quic_target: {err}", flush=True)
            client.connection.close()
        client.address = source
        self._addresses.add(Addr(*source[:2]))

    def stats(self) -> dict:
        connections = [client.connection for client in self._all]
        return {"connections": len(connections), "addresses": sorted(map(str, self._addresses)),
                "rotations": self.rotations, "changes": self.changes,
                "server_ids": {cid.hex(): n for c in connections for cid, n in c.received_with.items()},
                "client_ids": {cid.hex(): n for c in connections for cid, n in c.sent_with.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--listen", nargs=2, required=True, metavar=("HOST", "PORT"))
    for name in ("key", "cert", "file", "stats"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE")
    parser.add_argument("--connection-id-length", type=int, default=8, metavar="N")
    parser.add_argument("--new-ids-every", type=int, default=0, metavar="BYTES")
    parser.add_argument("--change-ids-every", type=int, default=0, metavar="BYTES")
    args = parser.parse_args()

    server = Server(args)
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        server.run()
    finally:
        args.stats.write_text(json.dumps(server.stats(), indent=2) + "\n")


if __name__ == "__main__":
    main()
