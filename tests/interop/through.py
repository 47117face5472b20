"""Downloads through UDP proxies (RFC 9298): our proxy and theirs, our clients and theirs, and servers of theirs behind
our proxy.  Payloads go in datagrams or in capsules, and the way to the proxy is good or bad."""

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import net
import stats
from net import Addr
from operated import Operated
from procs import Program, ProgramError
from relay import Impairment, Relay
from transfer import Site

from peers import OBJECTS, PEERS, Download, Mismatch, Peer, Row, check_objects
from root import Root
from servers import serve_files, wait_for_port

HERE = Path(__file__).resolve().parent
TIMEOUT = 300
BAD = Impairment(delay=5, loss=0.01, reorder=0.02, reorder_delay=5)
# Of short headers, when the proxy forwards
FORWARDED = 0.9
ALLOW = "--connect-udp-allow=127.0.0.0/8"
PEER = {peer.name: peer for peer in PEERS}


class Skipped(Exception):
    """The peer cannot do that."""


@dataclass
class Case:
    name: str  # of the peer
    role: str
    how: str
    # Returns a note
    run: Callable[["Through", "Run"], str]
    capsules: bool = False
    bad: bool = False
    page: str = ""  # Instead of the one that fetches the file


@dataclass
class Run:
    case: Case
    directory: Path
    stack: ExitStack


