#!/usr/bin/env python3
"""The entry point for interoperability runners, tests/interop/runner: each test case with both ends ours, and what
shows that it was this case and no other.

    tests/e2e/test_runner.py --build DIR [--filter TEXT]
"""

import re
import unittest
from pathlib import Path

import certs
import qlog
import tap
from endpoint import TIMEOUT, Case, Endpoint, RunnerSite
from proxy_case import SEED
from relay import Impairment

SIZES = {"first": 5_000, "second": 60_000, "third": 300_000}
LARGE = {"one": 1_000_000, "two": 800_000, "three": 600_000}
# Bytes per second at which a download takes long enough for what happens in it
SLOW = Impairment(delay=5, rate=4_000_000)
# ... that what comes next is in the middle of it, however busy the machine is
SLOWER = Impairment(delay=5, rate=2_000_000, queue=1 << 20)
# ... that what a full queue has lost is sent again in the middle of it
MOVING = Impairment(delay=5, rate=2_000_000)
SENT, RECEIVED = "transport:packet_sent", "transport:packet_received"
V2 = "0x6b3343cf"


class RunnerCase(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.work = tap.temporary_directory(cls)
        cls.certs = cls.make_certificate("certs")
        # As they are in the container: all in one folder
        cls.programs = cls.work / "programs"
        cls.programs.mkdir()
        for program in ("gtlsclient", "gtlsserver", "hq/gtlshqclient", "hq/gtlshqserver"):
            (cls.programs / Path(program).name).symlink_to(cls.build / "examples" / program)
        cls.site = RunnerSite(cls.work / "small", cls.certs, SIZES)
        cls.large = RunnerSite(cls.work / "large", cls.certs, LARGE)

    @classmethod
    def make_certificate(cls, name: str, names: list[str] = []) -> Path:
        """A folder with it, and its key, as the container has it."""
        folder = cls.work / name
        folder.mkdir()
        certs.make(folder, names).key.rename(folder / "priv.key")
        return folder

    def case(self, name: str, site: RunnerSite | None = None, **how) -> Case:
        run = self.work / f"{self._testMethodName}-{name}"
        run.mkdir()
        return Case(self.programs, run, site or self.site, name, seed=SEED, **how)

    def simple(self, name: str, *names: str, connections: int = 1, **how: object) -> Case:
        """A case in which nothing happens but the downloads, until its end."""
        with self.case(name, **how) as case:
            case.start(*names)
            case.finish()
        for role in ("client", "server"):
            self.assertEqual(len(case.events(role)), connections, f"connections in the qlog of the {role}")
        return case

    def check_http(self, case: Case, alpn: str) -> None:
        for role in ("client", "server"):
            self.assertEqual(set(re.findall(r"Negotiated ALPN is (\S+)", case.log(role))), {alpn})

    def test_handshake(self):
        case = self.simple("handshake", "first")
        self.check_http(case, "hq-interop")
        self.assertNotIn("retry", qlog.packets(case.events("client")[0], RECEIVED))

    def test_longrtt(self):
        case = self.simple("longrtt", "first", up=Impairment(delay=150), down=Impairment(delay=150))
        # There is no sample below what the way takes.
        smoothed = [event["data"]["min_rtt"] for event in case.events("client")[0]
                    if event["name"] == "recovery:metrics_updated" and "min_rtt" in event["data"]]
        self.assertGreaterEqual(min(smoothed), 300)

    def test_transfer(self):
        case = self.simple("transfer", site=self.large, down=SLOW)
        sent = qlog.frames(case.events("client")[0], SENT)
        self.assertGreater(sent["max_data"], 0, sent)
        self.assertGreater(sent["max_stream_data"], 0, sent)
        self.check_at_once(case)

    def check_at_once(self, case: Case) -> None:
        """All files have been asked for before there is one."""
        asked, complete = set(), set()
        for event in case.events("client")[0]:
            for frame in event["data"].get("frames", []):
                if frame["frame_type"] != "stream" or frame["stream_id"] % 4 != 0:
                    continue
                elif event["name"] == SENT and not complete:
                    asked.add(frame["stream_id"])
                elif event["name"] == RECEIVED and frame.get("fin"):
                    complete.add(frame["stream_id"])
        self.assertEqual(len(asked), len(case.site.sha256))
        self.assertEqual(complete, asked)

    def test_multiplexing(self):
        self.check_at_once(self.simple("multiplexing"))

    def test_multiconnect(self):
        lossy = Impairment(loss=0.1)
        self.simple("handshakeloss", connections=len(SIZES), up=lossy, down=lossy)

    def test_retry(self):
        case = self.simple("retry", "first")
        events = case.events("client")[0]
        self.assertEqual(qlog.packets(events, RECEIVED)["retry"], 1)
        self.assertIn("retry_source_connection_id", str([e for e in events if e["name"] == "transport:parameters_set"]))
        self.assertIn("Verifying Retry token", case.log("server"))
        self.assertIn("Token was successfully validated", case.log("server"))

    def certificate_sent(self, events: list[dict]) -> int:
        """Bytes of the server's flight that is encrypted: its certificate is most of them, if there is one."""
        return max(frame["offset"] + frame["length"] for event in events
                   if event["name"] == RECEIVED and event["data"]["header"]["packet_type"] == "handshake"
                   for frame in event["data"]["frames"] if frame["frame_type"] == "crypto")

    def check_resumed(self, case: Case) -> None:
        first, second = (self.certificate_sent(events) for events in case.events("client"))
        certificate = len((self.certs / "cert.pem").read_text()) // 2
        self.assertGreater(first, certificate)
        self.assertLess(second, certificate, "a resumed handshake has no certificate")

    def test_resumption(self):
        case = self.simple("resumption", connections=2)
        self.check_resumed(case)
        for events in case.events("client"):
            self.assertNotIn("0RTT", qlog.packets(events, SENT))

    def test_zerortt(self):
        case = self.simple("zerortt", connections=2)
        self.check_resumed(case)
        first, second = case.events("client")
        self.assertNotIn("0RTT", qlog.packets(first, SENT))
        requested = {frame["stream_id"] for event in second
                     if event["name"] == SENT and event["data"]["header"]["packet_type"] == "0RTT"
                     for frame in event["data"]["frames"] if frame["frame_type"] == "stream"}
        self.assertEqual(len(requested), len(SIZES) - 1)
        self.assertGreater(sum(qlog.packets(events, RECEIVED)["0RTT"] for events in case.events("server")), 0)

    def test_chacha20(self):
        case = self.simple("chacha20")
        for role in ("client", "server"):
            ciphers = re.findall(r"Negotiated cipher suite is (\S+)", case.log(role))
            self.assertEqual(set(ciphers), {"CHACHA20-POLY1305"})

    def test_keyupdate(self):
        case = self.simple("keyupdate", site=self.large, down=SLOW)
        self.assertIn("Initiate key update", case.log("client"))
        for role in ("client", "server"):  # packets of the other key phase, from both
            self.assertRegex(case.log(role), r"pkt rx pkn=\d+ dcid=\w+ type=1RTT k=1")

    def test_v2(self):
        case = self.simple("v2")
        for role in ("client", "server"):
            self.assertEqual(set(re.findall(r"the negotiated version is (\S+)", case.log(role))), {V2})

    def test_ecn(self):
        case = self.simple("ecn")
        for role in ("client", "server"):
            marked = [frame for event in case.events(role)[0] if event["name"] == RECEIVED
                      for frame in event["data"]["frames"] if frame.get("ect0", 0) > 0]
            self.assertTrue(marked, f"the {role} is told of no marks")

    def test_http3(self):
        self.check_http(self.simple("http3"), "h3")

    def test_amplificationlimit(self):
        """A long certificate: the server stops at three times what has come, until more comes."""
        chain = self.make_certificate("chain", [f"{number}.{'long' * 10}.example" for number in range(100)])
        site = RunnerSite(self.work / "amplification", chain, {"first": SIZES["first"]})
        case = self.simple("amplificationlimit", site=site, down=Impairment(delay=20), up=Impairment(delay=20))
        got = sent = 0
        for event in case.events("server")[0]:
            size = event["data"].get("raw", {}).get("length", 0)
            if event["name"] == RECEIVED and event["data"]["header"]["packet_type"] == "handshake":
                break
            got, sent = got + size * (event["name"] == RECEIVED), sent + size * (event["name"] == SENT)
        self.assertGreater(sent, 0)
        self.assertLessEqual(sent, 3 * got)
        self.assertGreater(self.certificate_sent(case.events("client")[0]), 3 * got, "it had more to say")

    def downloading(self, case: Case) -> None:
        """In the middle of it."""
        case.start()
        case.wait_received(sum(LARGE.values()) // 16)
        self.assertLess(case.received(), sum(LARGE.values()) // 2)

    def check_rebinding(self, name: str, source: str) -> None:
        with self.case(name, self.large, down=SLOWER) as case:
            self.downloading(case)
            case.relay.rebind(source)
            case.finish()
        server = case.stats("server")
        self.assertEqual(server["connections"], 1)
        clients = {path["remote"].rpartition(":")[::2] for path in server["paths"] if path["packets_received"]}
        self.assertEqual(len({port for _, port in clients}), 2, clients)
        self.assertEqual({host for host, _ in clients}, {"127.0.0.1", source or "127.0.0.1"})
        self.assertGreater(qlog.frames(case.events("server")[0], SENT)["path_challenge"], 0)

    def test_rebind_port(self):
        self.check_rebinding("rebind-port", "")

    def test_rebind_addr(self):
        self.check_rebinding("rebind-addr", "127.0.0.3")

    def test_blackhole(self):
        with self.case("blackhole", self.large, down=SLOWER) as case:
            self.downloading(case)
            for way in ("up", "down"):
                case.relay.blackhole(way)
            # Not a probe of the path's MTU alone, whose loss is none
            while case.relay.counts()["up"]["lost"] < 1 or case.relay.counts()["down"]["lost"] < 5:
                self.assertIsNone(case.client.status)
            for way in ("up", "down"):
                case.relay.blackhole(way, on=False)
            case.finish()
        self.assertGreater(len([e for e in case.events("server")[0] if e["name"] == "recovery:packet_lost"]), 0)

    def test_connectionmigration(self):
        with self.case("connectionmigration", self.large) as case:
            case.start()
            case.finish()
        paths = {path["remote"]: path["packets_received"] for path in case.stats("client")["paths"]}
        self.assertGreater(paths.get(str(case.other), 0), 0, paths)

    def test_serveraltaddr(self):
        with self.case("serveraltaddr", self.large, down=MOVING) as case:
            case.start()
            case.finish()
        self.assertGreater(case.stats("server")["server_migrations"], 0)
        self.assertIn(str(case.other), {path["remote"] for path in case.stats("client")["paths"]})

    def proxied(self, name: str) -> tuple[dict, dict]:
        """What the target and the proxy have counted."""
        with self.case(name, self.large, down=MOVING) as case:
            case.start()
            case.finish()
        target, proxy = case.stats("server", "target"), case.stats("server")["proxy"]
        self.assertEqual(target["connections"], 1)
        self.assertEqual(proxy["refused"], {})
        return target, proxy

    def test_connectudp(self):
        _, proxy = self.proxied("connectudp")
        self.assertGreater(proxy["tunnelled_tx"]["packets"], 0)
        self.assertEqual((proxy["forwarded_tx"]["packets"], proxy["forwarded_rx"]["packets"]), (0, 0))

    def test_forwarded(self):
        _, proxy = self.proxied("forwarded")
        self.assertGreater(min(proxy["forwarded_tx"]["packets"], proxy["forwarded_rx"]["packets"]), 0)

    def test_both(self):
        target, proxy = self.proxied("both")
        self.assertGreater(min(proxy["forwarded_tx"]["packets"], proxy["forwarded_rx"]["packets"]), 0)
        self.assertGreater(target["server_migrations"], 0)

    def ends(self, role: str, case: str, **variables: str | Path) -> tuple[int, str]:
        log = self.work / f"{role}-{case}.txt"
        with Endpoint(role, case, log, LOGS=self.work / "logs", QLOGDIR=self.work / "logs", **variables) as endpoint:
            return endpoint.wait(TIMEOUT), log.read_text()

    def test_unknown_case(self):
        for role in ("client", "server"):
            self.assertEqual(self.ends(role, "versionnegotiation", PROGRAMS=self.programs)[0], 127)

    def test_program_is_missing(self):
        """That is no case which is not known."""
        for role in ("client", "server"):
            status, said = self.ends(role, "handshake", PROGRAMS=self.work)
            self.assertEqual(status, 1)
            self.assertIn("gtlshqclient", said)

    def test_nobody_there(self):
        with self.case("handshake", CLIENT_PARAMS="--handshake-timeout=1s") as case:
            case.relay.blackhole("up")
            self.assertEqual(case.start("first").wait(TIMEOUT), 1)

    def test_parameters(self):
        case = self.simple("http3", "first", SERVER_PARAMS="--timeout=6s",
                           CLIENT_PARAMS="--timeout=7s --max-streams-uni=33")
        for role, idle in (("client", 6000), ("server", 7000)):
            self.assertIn(f"remote transport_parameters max_idle_timeout={idle}", case.log(role))
        self.assertIn("remote transport_parameters initial_max_streams_uni=33", case.log("server"))


if __name__ == "__main__":
    tap.main(RunnerCase)
