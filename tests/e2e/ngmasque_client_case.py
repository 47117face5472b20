"""What tests with ngmasque-client share: proxies, targets that echo, and the program itself."""

import contextlib
import json
import re
import select
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

import certs
import net
import tap
from net import Addr
from procs import Program, ProgramError

ALLOW = ("--connect-udp-allow=127.0.0.0/8",)
# How long something may take that is expected to happen
PATIENCE = 60


class Echo:
    """A target that sends back what it gets, when pump() is called."""

    def __init__(self, host: str = "127.0.0.2"):
        self.addr, = net.free_addrs(host)
        self.sock = socket.socket(self.addr.family, socket.SOCK_DGRAM)
        self.sock.bind(self.addr)
        self.sources: set[tuple] = set()
        self.came: list[bytes] = []

    def pump(self) -> None:
        while select.select([self.sock], [], [], 0)[0]:
            data, source = self.sock.recvfrom(65536)
            self.sources.add(source)
            self.came.append(data)
            self.sock.sendto(data, source)


class Peer(socket.socket):
    """A local program without QUIC, which sends to one address."""

    def __init__(self, to: Addr):
        super().__init__(to.family, socket.SOCK_DGRAM)
        self.connect(to)

    def ask(self, data: bytes, *targets: Echo, every: float = 0.5, patience: float = PATIENCE) -> bytes:
        """Sends until there is an answer, as programs do over UDP."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionRefusedError):
                self.send(data)
            until = time.monotonic() + every
            while time.monotonic() < until:
                for target in targets:
                    target.pump()
                if select.select([self], [], [], 0.01)[0]:
                    with contextlib.suppress(ConnectionRefusedError):
                        return self.recv(65536)
        raise ProgramError("there was no answer")


class ClientProgram(Program):
    """ngmasque-client."""

    def __init__(self, case: "ClientCase", argv: list[str]):
        self.stats_file = case.fresh("stats.json")
        super().__init__([case.program, "--log-level=debug", f"--stats={self.stats_file}", *argv],
                         case.fresh("client.log"))

    def where(self, what: str) -> Addr:
        """Where a port is: `UDP` or `SOCKS 5 at`."""
        self.wait_output(what)
        host, port = re.search(rf"{what} (\S+):(\d+)", self.log.read_text()).groups()
        return Addr(host.strip("[]"), int(port))

    def finish(self) -> dict:
        """Ends it, as ctrl-C does; its statistics."""
        if self.stop(PATIENCE) != 0:
            raise ProgramError(self.epitaph())
        return json.loads(self.stats_file.read_text())


class ClientCase(unittest.TestCase):
    build: Path
    run_: Path
    certificate: certs.Certificate

    @classmethod
    def setUpClass(cls):
        cls.run_ = tap.temporary_directory(cls)
        cls.certificate = certs.make(cls.run_)
        cls.program = cls.build / "examples" / "ngmasque-client" / "ngmasque-client"

    def setUp(self):
        self.stack = self.enterContext(contextlib.ExitStack())
        self.count = 0

    def fresh(self, name: str) -> Path:
        self.count += 1
        return self.run_ / f"{self._testMethodName}-{self.count}-{name}"

    def proxy(self, *options: str, addr: Addr | None = None, certificate: certs.Certificate | None = None) -> tuple[Addr, Program]:
        """gtlsserver, which goes to loopback addresses."""
        addr = addr or net.free_addrs("127.0.0.1")[0]
        key, cert = certificate or self.certificate
        program = self.stack.enter_context(Program(
            [self.build / "examples" / "gtlsserver", "--quiet", "--connect-udp", *(options or ALLOW), addr.host,
             str(addr.port), key, cert], self.fresh("proxy.log"), "proxy"))
        program.wait_bound([addr])
        return addr, program

    def answering_proxy(self, status: int, *options: str) -> Addr:
        """A proxy that answers every request with `status`."""
        addr, = net.free_addrs("127.0.0.1")
        key, cert = self.certificate
        program = self.stack.enter_context(Program(
            [sys.executable, Path(__file__).with_name("udp_proxy.py"), "--listen", addr.host, str(addr.port),
             f"--key={key}", f"--cert={cert}", f"--stats={self.fresh('proxy.json')}", f"--status={status}",
             *options],
            self.fresh("proxy.log"), "proxy"))
        program.wait_bound([addr])
        return addr

    def start(self, proxy: Addr, *options: str, trust: bool = True) -> ClientProgram:
        trusted = ["--proxy-sni=localhost", f"--proxy-cacert={self.certificate.cert}"] if trust else []
        return self.stack.enter_context(ClientProgram(self, [f"--proxy=https://{proxy}", *trusted, *options]))

    def forward_to(self, proxy: Addr, target: Addr, *options: str, **more) -> tuple[ClientProgram, Addr]:
        client = self.start(proxy, "--listen=127.0.0.1:0", *options, str(target), **more)
        return client, client.where("UDP")

    def expired_certificate(self) -> certs.Certificate:
        pair = certs.Certificate(self.run_ / "expired-key.pem", self.run_ / "expired.pem")
        request = self.run_ / "expired.csr"
        for command in (["req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                         "-keyout", pair.key, "-out", request],
                        ["x509", "-req", "-in", request, "-signkey", pair.key, "-days", "-1",
                         "-copy_extensions", "copy", "-out", pair.cert]):
            subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True, timeout=60)
        return pair