class Through:
    def __init__(self, examples: Path, root: Root, site: Site):
        self.examples, self.root, self.site = examples, root, site

    def row(self, case: Case) -> Row:
        peer = PEER[case.name]
        if not (self.root.path / peer.needs).exists():
            return Row(case.name, "", case.role, case.how, "skipped", f"/{peer.needs} is not in the root directory")
        directory = self.root.shared / f"{case.name}-{case.role}-{case.how}".replace(" ", "-").replace(",", "")
        directory.mkdir()
        try:
            with ExitStack() as stack:
                note, result = case.run(self, Run(case, directory, stack)), "ok"
        except Skipped as err:
            note, result = str(err), "skipped"
        except (ProgramError, Mismatch, stats.StatsError, AssertionError, OSError) as err:
            note, result = str(err).replace("\n", " "), "FAILED"
        return Row(case.name, peer.version(self.root), case.role, case.how, result, note)

    # What there is in a run

    def server(self, run: Run, name: str, host: str, *options: str) -> tuple[Addr, Program]:
        """gtlsserver, with the file."""
        addr, = net.free_addrs(host)
        program = run.stack.enter_context(Program(
            [self.examples / "gtlsserver", "--quiet", f"--htdocs={self.site.htdocs}",
             f"--mime-types-file={self.root.shared}/mime.types", f"--stats={run.directory}/{name}.json", *options,
             addr.host, str(addr.port), *self.site.certificate], run.directory / f"{name}.log", name))
        program.wait_bound([addr])
        return addr, program

    def target(self, run: Run) -> Addr:
        return self.server(run, "target", "127.0.0.2")[0]

    def proxy(self, run: Run) -> tuple[Addr, Program]:
        return self.server(run, "proxy", "127.0.0.1", "--connect-udp", ALLOW)

    def way(self, run: Run, addr: Addr) -> Addr:
        """To that address, through a relay if the way is to be bad."""
        if not run.case.bad:
            return addr
        front, = net.free_addrs("127.0.0.1")
        run.stack.enter_context(Relay(front, addr, BAD, BAD, seed="1"))
        return front

    def stop_proxy(self, run: Run, program: Program) -> dict:
        if program.stop(TIMEOUT) != 0:
            raise ProgramError(program.epitaph())
        return stats.load_proxy(run.directory / "proxy.json", "proxy")["proxy"]

    def check_file(self, file: Path) -> None:
        if not file.exists() or file.read_bytes() != self.site.file.read_bytes():
            raise Mismatch("what arrived is not the file")

    def client(self, run: Run, proxy: Addr, target: Addr, mode: str, attempts: int = 1) -> tuple[dict, int]:
        """gtlsclient; its statistics, and how often it was tried in vain."""
        there = run.directory / "download"
        there.mkdir()
        argv = [self.examples / "gtlsclient", "--quiet", "--exit-on-all-streams-close", f"--download={there}",
                f"--stats={run.directory}/client.json", f"--proxy=https://{proxy}", "--proxy-dialect=rfc9298",
                f"--proxy-mode={mode}", "--handshake-timeout=5s", target.host, str(target.port),
                f"https://localhost:{target.port}/file"]
        for vain in range(attempts):
            program = run.stack.enter_context(Program(argv, run.directory / "client.log"))
            if program.wait(TIMEOUT) == 0:
                break
            if "ERR_HANDSHAKE_TIMEOUT" not in program.log.read_text() or vain + 1 == attempts:
                raise ProgramError(program.epitaph())
        self.check_file(there / "file")
        return stats.load_proxy(run.directory / "client.json", "client"), vain

    def peer_client(self, run: Run, argv: list[str]) -> None:
        log = run.directory / "peer.log"
        with Program(self.root.command(*argv), log, run.case.name) as program:
            if program.wait(TIMEOUT) != 0:
                raise ProgramError(program.epitaph())

    def script(self, name: str) -> str:
        for file in HERE.glob("aioquic_*.py"):
            self.root.put(file)
        return self.root.put(HERE / name)

    # Cases

    def their_client(self, run: Run) -> str:
        target, (proxy, program) = self.target(run), self.proxy(run)
        file = run.directory / "file"
        self.peer_client(run, ["python3", self.script("aioquic_udp_client.py"), *map(str, self.way(run, proxy)),
                               *map(str, target), "/file", self.root.inside(file),
                               *(["--capsules"] if run.case.capsules else [])])
        self.check_file(file)
        counts = self.stop_proxy(run, program)
        if (counts["on_stream_tx"] > 0) != run.case.capsules:
            raise Mismatch(f"{counts['on_stream_tx']} payloads went to the client in capsules")
        return (f"{self.site.size:,} bytes, payloads: {counts['tunnelled_rx']['packets']:,} from the client, "
                f"{counts['tunnelled_tx']['packets']:,} to it")

    def their_proxy(self, run: Run) -> str:
        addr, = net.free_addrs("127.0.0.1")
        cert, key = (self.root.put(self.site.certificate.cert.with_name(name)) for name in ("cert.pem", "key.pem"))
        argv = ["python3", self.script("aioquic_udp_proxy.py"), *map(str, addr), cert, key,
                *(["--capsules"] if run.case.capsules else [])]
        program = run.stack.enter_context(Program(self.root.command(*argv), run.directory / "peer.log", "aioquic"))
        wait_for_port(program, addr)
        counts = self.client(run, self.way(run, addr), self.target(run), "forward")[0]["proxy"]
        if (counts["on_stream_rx"] > 0) != run.case.capsules:
            raise Mismatch(f"{counts['on_stream_rx']} payloads came in capsules")
        if counts["forwarded_rx"]["packets"] or not counts["fallbacks"]:
            raise Mismatch("something was forwarded by a proxy that does not know how")
        return (f"{self.site.size:,} bytes, payloads: {counts['tunnelled_tx']['packets']:,} to the proxy, "
                f"{counts['tunnelled_rx']['packets']:,} from it")

    def their_server(self, run: Run) -> str:
        peer: Peer = PEER[run.case.name]
        target, = net.free_addrs("127.0.0.1")
        download = Download(*target, self.site.file, self.site.certificate.cert, run.directory)
        argv = peer.serve(self.root, download, self.site.htdocs, serve_files(run.stack, self.site.htdocs))
        server = run.stack.enter_context(Program(self.root.command(*argv), run.directory / "peer.log", peer.name))
        wait_for_port(server, target)
        proxy, program = self.proxy(run)
        counts, vain = self.client(run, proxy, target, "forward", peer.attempts)
        self.stop_proxy(run, program)
        shares = [stats.forwarded_share(counts, way) for way in ("tx", "rx")]
        if min(shares) < FORWARDED:
            raise Mismatch(f"{shares[0]:.0%} and {shares[1]:.0%} of the short headers were forwarded")
        note = f"{self.site.size:,} bytes, forwarded: {shares[0]:.1%} up, {shares[1]:.1%} down"
        return f"{note}; attempts before that got no answer: {vain}" if vain else note

    def programs(self, run: Run) -> str:
        """A client that knows of no proxy: ngmasque-client leads it through ngmasque-proxy, to nginx."""
        peer, server = PEER[run.case.name], PEER["nginx"]
        if not (self.root.path / server.needs).exists():
            raise Skipped(f"/{server.needs} is not in the root directory")
        target, listen = net.free_addrs("127.0.0.1", "127.0.0.1")
        behind = Download(*target, self.site.file, self.site.certificate.cert, run.directory)
        nginx = run.stack.enter_context(Program(self.root.command(*server.serve(self.root, behind, self.site.htdocs, 0)),
                                                run.directory / "nginx.log", "nginx"))
        wait_for_port(nginx, target)
        directory = run.directory / "proxy"
        world = Operated(self.examples.parent, directory, f"users = '{directory}/users'", f"access-log = '{directory}/access.json'",
                         "allow = '127.0.0.0/8'")
        secret = world.add_user("alice")
        run.stack.enter_context(world)
        counted = run.directory / "client.json"
        client = run.stack.enter_context(Program(
            [self.examples / "ngmasque-client" / "ngmasque-client", f"--proxy=https://{world.addr}", "--proxy-sni=localhost",
             f"--proxy-cacert={world.cert}", f"--proxy-user=alice:{secret}", f"--stats={counted}", f"--listen={listen}", str(target)],
            run.directory / "client.log", "ngmasque-client"))
        client.wait_bound([listen])
        download = Download(*listen, self.site.file, self.site.certificate.cert, run.directory)
        log = run.directory / "peer.log"
        page = [run.case.page] if run.case.page else []
        with Program(self.root.command(*peer.command(self.root, download, *page)), log, peer.name) as program:
            if program.wait(TIMEOUT) != 0:
                raise ProgramError(program.epitaph())
        if page:
            check_objects(log.read_bytes())
        else:
            peer.check(self.root, download, log.read_bytes())
        if client.stop(TIMEOUT) != 0:
            raise ProgramError(client.epitaph())
        ours = {"proxy": stats.load_json(counted)["total"]}
        if {record["user"] for record in world.records(ours["proxy"]["tunnels"])} != {"alice"}:
            raise Mismatch("the access log has somebody else's tunnels")
        up, down = (stats.forwarded_share(ours, way) for way in ("tx", "rx"))
        return f"{ours['proxy']['tunnels']} tunnels, forwarded: {up:.1%} of the short headers up, {down:.1%} down"

    def curl(self, run: Run) -> str:
        with Program(self.root.command("curl", "--help", "all"), run.directory / "help", "curl") as program:
            program.wait(TIMEOUT)
        if "--proxy-http3" not in (run.directory / "help").read_text():
            raise Skipped("it has no --proxy-http3, which came with 8.21")
        target, (proxy, program) = self.target(run), self.proxy(run)
        file = run.directory / "file"
        self.peer_client(run, [
            "curl", "--http3-only", "--insecure", "--proxy-insecure", "--proxy-http3", "--proxy", f"https://{proxy}",
            "--silent", "--show-error", "--fail", "--max-time", "120", "--output", self.root.inside(file),
            f"https://{target}/file"])
        self.check_file(file)
        counts = self.stop_proxy(run, program)
        return f"{self.site.size:,} bytes, payloads in capsules to it: {counts['on_stream_tx']:,}"


def _cases() -> list[Case]:
    cases = [Case("curl", "client of our proxy", "capsules", Through.curl, capsules=True)]
    for role, run in (("client of our proxy", Through.their_client), ("proxy", Through.their_proxy)):
        for capsules in (False, True):
            case = Case("aioquic", role, "capsules" if capsules else "datagrams", run, capsules)
            cases += [case, dataclasses.replace(case, how=f"{case.how}, loss and reordering", bad=True)]
    cases += [Case(name, "server behind our proxy", "forwarded", Through.their_server) for name in ("nginx", "HAProxy")]
    cases += [Case(name, "client through our programs", "to nginx", Through.programs) for name in ("curl", "aioquic", "Chromium")]
    cases += [Case("Chromium", "client through our programs", f"a page of {OBJECTS} objects", Through.programs, page="objects.html")]
    return cases


CASES = _cases()
