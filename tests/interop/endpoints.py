"""Our endpoint of interoperability runners (runner/run_endpoint.sh) with an end of somebody else's, case by case."""

import re
from dataclasses import dataclass
from pathlib import Path

import net
from endpoint import Endpoint
from procs import Program, ProgramError
from transfer import Site

from peers import PEERS, Mismatch, Row
from root import Root
from servers import wait_for_port

HERE = Path(__file__).resolve().parent
TIMEOUT = 120
# Of cases of our client, that they have happened: what its log has, or the server's
PROOF = {"retry": "type=Retry", "chacha20": "Negotiated cipher suite is CHACHA20-POLY1305", "keyupdate": r"pkt rx .* type=1RTT k=1",
         "v2": "the negotiated version is 0x6b3343cf", "resumption": "resumed=True",
         "zerortt": "resumed=True early=True"}
PEER = {peer.name: peer for peer in PEERS}


@dataclass
class Case:
    role: str  # of the peer
    testcase: str
    name: str = "aioquic"

    @property
    def how(self) -> str:
        return f"runner's case {self.testcase}"


class Endpoints:
    def __init__(self, examples: Path, root: Root, site: Site):
        self.root, self.site = root, site
        self.script = root.put(HERE / "aioquic_hq.py")
        self.directory = root.shared / "endpoints"
        # As they are in the container: all in one folder
        for name in ("programs", "certs"):
            (self.directory / name).mkdir(parents=True)
        for program in ("gtlsclient", "gtlsserver", "hq/gtlshqclient", "hq/gtlshqserver"):
            (self.directory / "programs" / Path(program).name).symlink_to(examples / program)
        for file, name in zip((site.certificate.cert, site.certificate.key), ("cert.pem", "priv.key")):
            (self.directory / "certs" / name).write_bytes(file.read_bytes())

    def row(self, case: Case) -> Row:
        peer = PEER[case.name]
        if not (self.root.path / peer.needs).exists():
            return Row(case.name, "", case.role, case.how, "skipped", f"/{peer.needs} is not in the root directory")
        run = self.directory / f"{case.role}-{case.testcase}"
        run.mkdir()
        try:
            note, result = (self.as_client if case.role == "client" else self.as_server)(case, run), "ok"
        except (ProgramError, Mismatch, OSError) as err:
            note, result = str(err).replace("\n", " "), "FAILED"
        return Row(case.name, peer.version(self.root), case.role, case.how, result, note)

    def ours(self, role: str, case: Case, run: Path, addr: net.Addr, **variables: str | Path) -> Endpoint:
        (run / "logs").mkdir()
        return Endpoint(role, case.testcase, run / "ours.log", PROGRAMS=self.directory / "programs",
                        CERTS=self.directory / "certs", WWW=self.site.htdocs, LOGS=run / "logs", LISTEN=addr.host,
                        PORT=str(addr.port), **variables)

    def theirs(self, role: str, case: Case, addr: net.Addr, *paths: str) -> list[str]:
        return self.root.command("/usr/bin/python3", self.script, role, case.testcase, addr.host, str(addr.port), *paths)

    def check(self, files: list[Path]) -> str:
        if not files:
            raise Mismatch("no file")
        for file in files:
            if file.read_bytes() != self.site.file.read_bytes():
                raise Mismatch(f"{file.name}: {file.stat().st_size:,} bytes that are not the file")
        return f"{len(files)} x {self.site.size:,} bytes"

    def as_client(self, case: Case, run: Path) -> str:
        addr, = net.free_addrs("127.0.0.1")
        with self.ours("server", case, run, addr) as server:
            wait_for_port(server, addr)
            argv = self.theirs("client", case, addr, "/file", self.root.inside(run / "file"))
            with Program(argv, run / "peer.log", case.name) as client:
                if client.wait(TIMEOUT) != 0:
                    raise ProgramError(client.epitaph())
            if server.stop(TIMEOUT) != 0:
                raise ProgramError(server.epitaph())
        return f"{self.check(sorted(run.glob('file*')))}; {(run / 'peer.log').read_text().strip()}"

    def as_server(self, case: Case, run: Path) -> str:
        addr, = net.free_addrs("127.0.0.1")
        downloads = run / "downloads"
        downloads.mkdir()
        key, cert = self.site.certificate
        argv = self.theirs("server", case, addr, *map(self.root.inside, (self.site.htdocs, cert, key)))
        with Program(argv, run / "peer.log", case.name) as server:
            wait_for_port(server, addr)
            requests = " ".join([f"https://{addr}/file"] * (2 if case.testcase in ("resumption", "zerortt") else 1))
            with self.ours("client", case, run, addr, DOWNLOADS=downloads, REQUESTS=requests) as client:
                if client.wait(TIMEOUT) != 0:
                    raise ProgramError(f"{client.epitaph()} {(run / 'logs' / 'client.log').read_text()[-300:]}")
        log = "".join(path.read_text(errors="replace") for path in (run / "peer.log", run / "logs" / "client.log"))
        if not re.search(PROOF.get(case.testcase, ""), log):
            raise Mismatch(f"{case.testcase} has not happened: {PROOF[case.testcase]}")
        return self.check(list(downloads.iterdir()))


CASES = [Case(role, testcase) for role in ("client", "server")
         for testcase in ("handshake", "transfer", "retry", "chacha20", "keyupdate", "v2", "resumption", "zerortt")]
