#!/usr/bin/env python3
"""Downloads and uploads where the kernel refuses what the programs ask of their
sockets: GSO, ECN, and the options for receiving.

    tests/e2e/test_sockets.py --build DIR [--filter TEXT]
"""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import net
import tap
from net import Addr
from procs import Program
from proxied import ALLOW, EXIT
from proxy_case import MIB, ProxyCase
from refusing import Counts, Refusing, refusing
from transfer import Outcome, Transfer

# What is known of kernels, network devices and sandboxes
ERRORS = (errno.EINVAL, errno.EIO, errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EPERM, errno.EMSGSIZE,
          errno.ENOSYS)
RECEIVING = {"GRO": errno.ENOPROTOOPT, "RECV_ECN": errno.ENOPROTOOPT, "PKTINFO": errno.ENOPROTOOPT}
# Of one socket.  If both are refused of the same packet, it is tried without each and without both.
MOST = 3


class SocketsTest(ProxyCase):
    SIZES = (2 * MIB, MIB)

    def directory(self, name: str) -> Path:
        return self.work / f"{self._testMethodName}-{name}-{len(list(self.work.iterdir()))}"

    @contextlib.contextmanager
    def refusing(self, **errors: int) -> Iterator[Refusing]:
        with refusing(self.build, self.directory("counts"), **errors) as refusal:
            try:
                yield refusal
            except Exception as err:
                err.add_note(f"refused: {errors}")
                raise

    def upload(self) -> tuple[str, ...]:
        """Options of a client that sends what it gets."""
        return (f"--data={self.site.file}", "--http-method=PUT")

    def transfer(self, refusal: Refusing, *options: str, host: str = "127.0.0.1", seen: str = "",
                 logs: list[str] | None = None) -> tuple[Outcome, Counts, Counts]:
        """A transfer without a proxy, and what client and server were refused.  `seen` is the
        server's address for the client, if it is not `host`."""
        run = self.directory("run")
        run.mkdir()
        ring = net.free_addrs(host)
        with Transfer(self.build, self.site, run, ring, client_options=(EXIT, *options)) as transfer:
            transfer.ring = [Addr(seen or host, ring[0].port)]
            transfer.start()
            outcome = transfer.finish()
            self.assertTrue(outcome.sha256_ok, f"the content differs, {outcome.bytes:,} bytes")
            if logs is not None:
                logs += [program.log.read_text(errors="replace")
                         for program in (transfer.client, transfer.server)]
            return outcome, refusal.counts(transfer.client), refusal.counts(transfer.server)

    def check_counts(self, counts: Counts, *kinds: str) -> None:
        """These were refused, no others, and never again once that was known."""
        self.assertGreater(counts.taken, 0)
        for kind, most in counts.most.items():
            if kind == "ROOM":
                continue
            if kind in kinds:
                self.assertGreater(most, 0, f"{kind} was not tried: {counts}")
                self.assertLessEqual(most, MOST, f"{kind} was tried again: {counts}")
            else:
                self.assertEqual(most, 0, counts)

    def check_said(self, log: str, what: str, times: int = 1) -> None:
        lines = [line for line in log.splitlines() if "disabling" in line or "going on without" in line]
        self.assertEqual(sum(what in line for line in lines), times, lines)

    def test_gso(self):
        for error in ERRORS:
            with self.refusing(GSO=error) as refusal:
                logs: list[str] = []
                _, _, server = self.transfer(refusal, logs=logs)
                self.check_counts(server, "GSO")
                self.check_said(logs[1], "GSO")
                self.check_said(logs[1], "ECN", 0)

    def test_gso_upload(self):
        for error in ERRORS[:2]:
            with self.refusing(GSO=error) as refusal:
                logs: list[str] = []
                outcome, client, _ = self.transfer(refusal, *self.upload(), logs=logs)
                self.assertGreaterEqual(outcome.server["app_bytes_received"], self.site.size)
                self.check_counts(client, "GSO")
                self.check_said(logs[0], "GSO")

    def test_ecn(self):
        for error in ERRORS:
            with self.refusing(ECN=error) as refusal:
                logs: list[str] = []
                _, client, server = self.transfer(refusal, logs=logs)
                for counts, log in zip((client, server), logs):
                    self.check_counts(counts, "ECN")
                    self.check_said(log, "ECN")
                    self.check_said(log, "GSO", 0)

    def test_both(self):
        for host in ("127.0.0.1", "::1") if net.has_ipv6() else ("127.0.0.1",):
            for gso, ecn in ((errno.EINVAL, errno.EINVAL), (errno.EIO, errno.EPERM)):
                with self.refusing(GSO=gso, ECN=ecn) as refusal:
                    _, client, server = self.transfer(refusal, *self.upload(), host=host)
                    self.check_counts(client, "GSO", "ECN")
                    self.check_counts(server, "GSO", "ECN")

    def test_both_without_room(self):
        """What has to wait for room is sent without as well."""
        for room in (2, 5):
            with self.refusing(GSO=errno.EINVAL, ECN=errno.EINVAL, ROOM=room) as refusal:
                _, client, server = self.transfer(refusal, *self.upload())
                for counts in (client, server):
                    self.check_counts(counts, "GSO", "ECN")
                    self.assertGreater(counts.total["ROOM"], 10)

    def test_receiving(self):
        for host in ("127.0.0.1", "::1") if net.has_ipv6() else ("127.0.0.1",):
            with self.refusing(**RECEIVING) as refusal:
                _, client, server = self.transfer(refusal, *self.upload(), host=host)
                self.check_counts(client, "GRO", "RECV_ECN")
                self.check_counts(server, *RECEIVING)

    def test_receiving_at_any_address(self):
        with self.refusing(**RECEIVING) as refusal:
            _, _, server = self.transfer(refusal, host="0.0.0.0", seen="127.0.0.1")
            self.check_counts(server, *RECEIVING)

    def through_proxy(self, refusal: Refusing, mode: str, *options: str,
                      **how) -> tuple[Counts, Counts, Counts]:
        """What client, proxy and target were refused."""
        with self.proxied(**how) as world:
            client = world.start(*options, mode=mode)
            outcome = client.finish()
            self.check_mode(mode, outcome)
            world.stop()
            return (refusal.counts(client.program), refusal.counts(world.proxy), refusal.counts(world.target))

    # The client's `mode`; what of each program is refused
    def check_proxied(self, mode: str, *kinds: str, **errors: int) -> None:
        for hosts in (("127.0.0.1", "127.0.0.2"), *((("::1", "::1"),) if net.has_ipv6() else ())):
            with self.refusing(**errors) as refusal:
                for options in ((), self.upload()):
                    for counts in self.through_proxy(refusal, mode, *options, hosts=hosts):
                        self.check_some(counts, *kinds)

    def check_some(self, counts: Counts, *kinds: str) -> None:
        """None of them was refused again once that was known."""
        self.assertGreater(counts.taken, 0)
        self.assertGreater(sum(counts.total[kind] for kind in kinds), 0, f"nothing was refused: {counts}")
        for kind in kinds:
            self.assertLessEqual(counts.most[kind], MOST, f"{kind} was tried again: {counts}")

    def test_proxy_forwards(self):
        self.check_proxied("forward", "GSO", "ECN", GSO=errno.EINVAL, ECN=errno.EINVAL)

    def test_proxy_tunnels(self):
        self.check_proxied("tunnel", "GSO", "ECN", GSO=errno.EOPNOTSUPP, ECN=errno.EPERM)

    def test_proxy_forwards_without_room(self):
        with self.refusing(GSO=errno.EINVAL, ROOM=7) as refusal:
            # What finds no room at the proxy is dropped, as on a full link.
            for counts in self.through_proxy(refusal, "forward"):
                self.assertLessEqual(counts.most["GSO"], MOST, counts)

    def test_proxy_receives(self):
        for mode in ("forward", "tunnel"):
            self.check_proxied(mode, *RECEIVING, **RECEIVING)

    def test_proxy_says_it_once(self):
        with self.refusing(GSO=errno.EINVAL, ECN=errno.EINVAL):
            with self.proxied(proxy=(*ALLOW, "--connect-udp-port-sharing=off")) as world:
                for client in [world.start() for _ in range(3)]:
                    client.finish()
                world.stop()
                self.said_once(world.proxy)

    def said_once(self, program: Program) -> None:
        lines = [line for line in program.log.read_text().splitlines()
                 if "disabling" in line or "refused" in line]
        self.assertTrue(lines)
        self.assertEqual(len(lines), len(set(lines)), lines)


if __name__ == "__main__":
    tap.main(SocketsTest)
