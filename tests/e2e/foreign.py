"""Downloads by our client through a proxy in Python, which does something else where a test wants it to."""

import os
from collections.abc import Callable

import udp_proxy
from proxied import Client, Outcome, Proxied
from proxy_case import SEED, ProxyCase
from proxy_client import PATIENCE
from quic_aware import CidCapsule, read_cid_capsule
from udp_proxy_server import Proxy
from udp_proxy_tunnel import Tunnel


class Odd(Proxy):
    def on_capsule(self, tunnel: Tunnel, kind: int, value: bytes) -> bytes:
        right = super().on_capsule(tunnel, kind, value)
        found = read_cid_capsule(kind, value)
        return self.on_cid(tunnel, found[0], found[1], right) if found else right

    def on_cid(self, tunnel: Tunnel, revision: int, what: CidCapsule, right: bytes) -> bytes:
        """What is to be answered instead of what is right."""
        return right


class Foreign(Proxied):
    """The proxy runs in this process, and only while finish() or fail() waits for a client."""

    def __init__(self, *args, kind: type[Proxy] = Proxy, options: tuple[str, ...] = (), **how):
        super().__init__(*args, **how)
        self._kind, self._options = kind, options
        self.foreign: Proxy

    def start_proxy(self) -> None:
        key, cert = self.site.certificate
        addr = self.proxy_addr
        self.foreign = self._kind(udp_proxy.parse(
            ["--listen", addr.host, str(addr.port), f"--key={key}", f"--cert={cert}", f"--stats={os.devnull}",
             *self._options]))

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        if hasattr(self, "foreign"):
            self.foreign.__exit__(*error)

    def modern(self, *options: str, **how) -> Client:
        return self.start("--proxy-dialect=rfc9298", *options, **how)

    def finish(self, client: Client) -> Outcome:
        self._serve(client)
        return client.finish()

    def fail(self, client: Client) -> str:
        self._serve(client)
        return client.fail()

    def _serve(self, client: Client) -> None:
        """Until the client has ended, and has told the proxy so."""
        self.foreign.run(lambda: client.program.status is not None, 2 * PATIENCE)
        if peers := self.foreign.all:
            self.foreign.run(lambda: all(peer.connection.closed for peer in peers), PATIENCE)

    def resets(self) -> list[int]:
        """The codes with which the client has reset streams, each once."""
        return sorted({code for peer in self.foreign.all for code in peer.connection.resets.values()})

    def close_codes(self) -> list[int | None]:
        """Those with which it has closed its connections."""
        return [peer.connection.close_code for peer in self.foreign.all]


def sends(*capsules: bytes) -> type[Proxy]:
    """A proxy that sends them right after the answer."""
    return type("Sends", (Odd,), {"opened": lambda self, tunnel: tunnel.send_bytes(b"".join(capsules))})


def adds(name: str, make: Callable[[Tunnel, int, bytes], bytes]) -> type[Proxy]:
    """A proxy that adds make(tunnel, revision, cid) to its answer to each registration of that name."""
    class Adds(Odd):
        def on_cid(self, tunnel: Tunnel, revision: int, what: CidCapsule, right: bytes) -> bytes:
            return right + make(tunnel, revision, what.cid) if what.name == name else right

    return Adds


def acknowledges(make: Callable[[Tunnel, bytes], bytes | None]) -> type[Proxy]:
    """A proxy that gives a client's connection ID the virtual one make(tunnel, cid), if that is one."""
    class Acknowledges(Odd):
        def on_cid(self, tunnel: Tunnel, revision: int, what: CidCapsule, right: bytes) -> bytes:
            if what.name != "REGISTER_CLIENT_CID" or (virtual := make(tunnel, what.cid)) is None:
                return right
            return CidCapsule("ACK_CLIENT_CID", what.cid, virtual).write(revision)

    return Acknowledges


class ForeignCase(ProxyCase):
    SIZES = (512 << 10, 256 << 10)

    def check_forwarded(self, outcome: Outcome, least: float = 0.5) -> None:
        """The file is small, and so are the numbers: what goes before forwarding is agreed on is much of it."""
        super().check_forwarded(outcome, least)

    def foreign(self, kind: type[Proxy] = Proxy, *options: str) -> Foreign:
        run = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        run.mkdir()
        return Foreign(self.build, self.site, run, seed=SEED, kind=kind, options=options)

    def download(self, kind: type[Proxy] = Proxy, *options: str, proxy: tuple[str, ...] = (),
                 mode: str = "forward") -> tuple[Outcome, Foreign]:
        """It is whole; what the proxy has to say of the client."""
        with self.foreign(kind, *proxy) as world:
            outcome = world.finish(world.modern(*options, mode=mode))
        self.assertEqual((world.foreign.complaints, world.resets()), ([], []))
        self.check(outcome)
        return outcome, world
