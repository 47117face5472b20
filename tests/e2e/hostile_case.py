"""What the tests with the hostile server share."""

import unittest
from collections.abc import Callable, Iterator
from pathlib import Path

import files
import net
import stats
import tap
from net import Addr
from procs import Program
from quic_hostile import PATIENCE, HostileServer, Peer, Script
from transfer import Site

SIZE = 64 << 10


class HostileCase(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.site = Site(cls.work / "site", SIZE)
        cls.content = cls.site.file.read_bytes()

    def server(self, scripts: dict[Addr, Script], others: list[Addr] = [], **how) -> HostileServer:
        return self.enterContext(HostileServer(self.site.certificate, self.content, scripts, others, **how))

    def client(self, addr: Addr, name: str, *options: str, migrates: bool = True,
               prefix: tuple[str, ...] = ()) -> Program:
        """A download by gtlsclient into a directory called `name`; `prefix` goes before the command."""
        run = self.work / self._testMethodName / name
        run.mkdir(parents=True)
        return self.enterContext(Program(
            [*prefix, self.build / "examples" / "gtlsclient", "--no-quic-dump", "--no-http-dump",
             "--exit-on-all-streams-close", *(["--enable-server-migration"] if migrates else []),
             f"--stats={run}/stats.json", f"--download={run}", *options, addr.host, str(addr.port),
             f"https://localhost:{addr.port}/file"], run / "log", name="gtlsclient"))

    def check_download(self, client: Program) -> None:
        """The client has all that it asked for, and says so."""
        self.assertEqual(client.wait(PATIENCE), 0, client.log.read_text(errors="replace")[-2000:])
        self.assertEqual(files.sha256(client.log.with_name("file")), self.site.sha256, "the content differs")

    def ended(self, server: HostileServer, *clients: Program) -> None:
        """Serves until all these have ended."""
        server.run(lambda: all(client.status is not None for client in clients))
        self.assertEqual(server.complaints, [])

    def closes(self, script: Script, code: int, migrates: bool = True, parameters: bytes = b"", **how) -> None:
        """The client closes with that code."""
        addr, = net.free_addrs("127.0.0.1")
        server = self.server({addr: script}, parameters={addr: parameters}, **how)
        client = self.client(addr, "client", "--quiet", migrates=migrates)
        # It may be gone before its CONNECTION_CLOSE has been read
        server.run(lambda: client.status is not None and server.idle())
        self.assertEqual(len(server.all), 1)
        connection = server.all[0].connection
        self.assertIsNotNone(connection.close_code, f"not closed by the client, but {connection.closed}")
        self.assertEqual(connection.close_code, code, connection.closed)
        self.assertEqual(client.wait(0), 1)  # which also finds a crash

    def goes_on(self, script: Script, at: Addr | None = None, others: list[Addr] = [], *,
                parameters: bytes = b"", options: tuple[str, ...] = ()) -> Peer:
        """The client has its file in the end.  `at`: where the client is in the end, if not where it began; it sends
        to none but that and `others`."""
        addr, = net.free_addrs("127.0.0.1")

        def whole(peer: Peer) -> Iterator:
            yield from script(peer)
            yield peer.asked_for
            if at:
                yield lambda: peer.here == at
            peer.finish()

        server = self.server({addr: whole}, others, parameters={addr: parameters})
        client = self.client(addr, "client", "--quiet", *options)
        self.ended(server, client)
        self.check_download(client)
        self.assertEqual(len(server.all), 1)
        self.assertEqual(server.all[0].here, at or addr, "more than probes has come there")
        used = stats.by_server_address(stats.load(client.log.with_name("stats.json")), "remote", "packets_sent")
        self.assertLessEqual(set(used), {str(addr), *map(str, others)})
        return server.all[0]

    def moves(self, script: Callable[[Peer, Addr], Iterator], others: list[Addr] = [], **how) -> Peer:
        """To an address that answers."""
        other, = net.free_addrs("127.0.0.2")

        def prepared(peer: Peer) -> Iterator:
            peer.answers.add(other)
            yield from script(peer, other)

        peer = self.goes_on(prepared, other, [other, *others], **how)
        # Nothing but padded probes, with a connection ID that is new, until they are answered
        self.assertGreater(len(peer.probes), 0)
        self.assertEqual({arrival.size for arrival in peer.probes}, {1200})
        self.assertFalse({arrival.cid for arrival in peer.probes} & {peer.connection.cids[0]})
        return peer
