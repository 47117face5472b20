#!/usr/bin/env python3
"""Downloads between our programs and other implementations, with and without the extension: for
whoever does not know it, nothing may change; and through proxies (RFC 9298), ours and theirs.  ci/interop runs it.

    tests/interop/interop.py --build DIR --root DIR --out FILE [--only NAME] [--missing REASON]
"""

import argparse
import itertools
import shutil
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import net
import stats
from procs import Program, ProgramError
from transfer import Site

import endpoints
from peers import OBJECTS, PEERS, Download, Mismatch, Peer, Row
from root import Root
from servers import serve_files, wait_for_port
from through import CASES, Through

SIZE = 4 << 20
TIMEOUT = 180
HANDSHAKE_TIMEOUT = "3s"
FRAME = b'"server_alternate_address"'


class Interop:
    def __init__(self, build: Path, root: Root):
        self.examples = build / "examples"
        self.root = root
        self.site = Site(root.shared / "site", SIZE)
        shutil.copy(HERE / "page.html", self.site.htdocs)
        # Fetched all at once, run one after the other, and counted before the page is complete
        objects = "".join(f'<script src="/object.js?{number}"></script>\n' for number in range(OBJECTS))
        (self.site.htdocs / "objects.html").write_text(
            f'<!doctype html>\n<p id="result">no result</p>\n<script>let arrived = 0;</script>\n{objects}<script>\n'
            f"document.getElementById('result').textContent = `${{arrived}} of {OBJECTS} objects`;\n</script>\n")
        (self.site.htdocs / "object.js").write_text("++arrived;\n")
        self.mime_types = root.shared / "mime.types"
        self.mime_types.write_text("text/html html\n")

    def rows(self, peer: Peer) -> Iterable[Row]:
        """Without the extension first: what does not work then is not the extension's fault."""
        role = "client" if peer.command else "server"
        if not (self.root.path / peer.needs).exists():
            yield Row(peer.name, "", role, "", "skipped", f"/{peer.needs} is not in the root directory")
            return
        version = peer.version(self.root)
        for extension in (False, True):
            run = self.root.shared / f"{peer.name}-{'with' if extension else 'without'}"
            run.mkdir()
            try:
                note = (self.as_server if peer.command else self.as_client)(peer, run, extension)
                result = "ok"
            except (ProgramError, Mismatch, stats.StatsError, AssertionError) as err:
                result, note = "FAILED", str(err).replace("\n", " ")
            words = {("client", False): "server stays", ("client", True): "server wants to move",
                     ("server", False): "not offered", ("server", True): "offered"}[role, extension]
            yield Row(peer.name, version, role, words, result, "; ".join(filter(None, (note, peer.note))))

    def as_server(self, peer: Peer, run: Path, extension: bool) -> str:
        """gtlsserver, and the other one is the client."""
        ring = net.free_addrs("127.0.0.1", "127.0.0.2", "127.0.0.1")
        options = [f"--alternate-addr={addr}" for addr in ring[1:]] + ["--migrate-every=1ms"] if extension else []
        with Program([self.examples / "gtlsserver", "--quiet", f"--htdocs={self.site.htdocs}",
                      f"--mime-types-file={self.mime_types}", f"--stats={run}/stats.json", f"--qlog-dir={run}",
                      *options, ring[0].host, str(ring[0].port), *self.site.certificate],
                     run / "server.log") as server:
            server.wait_bound(ring if extension else ring[:1])
            download = Download(*ring[0], self.site.file, self.site.certificate.cert, run)
            with Program(self.root.command(*peer.command(self.root, download)), run / "peer.log",
                         peer.name) as client:
                if client.wait(TIMEOUT) != 0:
                    raise ProgramError(client.epitaph())
            peer.check(self.root, download, (run / "peer.log").read_bytes())
            if server.stop(TIMEOUT) != 0:
                raise ProgramError(server.epitaph())
        return self.check(run, "local", str(ring[0]))

    def as_client(self, peer: Peer, run: Path, extension: bool) -> str:
        """gtlsclient, and the other one is the server."""
        addr, = net.free_addrs("127.0.0.1")
        download = Download(*addr, self.site.file, self.site.certificate.cert, run)
        (run / "download").mkdir()
        with ExitStack() as stack:
            argv = peer.serve(self.root, download, self.site.htdocs, serve_files(stack, self.site.htdocs))
            server = stack.enter_context(Program(self.root.command(*argv), run / "peer.log", peer.name))
            wait_for_port(server, addr)
            argv = [self.examples / "gtlsclient", "--quiet", "--exit-on-all-streams-close",
                    f"--download={run}/download", f"--stats={run}/stats.json", f"--qlog-dir={run}",
                    f"--handshake-timeout={HANDSHAKE_TIMEOUT}", *(["--enable-server-migration"] if extension else []),
                    addr.host, str(addr.port), f"https://localhost:{addr.port}/file"]
            for unanswered in range(peer.attempts):
                for old in run.glob("*.sqlog"):
                    old.unlink()
                client = stack.enter_context(Program(argv, run / "client.log"))
                if client.wait(TIMEOUT) == 0:
                    break
                if "ERR_HANDSHAKE_TIMEOUT" not in client.log.read_text() or unanswered + 1 == peer.attempts:
                    raise ProgramError(client.epitaph())
        if (run / "download" / "file").read_bytes() != self.site.file.read_bytes():
            raise Mismatch("what arrived is not the file")
        note = self.check(run, "remote", str(addr))
        return f"{note}; attempts before that got no answer: {unanswered}" if unanswered else note

    def check(self, run: Path, end: str, addr: str) -> str:
        """Of our side: one address of the server, no move, and no frame in any connection."""
        counted = stats.load(run / "stats.json")
        used = {entry[end] for entry in counted["paths"]}
        if counted["server_migrations"] or used != {addr}:
            raise Mismatch(f"{counted['server_migrations']} moves, addresses {' '.join(sorted(used))}")
        qlogs = list(run.glob("*.sqlog"))
        if not qlogs:
            raise Mismatch("there is no qlog")
        for file in qlogs:
            if FRAME in file.read_bytes():
                raise Mismatch("a SERVER_ALTERNATE_ADDRESS frame in the qlog")
        connections = counted["connections"]
        return f"{SIZE:,} bytes, {connections} connection{'s' * (connections != 1)}, no frame, no move"


