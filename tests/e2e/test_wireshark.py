#!/usr/bin/env python3
"""The Wireshark dissector of examples/wireshark, on captures of what our programs say to each other: it shows what
they count and log.

    tests/e2e/test_wireshark.py --build DIR [--filter TEXT]
"""

import unittest
from collections import Counter
from pathlib import Path

import net
import qlog
import tap
import tshark
from procs import Program
from proxied import ALLOW, EXIT, Proxied
from proxy_case import SEED
from quic_packets import varint
from relay import Impairment, Relay
from rfc9298 import capsule
from transfer import TIMEOUT, Site
from tshark import Capture
from udp_client import UdpClient
from udp_target import LONG, Target, packet

CLEAR = (Impairment(), Impairment())
# Too narrow for tunnelled packets of 1200 bytes in datagrams
NARROW = (Impairment(mtu=1230), Impairment(mtu=1230))
# So slow that the client can move meanwhile, and so little on its way that it soon forwards again
SLOW = Impairment(rate=1_000_000, queue=1 << 20)
WINDOW = ("--max-data=64K", "--max-stream-data-bidi-local=64K")
SIZE = 100_000
FORWARDING = [("proxy-quic-forwarding", '?1;accept-transform="identity"')]
# What the proxy answers with, and whose packets begin with the virtual connection ID in it
ACKS = {"ACK_CLIENT_CID": "server", "ACK_TARGET_CID": "client"}


class World:
    """One download through a proxy, captured between the client and the proxy."""

    def __init__(self, case: "WiresharkCase", *options: str, mode: str = "forward", dialect: str = "rfc9298",
                 front: tuple[Impairment, Impairment] = CLEAR, site: Site | None = None):
        run = case.directory()
        keys = run / "keys"
        with Proxied(case.build, site or case.site, run, dialect=dialect, front=front, seed=SEED, qlog=True,
                     proxy=ALLOW, proxy_by=("env", f"SSLKEYLOGFILE={keys}"), pcap=run / "pcap") as world:
            client = world.start(*options, mode=mode)
            self.outcome = client.finish()
            self.proxy = world.stop()[0]["proxy"]
        self.target, self.proxy_port = world.target_addr, world.proxy_seen.port
        self.stats = self.outcome.stats["proxy"]
        self.inner = qlog.read(client.run / "qlog")
        self.capture = Capture(run / "pcap", keys, run)
        self.installed, self.without_keys = Capture(run / "pcap", keys, run, True), Capture(run / "pcap", None, run)

    def sender(self, port: int) -> str:
        return "server" if port == self.proxy_port else "client"

    def count(self, kind: str) -> Counter[str]:
        """How many there are of ngmasque.`kind`, by who sends them."""
        return Counter(self.sender(port) for port, _ in self.capture.trees(kind))

    def counted(self, kind: str) -> dict[str, tuple[int, int]]:
        """How many packets who receives them has counted, and how many who sends them: at the end of the client
        some may be on their way."""
        return {side: (to[f"{kind}_rx"]["packets"], by[f"{kind}_tx"]["packets"])
                for side, by, to in (("client", self.stats, self.proxy), ("server", self.proxy, self.stats))}

    def inner_ids(self) -> set[str]:
        """What the client's end of the inner connection begins with."""
        return {event["data"]["initial_source_connection_id"] for event in self.inner
                if event["name"] == "transport:parameters_set" and event["data"]["owner"] == "local"}


def hexadecimal(value: str) -> str:
    return value.replace(":", "")


