"""ngmasque-proxy as its operators have it: a configuration file, users, signals, logs."""

import base64
import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import certs
import net
from procs import Program, ProgramError, run

TIMEOUT = 60


def basic(name: str, secret: str) -> tuple[str, str]:
    """The field of a request."""
    return "proxy-authorization", "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def bearer(secret: str) -> tuple[str, str]:
    return "proxy-authorization", f"Bearer {secret}"


class Operated:
    """A configuration in a fresh directory, and the program with it from the beginning of a with block to
    its end.  `options` are the lines of the file besides those for listener and certificate."""

    def __init__(self, build: Path, directory: Path, *options: str, host: str = "127.0.0.1"):
        self.binary = build / "examples" / "ngmasque-proxy" / "ngmasque-proxy"
        directory.mkdir()
        self.directory = directory
        self.addr, = net.free_addrs(host)
        self.file, self.users, self.access_log = (directory / name for name in ("proxy.toml", "users", "access.json"))
        self.key, self.cert = certs.make(directory)
        self.write(*options)
        self.program: Program

    def write(self, *options: str) -> None:
        """The file anew."""
        self.file.write_text("\n".join([f"listen = '{self.addr}'", f"cert = '{self.cert}'", f"key = '{self.key}'",
                                        *options]) + "\n")

    def add_user(self, name: str, policy: str = "") -> str:
        """To the file of users; the secret."""
        status, out, err = run([self.binary, f"--add-user={name}"])
        if status != 0:
            raise ProgramError(err.decode())
        with self.users.open("a") as file:
            file.write(f"{out.decode().strip()} {policy}\n")
        whose, secret = err.decode().strip().split(":")
        if whose != name or len(secret) != 32:
            raise ProgramError(f"no secret: {err.decode()}")
        return secret

    def argv(self, *options: str) -> list[str | Path]:
        return [self.binary, f"--config={self.file}", *options]

    def run(self, *options: str) -> tuple[int, str]:
        """To its end: exit status, and what is on stderr."""
        status, _, err = run(self.argv(*options))
        return status, err.decode()

    def start(self, *options: str) -> "Operated":
        self.program = Program(self.argv(*options), self.directory / "proxy.log", "ngmasque-proxy")
        return self

    def __enter__(self) -> "Operated":
        if not hasattr(self, "program"):
            self.start()
        self.program.wait_output("listening on", str(self.addr), timeout=TIMEOUT)
        return self

    def __exit__(self, *error) -> None:
        self.program.__exit__()
        if error[0]:
            for line in self.log().splitlines()[-5:]:
                print(f"# {line}", flush=True)

    def log(self) -> str:
        return self.program.log.read_text(errors="replace")

    def records(self, count: int = 0) -> list[dict]:
        """Waits until the access log has so many lines; all of them."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            lines = self.access_log.read_text().splitlines() if self.access_log.exists() else []
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            if time.monotonic() > deadline:
                raise ProgramError(f"only {len(lines)} lines in the access log")
            time.sleep(0.01)


def get(addr: net.Addr, path: str, method: str = "GET") -> tuple[int, str]:
    """Over HTTP/1.1: status and body."""
    try:
        request = urllib.request.Request(f"http://{addr}{path}", method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


_SAMPLE = re.compile(r'^(ngmasque_[a-z_]+)(\{(?:[a-z0-9_]+="[^"\\\n]*",?)+\})? ([0-9]+)$')


def metrics(text: str) -> dict[str, int]:
    """Samples with their labels, of a page that is checked to be one of Prometheus' text format."""
    samples: dict[str, int] = {}
    typed: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert kind in ("counter", "gauge") and name not in typed, line
            assert (kind == "counter") == name.endswith("_total"), line
            typed.add(name)
        elif not line.startswith("# HELP "):
            found = _SAMPLE.match(line)
            assert found and found[1] in typed, line
            name = found[1] + (found[2] or "")
            assert name not in samples, line
            samples[name] = int(found[3])
    return samples