def table(rows: list[Row]) -> str:
    fields = ("peer", "version", "role", "extension", "result", "note")
    lines = [fields, ("---",) * len(fields)]
    lines += [tuple(getattr(row, name).replace("|", "\\|") for name in fields) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--build", type=Path, required=True, metavar="DIR")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="a root directory with the programs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table, in Markdown")
    parser.add_argument("--only", default="", metavar="NAME", help="only this peer")
    parser.add_argument("--missing", metavar="REASON", help="there is no root directory, and why")
    args = parser.parse_args()
    peers, cases, runner = ([one for one in of_all if args.only.lower() in one.name.lower()]
                            for of_all in (PEERS, CASES, endpoints.CASES))
    if args.missing:
        rows = [Row(peer.name, "", "client" if peer.command else "server", "", "skipped", args.missing)
                for peer in peers]
        rows += [Row(case.name, "", case.role, case.how, "skipped", args.missing) for case in (*cases, *runner)]
    else:
        interop, rows = Interop(args.build.resolve(), Root(args.root.resolve())), []
        through = Through(interop.examples, interop.root, interop.site)
        ends = endpoints.Endpoints(interop.examples, interop.root, interop.site)
        for row in itertools.chain(*(interop.rows(peer) for peer in peers), map(through.row, cases), map(ends.row, runner)):
            print(f"{row.peer}, {row.role}, {row.extension}: {row.result}: {row.note}", flush=True)
            rows.append(row)
    args.out.write_text(table(rows))
    sys.exit(any(row.result == "FAILED" for row in rows))


if __name__ == "__main__":
    main()