@unittest.skipIf(tshark.missing(), tshark.missing() or "")
class WiresharkCase(unittest.TestCase):
    build: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.work = tap.temporary_directory(cls)
        cls.site, cls.large = Site(cls.work / "site", SIZE), Site(cls.work / "large", 4 * SIZE)

    def directory(self) -> Path:
        directory = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        directory.mkdir()
        return directory

    def check_messages(self, world: World, target: str, **others: str) -> None:
        """The requests and answers are there with their fields, which QPACK has compressed."""
        requests, responses = (world.capture.trees(kind) for kind in ("request", "response"))
        self.assertEqual({world.sender(port) for port, _ in requests}, {"client"})
        self.assertEqual({world.sender(port) for port, _ in responses}, {"server"})
        self.assertEqual([r["ngmasque.stream"] for _, r in requests], [r["ngmasque.stream"] for _, r in responses])
        for _, request in requests:
            fields = dict(text.split(": ", 1) for text in request["ngmasque.field"])
            self.assertIn(target, fields.values())
            for name, value in others.items():
                self.assertEqual(fields[f":{name}"], value)
        for _, response in responses:
            self.assertIn(":status: 200", response["ngmasque.field"])

    def check_counts(self, world: World) -> None:
        """Nothing is lost on the way: each packet that is counted is in the capture, and no other."""
        self.assertTrue(world.outcome.sha256_ok)
        for kind, name in (("datagram", "tunnelled"), ("forwarded", "forwarded")):
            shown = world.count(kind)
            for side, (least, most) in world.counted(name).items():
                self.assertTrue(least <= shown[side] <= most, f"{side} {name}: {shown}, {least} to {most}")

    def check_first_ids(self, world: World, kind: str = "datagram") -> None:
        """What the inner client calls itself stands in its first packet, which is tunnelled."""
        shown = {hexadecimal(value) for _, tree in world.capture.trees(kind)
                 for value in tshark.values(tree, "inner.scid")}
        self.assertTrue(world.inner_ids() <= shown, (world.inner_ids(), shown))

    def check_capsules(self, world: World, revision: str) -> None:
        capsules = [(world.sender(port), tree) for port, tree in world.capture.trees("capsule")]
        names = Counter(tree["ngmasque.capsule"] for _, tree in capsules)
        for name in ("REGISTER_CLIENT_CID", "REGISTER_TARGET_CID", "MAX_CONNECTION_IDS", "ACK_CLIENT_VCID", *ACKS):
            self.assertGreater(names[name], 0, names)
        self.assertEqual({tree["ngmasque.capsule.revision"] for _, tree in capsules}, {revision})
        self.assertFalse([tree for _, tree in capsules if "ngmasque.capsule.malformed" in tree])
        registered = {hexadecimal(tree["ngmasque.capsule.connection_id"]) for _, tree in capsules
                      if tree["ngmasque.capsule"] == "REGISTER_CLIENT_CID"}
        self.assertTrue(world.inner_ids() <= registered)
        reasons = [tree.get("ngmasque.capsule.reason") for _, tree in capsules
                   if tree["ngmasque.capsule"] == "REGISTER_CLIENT_CID"]
        self.assertEqual(set(reasons), {None} if revision == "06" else {"0"})
        # Each forwarded packet has a virtual connection ID that the proxy has chosen, of this direction.
        pairs = {(ACKS[name], hexadecimal(tree["ngmasque.capsule.virtual_connection_id"]),
                  hexadecimal(tree["ngmasque.capsule.connection_id"]))
                 for _, tree in capsules if (name := tree["ngmasque.capsule"]) in ACKS}
        for port, packet in world.capture.trees("forwarded"):
            self.assertIn((world.sender(port), hexadecimal(packet["ngmasque.forwarded.connection_id"]),
                           packet["ngmasque.forwarded.original"]), pairs)

    def transforms(self, world: World) -> set[str]:
        return {packet["ngmasque.forwarded.transform"] for _, packet in world.capture.trees("forwarded")}

    def check_modern(self, revision: str) -> World:
        world = World(self, f"--proxy-revision={revision}")
        self.check_messages(world, f"/.well-known/masque/udp/{world.target.host}/{world.target.port}/",
                            method="CONNECT", protocol="connect-udp")
        self.check_counts(world)
        self.check_first_ids(world)
        self.check_capsules(world, revision)
        names = Counter(tree["ngmasque.capsule"] for _, tree in world.capture.trees("capsule"))
        self.assertEqual(names["REGISTER_CLIENT_CID"], names["ACK_CLIENT_CID"], names)
        self.assertEqual(self.transforms(world), {"scramble-dt"})
        self.assertEqual({tree["ngmasque.context_id"] for _, tree in world.capture.trees("datagram")}, {"0"})
        return world

    def test_revision_09(self):
        world = self.check_modern("09")
        # Wireshark dissects a packet again when it is looked at.
        columns = "frame.number", "ngmasque.capsule", "ngmasque.forwarded.original"
        once, twice = (capture.fields("ngmasque", *columns, options=options)
                       for capture, options in ((world.capture, ()), (world.installed, ("-2",))))
        self.assertEqual(once, twice)
        # What cannot be decrypted is not guessed at.
        self.assertEqual(world.without_keys.fields("ngmasque", "frame.number"), [["1"]],
                         "the transport parameter of the first packet, which anybody can read")

    def test_revision_08(self):
        self.check_modern("08")

    def test_revision_06(self):
        self.check_modern("06")

    def test_draft_00(self):
        world = World(self, dialect="draft-00")
        self.check_messages(world, str(world.target), method="CONNECT-UDP")
        self.check_counts(world)
        self.check_first_ids(world)
        self.assertEqual({tree["ngmasque.flow_id"] for _, tree in world.capture.trees("datagram")}, {"0"})
        # A connection ID is the same on both sides of the proxy, and in a field of the request.
        forwarded = world.capture.trees("forwarded")
        self.assertGreater(len(forwarded), 0)
        for _, packet in forwarded:
            self.assertEqual(hexadecimal(packet["ngmasque.forwarded.connection_id"]),
                             packet["ngmasque.forwarded.original"])
        # The first client connection ID, and one of the server's, at least
        self.assertGreaterEqual(len({packet["ngmasque.forwarded.original"] for _, packet in forwarded}), 2)

    def test_narrow_path(self):
        """What fits no datagram is on the stream: in DATAGRAM capsules, or with a length before it."""
        for dialect, kind in (("rfc9298", "capsule"), ("draft-00", "stream_payload")):
            world = World(self, mode="tunnel", dialect=dialect, front=NARROW)
            self.assertTrue(world.outcome.sha256_ok)
            on_stream = Counter(world.sender(port) for port, tree in world.capture.trees(kind)
                                if tree.get("ngmasque.capsule", "") in ("", "DATAGRAM"))
            self.assertEqual(on_stream, {"client": world.stats["on_stream_tx"], "server": world.stats["on_stream_rx"]})
            self.assertGreater(on_stream["client"], 0)
            self.assertEqual(world.count("forwarded"), Counter())
            self.assertEqual({tree["ngmasque.dialect"] for _, tree in world.capture.trees("datagram")}, {dialect})
            self.check_first_ids(world, kind)

    def test_client_moves(self):
        """Forwarded packets are known on the client's other address, too."""
        for dialect in ("rfc9298", "draft-00"):
            world = World(self, *WINDOW, "--change-local-addr=20ms", dialect=dialect, site=self.large,
                          front=(Impairment(), SLOW))
            self.assertTrue(world.outcome.sha256_ok)
            ports = {port for port, _ in world.capture.trees("forwarded")} - {world.proxy_port}
            self.assertEqual(len(ports), 2, dialect)
            self.check_counts(world)

    def test_bad_network(self):
        """Lost, late and doubled packets: streams are put in order, and none is read twice."""
        bad = Impairment(delay=2, loss=0.05, duplicate=0.1, reorder=0.1)
        world = World(self, "--proxy-transform=identity", front=(bad, bad))
        self.check_capsules(world, "09")
        self.assertEqual(self.transforms(world), {"identity"})
        self.assertEqual(len(world.capture.trees("request")), 1)

    def test_malformed(self):
        """What breaks a rule is shown as that, and what comes after it as ever."""
        wrong = {  # cut off, or with more in it than belongs there
            "REGISTER_TARGET_CID": (0xffe801, b"\0\x08cid"), "MAX_CONNECTION_IDS": (0xffe809, b"\x05\0"),
            "ACK_CLIENT_VCID": (0xffe803, b""), "CLOSE_TARGET_CID": (0xffe808, b"\x40")}
        run, text = self.directory(), packet(LONG, b"target-id", b"")
        with (Proxied(self.build, self.site, run, proxy_by=("env", f"SSLKEYLOGFILE={run}/keys"), target_runs=False,
                      front=CLEAR, pcap=run / "pcap") as world,
              Target() as target, UdpClient(world.proxy_seen) as client):
            client.check_settings()
            for kind, value in wrong.values():
                tunnel = client.connect(*target.addr, FORWARDING)
                self.assertEqual(tunnel.status(), 200)
                tunnel.send_bytes(capsule(kind, value))
                tunnel.wait_ended()
            last = client.connect(*target.addr, FORWARDING)
            self.assertEqual(last.status(), 200)
            last.send_bytes(capsule(0x17, b"unknown"))
            last.send(b"to a context that nobody knows", context=4)
            last.send_capsule(text)
            self.assertEqual(target.receive(client), text)
        capture = Capture(run / "pcap", run / "keys", run)
        shown = [tree for _, tree in capture.trees("capsule")]
        self.assertEqual([tree["ngmasque.capsule"] for tree in shown if "ngmasque.capsule.malformed" in tree], [*wrong])
        self.assertEqual([hexadecimal(tree["ngmasque.payload"]) for tree in shown
                          if tree["ngmasque.capsule"] == "DATAGRAM"], [text.hex()])
        self.assertEqual([tree["ngmasque.context_id"] for _, tree in capture.trees("datagram")], ["4"])
        self.assertEqual([len(capture.trees(kind)) for kind in ("request", "response")], [len(wrong) + 1] * 2)

    def test_unknown_frame(self):
        """What is behind it is not read, though it looks like a datagram; it is said where reading ends."""
        behind = b"\x31\x03\0\0x"
        run = self.directory()
        with (Proxied(self.build, self.site, run, proxy_by=("env", f"SSLKEYLOGFILE={run}/keys"), target_runs=False,
                      front=CLEAR, pcap=run / "pcap") as world, UdpClient(world.proxy_seen) as client):
            client.check_settings()
            client.connection._control(varint(0x4bad) + behind)
            client.wait(lambda: client.connection.closed is not None, "the proxy takes such a frame")
        capture = Capture(run / "pcap", run / "keys", run)
        (port, tree), = capture.trees("unknown_frame")
        self.assertNotEqual(port, world.proxy_seen.port)
        self.assertEqual(int(tree["ngmasque.unknown_frame"], 16), 0x4bad)
        self.assertGreaterEqual(int(tree["ngmasque.unknown_frame.unread"]), len(behind))
        self.assertEqual(capture.trees("datagram"), [])
        self.assertEqual(len(capture.fields("ngmasque.no_frames.unknown", "frame.number")), 1)

    def test_server_moves(self):
        """SERVER_ALTERNATE_ADDRESS: as the server's qlog has it."""
        run = self.directory()
        first, other, seen = net.free_addrs("127.0.0.1", "127.0.0.2", "127.0.0.1")
        (run / "qlog").mkdir()
        server = Program(
            ["env", f"SSLKEYLOGFILE={run}/keys", self.build / "examples" / "gtlsserver", "--quiet",
             f"--htdocs={self.site.htdocs}", f"--qlog-dir={run}/qlog", f"--alternate-addr={other}",
             "--migrate-after=0s", first.host, str(first.port), *self.site.certificate],
            run / "server.log", "gtlsserver")
        with server, Relay(seen, first, pcap=run / "pcap"):
            server.wait_bound([first, other])
            client = Program(
                [self.build / "examples" / "gtlsclient", "--quiet", EXIT, "--no-quic-dump", "--no-http-dump",
                 "--enable-server-migration", seen.host, str(seen.port), f"https://localhost/{self.site.file.name}"],
                run / "client.log", "gtlsclient")
            with client:
                self.assertEqual(client.wait(TIMEOUT), 0)
            server.stop()
        sent = {(frame["sequence_number"], frame["ip_v4"], frame["port_v4"], frame["connection_id"],
                 frame["stateless_reset_token"]["data"])
                for event in qlog.read(run / "qlog") if event["name"] == "transport:packet_sent"
                for frame in event["data"]["frames"] if frame["frame_type"] == "server_alternate_address"}
        capture = Capture(run / "pcap", run / "keys", run)
        shown = set()
        for _, frame in capture.trees("alternate"):
            ipv4 = bytes(map(int, frame["ngmasque.alternate.ipv4"].split("."))).hex()
            shown.add((int(frame["ngmasque.alternate.sequence"]), ipv4, int(frame["ngmasque.alternate.ipv4_port"]),
                       hexadecimal(frame["ngmasque.alternate.connection_id"]),
                       hexadecimal(frame["ngmasque.alternate.token"])))
            self.assertEqual((frame["ngmasque.alternate.ipv6"], frame["ngmasque.alternate.ipv6_port"]), ("::", "0"))
        self.assertTrue(shown)
        self.assertTrue(shown <= sent, (shown, sent))
        self.assertEqual(len(capture.fields("ngmasque.no_frames.alternate", "frame.number")),
                         len(capture.fields("ngmasque.alternate", "frame.number")))
        self.assertEqual(capture.fields("ngmasque.unknown_frame", "frame.number"), [])
        # The client says that it is willing, in its first packet.
        self.assertEqual(capture.fields("ngmasque.parameter", "frame.number"), [["1"]])


if __name__ == "__main__":
    tap.main(WiresharkCase)
