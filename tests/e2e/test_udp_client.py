#!/usr/bin/env python3
"""Our client, and UDP proxies that others have written: as they should be, and odd but harmless ones.  The download is
whole, or there is a message that says what the proxy has said.

    tests/e2e/test_udp_client.py --build build [--filter TEXT]
"""

import itertools
import os

import tap
from draft03_proxy import Draft03Proxy
from foreign import ForeignCase, Odd, adds, sends
from qpack import Fields
from quic_aware import CONFLICT, CidCapsule
from quic_packets import varint
from rfc9298 import DATAGRAM, LAST_QUARTER, capsule, datagram
from udp_proxy_server import Peer, Proxy
from udp_proxy_tunnel import Tunnel

REVISIONS = {"06": 6, "08": 8, "09": 9}
TRANSFORMS = ("identity", "scramble-dt")
NOBODY = b"nobody's"
# Of capsules that nobody knows
UNKNOWN = 0x2b


class ClientTest(ForeignCase):
    # One that does what it should

    def test_tunnelled(self):
        outcome, world = self.download(mode="tunnel")
        self.check_tunnelled(outcome, fallbacks=True)  # neither forwarding nor a shared port
        self.assertEqual((world.foreign.to_client["forwarded"], world.foreign.to_client["capsules"]), (0, 0))

    def test_capsules_only(self):
        """It sends no datagrams, and takes some; or negotiates none."""
        for option in ("--capsules", "--no-datagrams"):
            outcome, world = self.download(mode="tunnel", proxy=(option,))
            self.check_tunnelled(outcome, fallbacks=True)
            self.assertEqual(world.foreign.to_client["datagrams"], 0)
            self.assertGreater(outcome.stats["proxy"]["on_stream_rx"], 0)

    def test_capsules_and_forwarding(self):
        """What is not forwarded comes on the stream."""
        for option in ("--capsules", "--no-datagrams"):
            outcome, _ = self.download(proxy=(option,))
            self.check_forwarded(outcome)
            self.assertGreater(outcome.stats["proxy"]["on_stream_rx"], 0)

    def test_draft03(self):
        """A proxy of 2021; one without datagrams is not used."""
        with self.foreign(Draft03Proxy) as world:
            outcome = world.finish(world.start("--proxy-dialect=draft-03"))
        self.check_tunnelled(outcome, fallbacks=True)
        self.assertEqual(outcome.stats["proxy"]["dialect"], "draft-03")
        self.assertEqual((world.foreign.complaints, world.resets()), ([], []))
        self.assertEqual(dict(world.foreign.requests[0])[":path"], "/")
        with self.foreign(Draft03Proxy, "--no-datagrams") as world:
            self.assertIn("SETTINGS", world.fail(world.start("--proxy-dialect=draft-03")))
        self.assertEqual(world.foreign.requests, [])

    def test_no_transforms(self):
        """It knows connection IDs, and does not forward."""
        outcome, world = self.download(proxy=("--transforms=",))
        self.check_tunnelled(outcome, fallbacks=True)
        self.assertIn((9, "REGISTER_CLIENT_CID"), world.foreign.cids)
        self.assertNotIn((9, "ACK_CLIENT_VCID"), world.foreign.cids)

    def test_not_aware(self):
        """It knows nothing of the draft."""
        class Plain(Proxy):
            def answer(self, tunnel: Tunnel, address: str) -> Fields:
                return super().answer(tunnel, address)[:3]

            def on_capsule(self, tunnel: Tunnel, kind: int, value: bytes) -> bytes:
                return b""

        outcome, _ = self.download(Plain)
        self.check_tunnelled(outcome, fallbacks=True)

    def test_long_virtual_ids(self):
        """Longer than those that they stand for, up to what there can be: packets grow by that on their way."""
        for length, transform in itertools.product((20, 100, 255), TRANSFORMS):
            outcome, _ = self.download(Proxy, f"--proxy-transform={transform}", proxy=(f"--cid-length={length}",))
            self.check_forwarded(outcome)

    def test_rejected_target_id(self):
        for revision in REVISIONS:
            outcome, _ = self.download(Proxy, f"--proxy-revision={revision}", proxy=("--reject=TARGET",))
            self.assertEqual(outcome.stats["proxy"]["forwarded_tx"]["packets"], 0)

    def test_rejected_client_id(self):
        """It gives up; after others, if the reason is a conflict."""
        for revision in REVISIONS:
            with self.foreign(Proxy, "--reject=CLIENT") as world:
                said = world.fail(world.modern(f"--proxy-revision={revision}"))
            self.assertEqual(world.foreign.complaints, [])
            self.assertLessEqual(len(world.foreign.requests), 8)
            self.assertIn("proxy: ", said)

    def test_statuses(self):
        """What the proxy says of the reason is in the message."""
        for status, error in ((407, "http_request_denied"), (404, "http_request_error"),
                              (403, "destination_ip_prohibited"), (503, "connection_limit_reached"), (302, "")):
            class Refuses(Peer):
                def _refuse(self, number: int, status: int) -> None:
                    fields = [("proxy-status", f"foreign; error={error}")] if error else [("location", "https://x/")]
                    self.http.send_fields(number, [(":status", str(status)), *fields], fin=True)

            with self.foreign(type("Refusing", (Proxy,), {"peer": Refuses}), f"--status={status}") as world:
                said = world.fail(world.modern())
            self.assertIn(str(status), said)
            self.assertIn(error, said)
            self.assertEqual(len(world.foreign.requests), 1)

    def test_no_extended_connect(self):
        """auto asks as draft-00 does; rfc9298 says what is missing."""
        with self.foreign(Proxy, "--no-extended-connect") as world:
            said = world.fail(world.modern())
        self.assertEqual(world.foreign.requests, [])
        self.assertIn(f"proxy: {world.proxy_addr}: ", said)
        with self.foreign(Proxy, "--no-extended-connect") as world:
            self.assertIn("501", world.fail(world.start("--proxy-dialect=auto")))
        self.assertEqual(dict(world.foreign.requests[0])[":method"], "CONNECT-UDP")

    def test_auto(self):
        with self.foreign() as world:
            outcome = world.finish(world.start("--proxy-dialect=auto"))
        self.assertEqual(outcome.stats["proxy"]["dialect"], "rfc9298")
        self.check_forwarded(outcome)

    # What is odd, but does no harm

    def test_closes_target_id(self):
        """Revision 09: one that it has acknowledged.  The client goes on by the tunnel."""
        kind = adds("REGISTER_TARGET_CID", lambda tunnel, revision, cid: CidCapsule(
            "CLOSE_TARGET_CID", cid, reason=CONFLICT).write(revision))
        outcome, _ = self.download(kind)
        self.assertEqual(outcome.stats["proxy"]["forwarded_tx"]["packets"], 0)

    def test_never_answers_registrations(self):
        class Silent(Odd):
            def on_cid(self, tunnel: Tunnel, revision: int, what: CidCapsule, right: bytes) -> bytes:
                return b""

        for revision in REVISIONS:
            outcome, world = self.download(Silent, f"--proxy-revision={revision}")
            self.assertEqual(outcome.stats["proxy"]["forwarded_tx"]["packets"], 0)
            self.assertEqual(world.foreign.to_client["forwarded"], 0)

    def test_capsules_in_pieces(self):
        """Bytes in DATA frames of their own, and capsules in between that nobody knows"""
        class Pieces(Odd):
            def on_cid(self, tunnel: Tunnel, revision: int, what: CidCapsule, right: bytes) -> bytes:
                for byte in capsule(UNKNOWN, b"") + right + capsule((1 << 62) - 1, b"unknown"):
                    tunnel.send_bytes(bytes([byte]))
                return b""

        for revision in REVISIONS:
            outcome, _ = self.download(Pieces, f"--proxy-revision={revision}")
            self.check_forwarded(outcome)

    def test_unknown_capsule_without_end(self):
        """The rest of the stream is of no use; datagrams are."""
        outcome, _ = self.download(sends(varint(UNKNOWN), varint((1 << 62) - 1), bytes(64 << 10)))
        self.assertEqual(outcome.stats["proxy"]["forwarded_tx"]["packets"], 0)

    def test_capsules_of_other_revisions(self):
        """Nobody knows them either."""
        for (revision, _), (_, other) in itertools.permutations(REVISIONS.items(), 2):
            kind = sends(CidCapsule("ACK_CLIENT_CID", NOBODY).write(other),
                         CidCapsule("MAX_CONNECTION_IDS", maximum=0).write(other))
            self.check_forwarded(self.download(kind, f"--proxy-revision={revision}")[0])

    def test_datagrams_for_nobody(self):
        """Contexts and streams that are not known, and others' packets past the connection"""
        class Strays(Proxy):
            def on_target(self, tunnel: Tunnel, payload: bytes) -> None:
                if self.to_client.total() < 20:
                    send = tunnel.peer.connection.send_datagram
                    for data in (datagram(tunnel.stream, payload[:9], 2), datagram(tunnel.stream, b"", (1 << 62) - 1),
                                 datagram(tunnel.stream + 4, payload[:9]), datagram(4 * LAST_QUARTER, b"x")):
                        send(data)
                    tunnel.send_bytes(capsule(DATAGRAM, varint(2) + b"x"))
                    tunnel.forward(b"\x40" + os.urandom(60))
                super().on_target(tunnel, payload)

        outcome, _ = self.download(Strays)
        self.check_forwarded(outcome)
        dropped = outcome.stats["proxy"]["dropped"]
        for reason in ("unknown context", "unknown flow"):
            self.assertGreater(dropped[reason], 0, dropped)


def forwarded(revision: str, transform: str):
    def test(self: ClientTest) -> None:
        outcome, world = self.download(Proxy, f"--proxy-revision={revision}", f"--proxy-transform={transform}")
        self.check_forwarded(outcome)
        self.assertEqual({number for number, _ in world.foreign.cids}, {REVISIONS[revision]})
        self.assertGreater(world.foreign.to_client["forwarded"], 0)
        self.assertGreater(world.foreign.to_target["forwarded"], 0)

    return test


for revision, transform in itertools.product(REVISIONS, TRANSFORMS):
    setattr(ClientTest, f"test_forwarded_{revision}_{transform.replace('-', '_')}", forwarded(revision, transform))


if __name__ == "__main__":
    tap.main(ClientTest)
