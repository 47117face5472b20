"""What can stand between a client and a server: proxies and relays, each a program that is started for one
measurement and ended after it."""

import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "e2e"))

import net  # noqa: E402
from net import Addr  # noqa: E402
from procs import Program, ProgramError  # noqa: E402
from transfer import Site  # noqa: E402

NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
# How a program is started otherwise than by itself: its command line, from its own.
Wrap = Callable[[list[str | Path]], list[str | Path]]


class Skipped(Exception):
    """The subject cannot be measured on this machine."""


@dataclass
class Place:
    """What all measurements have in common."""

    build: Path
    site: Site  # what is downloaded
    upload: Path  # a file of the same size
    small: Site  # what a server has that is not downloaded from
    # Of the relay, of the proxy's client, and of the target: chosen once, since a choice is never given back
    addrs: list[Addr] = field(default_factory=lambda: net.free_addrs("127.0.0.1", "127.0.0.1", "127.0.0.2"))

    @property
    def front(self) -> Addr:
        return self.addrs[0]

    @property
    def local(self) -> Addr:
        return self.addrs[1]

    @property
    def target(self) -> Addr:
        return self.addrs[2]

    @property
    def relays(self) -> Path:
        return self.build / "tests" / "bench" / "relays"


class Way(NamedTuple):
    """How a client gets to the target."""

    entry: Addr
    options: tuple[str, ...] = ()  # of gtlsclient
    relay: Program | None = None


class Setting(NamedTuple):
    """Of one measurement."""

    place: Place
    run: Path  # an empty directory
    stack: ExitStack  # ends the programs
    wrap: Wrap = lambda argv: argv
    wraps: str = ""  # the name of the program that `wrap` is for; "": the relay

    def start(self, argv: list[str | Path], name: str, bound: Addr | None = None, wrapped: bool = True) -> Program:
        wrapped = name == self.wraps if self.wraps else wrapped
        program = self.stack.enter_context(
            Program(self.wrap(argv) if wrapped else argv, self.run / f"{name}.log", name))
        if bound:
            program.wait_bound([bound], timeout=120)  # callgrind takes its time
        return program


def needs(program: str) -> str:
    """Where the program is; raises Skipped."""
    # Debian has nginx where only root looks.
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        raise Skipped(f"{program} is missing")
    return found


def _direct(setting: Setting, datagrams: bool) -> Way:
    return Way(setting.place.target)


def _floor(how: str) -> Callable[[Setting, bool], Way]:
    def start(setting: Setting, datagrams: bool) -> Way:
        front = setting.place.front
        return Way(front, (), setting.start([setting.place.relays / "udp-relay", how, str(front), str(setting.place.target)],
                                            "udp-relay", front))
    return start


def _socat(setting: Setting, datagrams: bool) -> Way:
    front = setting.place.front
    return Way(front, (), setting.start(
        [needs("socat"), "-b65536", f"UDP4-LISTEN:{front.port},bind={front.host}", f"UDP4:{setting.place.target}"],
        "socat", front))


_NGINX = """\
daemon off;
master_process off;
pid {run}/nginx.pid;
error_log stderr error;
load_module {module};
events {{ worker_connections 64; }}
stream {{ server {{ listen {front} udp; proxy_pass {target}; proxy_timeout 10m; }} }}
"""


def _nginx(setting: Setting, datagrams: bool) -> Way:
    program, front = needs("nginx"), setting.place.front
    if not NGINX_STREAM.exists():
        raise Skipped(f"{NGINX_STREAM.name} is missing")
    conf = setting.run / "nginx.conf"
    conf.write_text(_NGINX.format(run=setting.run, module=NGINX_STREAM, front=front, target=setting.place.target))
    return Way(front, (), setting.start([program, "-e", "stderr", "-p", setting.run, "-c", conf], "nginx", front))


def _proxy(mode: str, dialect: str, *options: str) -> Callable[[Setting, bool], Way]:
    def start(setting: Setting, datagrams: bool) -> Way:
        front = setting.place.front
        if datagrams and mode == "forward":
            raise Skipped("only QUIC packets with a short header are forwarded")
        key, certificate = setting.place.site.certificate
        proxy = setting.start([setting.place.relays / "udp-proxy", str(front), certificate, key, "127.0.0.0/8"], "proxy", front)
        if not datagrams:
            return Way(setting.place.target, (f"--proxy=https://{front}", f"--proxy-mode={mode}",
                                              f"--proxy-dialect={dialect}", *options), proxy)
        local = setting.place.local
        forward = setting.start([setting.place.relays / "udp-forward", front.host, str(front.port),
                                 str(setting.place.target), str(local.port)], "udp-forward", wrapped=False)
        forward.wait_output("open")
        return Way(local, (), proxy)
    return start


def tunnelled(dialect: str) -> Callable[[Setting, bool], Way]:
    return _proxy("tunnel", dialect)


# By name, in the order of the table.  Called with a setting, and with whether plain datagrams are what
# is to be carried and not HTTP/3; they raise Skipped.
SUBJECTS: dict[str, Callable[[Setting, bool], Way]] = {
    "direct": _direct, "forwarded": _proxy("forward", "draft-00"),
    "forwarded-identity": _proxy("forward", "rfc9298", "--proxy-transform=identity"),
    "forwarded-scramble": _proxy("forward", "rfc9298", "--proxy-transform=scramble-dt"),
    "tunnelled": tunnelled("draft-00"), "nginx": _nginx,
    "socat": _socat, "floor-gso": _floor("gso"), "floor-plain": _floor("plain")}


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far, user and system, in nanoseconds.  Of all its threads that
    run; the scheduler counts exactly, where utime and stime are in ticks."""
    try:
        return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    except (OSError, ValueError, IndexError) as err:
        raise ProgramError(f"no processor time of process {pid}: {err}") from None
