#!/usr/bin/env python3
"""Our client, and UDP proxies that do what they must not.  The client ends, and the proxy sees with what code.

    tests/e2e/test_udp_client_wrong.py --build build [--filter TEXT]
"""

import itertools
import os

import tap
from foreign import ForeignCase, acknowledges, adds, sends
from proxy_client import MESSAGE_ERROR, REQUEST_CANCELLED
from qpack import Fields
from quic_aware import CidCapsule, forwarding_field
from quic_packets import varint
from rfc9298 import DATAGRAM, H3_DATAGRAM, H3_DATAGRAM_ERROR, LAST_QUARTER, MAX_PAYLOAD, capsule
from udp_proxy_server import Proxy
from udp_proxy_tunnel import Tunnel

REVISIONS = {"06": 6, "08": 8, "09": 9}
NOBODY = b"nobody's"
# Of a capsule that nobody knows
UNKNOWN = 0x2b
SETTINGS_ERROR = 0x109
# A client may close its whole connection before its stream is reset: how often it is asked until that is seen.
TRIES = 30


class WrongTest(ForeignCase):
    def check_resets(self, kind: type[Proxy], code: int, revision: str = "09", what: str = "", *options: str) -> None:
        """The client ends with a message, after it has reset its stream with that code."""
        resets: list[int] = []
        for _ in range(TRIES):
            with self.foreign(kind) as world:
                said = world.fail(world.modern(f"--proxy-revision={revision}", *options))
            self.assertEqual(world.foreign.complaints, [], what)
            self.assertEqual(len(world.foreign.requests), 1, what)
            self.assertIn(f"proxy: {world.target_addr}: ", said, what)
            if resets := world.resets():
                break
        self.assertEqual(resets, [code], what or said)

    def test_wrong_setting(self):
        class Two(Proxy):
            def settings(self) -> dict[int, int]:
                return super().settings() | {H3_DATAGRAM: 2}

        with self.foreign(Two) as world:
            self.assertIn("proxy: ", world.fail(world.modern()))
        self.assertEqual((world.foreign.requests, world.close_codes()), ([], [SETTINGS_ERROR]))

    # Answers that are wrong

    def test_transform_not_offered(self):
        for transform, key in (("identity", None), ("unheard-of", None), ("scramble-dt,identity", os.urandom(32))):
            class Other(Proxy):
                def answer(self, tunnel: Tunnel, address: str) -> Fields:
                    return [*super().answer(tunnel, address)[:3], forwarding_field([transform], key, response=True)]

            self.check_resets(Other, REQUEST_CANCELLED, "09", transform, "--proxy-transform=scramble-dt")

    def test_scramble_without_key(self):
        """Nothing is forwarded."""
        for key in (None, b"", os.urandom(31), os.urandom(33)):
            class NoKey(Proxy):
                def answer(self, tunnel: Tunnel, address: str) -> Fields:
                    tunnel.ids._transform = None  # There are no virtual connection IDs then.
                    return [*super().answer(tunnel, address)[:3], forwarding_field(["scramble-dt"], key, response=True)]

            outcome, _ = self.download(NoKey)
            self.check_tunnelled(outcome, fallbacks=True)

    def test_malformed_answers(self):
        for wrong in (("transfer-encoding", "chunked"), ("content-type", "text/plain"),
                      ("Upper", "case")):
            class Answers(Proxy):
                def answer(self, tunnel: Tunnel, address: str) -> Fields:
                    return [*super().answer(tunnel, address), wrong]

            self.check_resets(Answers, MESSAGE_ERROR, what=wrong[0])
        for status in ("204", "205", "206", "abc", "99"):
            class Status(Proxy):
                def answer(self, tunnel: Tunnel, address: str) -> Fields:
                    return [(":status", status), *super().answer(tunnel, address)[1:]]

            self.check_resets(Status, MESSAGE_ERROR, what=status)

    # Capsules that are wrong

    def test_acknowledges_nothing(self):
        for name, (revision, number) in itertools.product(("CLIENT", "TARGET"), REVISIONS.items()):
            ack = CidCapsule(f"ACK_{name}_CID", NOBODY, os.urandom(8)).write(number)
            self.check_resets(sends(ack), H3_DATAGRAM_ERROR, revision, name)

    def test_acknowledges_twice(self):
        for name in ("CLIENT", "TARGET"):
            kind = adds(f"REGISTER_{name}_CID", lambda tunnel, revision, cid: CidCapsule(
                f"ACK_{name}_CID", cid, os.urandom(20)).write(revision))
            self.check_resets(kind, H3_DATAGRAM_ERROR, what=name)

    def test_wrong_maximum(self):
        """Not above the one before, or less than there must be"""
        for (revision, number), maxima in itertools.product(REVISIONS.items(), ((10, 9), (10, 10), (2,), (0,))):
            if number == 6 and maxima == (10, 10) or number == 6 and maxima == (2,):
                continue  # The revision does not forbid it.
            capsules = [CidCapsule("MAX_CONNECTION_IDS", maximum=n).write(number) for n in maxima]
            self.check_resets(sends(*capsules), H3_DATAGRAM_ERROR, revision, f"{revision} {maxima}")

    def test_refuses_what_it_has_acknowledged(self):
        for revision, how, side in (("08", "CLOSE", "CLIENT"), ("08", "CLOSE", "TARGET"),
                                    ("09", "REJECT", "CLIENT"), ("09", "REJECT", "TARGET")):
            kind = adds(f"REGISTER_{side}_CID", lambda tunnel, revision, cid: CidCapsule(
                f"{how}_{side}_CID", cid).write(revision))
            self.check_resets(kind, H3_DATAGRAM_ERROR, revision, f"{revision} {how}_{side}_CID")

    def test_rejects_nothing(self):
        for side in ("CLIENT", "TARGET"):
            self.check_resets(sends(CidCapsule(f"REJECT_{side}_CID", NOBODY).write(9)), H3_DATAGRAM_ERROR, what=side)

    def test_capsules_of_clients(self):
        for (revision, number), name in itertools.product(
                REVISIONS.items(), ("REGISTER_CLIENT_CID", "REGISTER_TARGET_CID", "ACK_CLIENT_VCID")):
            self.check_resets(sends(CidCapsule(name, NOBODY).write(number)), H3_DATAGRAM_ERROR, revision, name)

    def test_malformed_capsules(self):
        ack = CidCapsule("ACK_CLIENT_CID", NOBODY, os.urandom(8)).write(9)
        for data in (capsule(0xffe802, b"\x05"), capsule(0xffe802, b""), capsule(0xffe802, ack[5:] + b"more"),
                     capsule(0xffe809, b"\x40"), capsule(0xffe804, b"\1x\x08" + bytes(8) + b"\x0f" + bytes(15))):
            self.check_resets(sends(data), MESSAGE_ERROR, what=data.hex())

    def test_payload_too_long(self):
        self.check_resets(sends(capsule(DATAGRAM, b"\0" + bytes(MAX_PAYLOAD + 1))), H3_DATAGRAM_ERROR)

    def test_cut_off(self):
        """The stream ends in a capsule."""
        class CutsOff(Proxy):
            def opened(self, tunnel: Tunnel) -> None:
                tunnel.send_bytes(varint(UNKNOWN) + varint(1000), fin=True)

        self.check_resets(CutsOff, MESSAGE_ERROR)

    def test_ends(self):
        """The stream ends, as if nothing was wrong."""
        class Ends(Proxy):
            def opened(self, tunnel: Tunnel) -> None:
                tunnel.send_bytes(b"", fin=True)

        with self.foreign(Ends) as world:
            self.assertIn("the proxy has ended the tunnel", world.fail(world.modern()))

    # Virtual connection IDs

    def test_virtual_id_too_short(self):
        self.check_resets(acknowledges(lambda tunnel, cid: os.urandom(len(cid) - 1)), H3_DATAGRAM_ERROR)

    def test_virtual_id_without_forwarding(self):
        class Virtual(acknowledges(lambda tunnel, cid: os.urandom(20))):
            def answer(self, tunnel: Tunnel, address: str) -> Fields:
                return [*super().answer(tunnel, address)[:3], forwarding_field([], None, response=True),
                        ("proxy-quic-port-sharing", "?1")]

        self.check_resets(Virtual, H3_DATAGRAM_ERROR)

    def test_virtual_id_in_conflict(self):
        """With one of the connection to the proxy: the client must be able to tell its packets apart.  It begins anew a
        few times, and gives up."""
        def outer(tunnel: Tunnel) -> bytes:
            return tunnel.peer.connection.peer_cids[tunnel.peer.connection.peer_cid]

        for virtual in (outer, lambda tunnel: outer(tunnel) + os.urandom(4)):
            with self.foreign(acknowledges(lambda tunnel, cid: virtual(tunnel).ljust(len(cid), b"x"))) as world:
                said = world.fail(world.modern())
            self.assertIn(f"proxy: {world.target_addr}: ", said)
            self.assertNotIn((9, "ACK_CLIENT_VCID"), world.foreign.cids)
            self.assertEqual(world.foreign.complaints, [])
            self.assertGreater(len(world.foreign.requests), 1)
            self.assertLess(len(world.foreign.requests), 8)

    def test_virtual_id_in_conflict_once(self):
        """The next one is taken."""
        def virtual(tunnel: Tunnel, cid: bytes) -> bytes | None:
            connection = tunnel.peer.connection
            outer = connection.peer_cids[connection.peer_cid]
            return outer.ljust(len(cid), b"x") if len(tunnel.peer.proxy.requests) == 1 else None

        with self.foreign(acknowledges(virtual)) as world:
            self.check_forwarded(world.finish(world.modern()))
        self.assertEqual((world.foreign.complaints, len(world.foreign.requests)), ([], 2))

    def test_datagram_errors(self):
        """Of the connection"""
        for data in (b"", b"\x40", varint(LAST_QUARTER + 1) + b"\0x"):
            class Errs(Proxy):
                def opened(self, tunnel: Tunnel) -> None:
                    tunnel.peer.connection.send_datagram(data)

            with self.foreign(Errs) as world:
                self.assertIn(f"proxy: {world.proxy_addr}: ", world.fail(world.modern()))
            self.assertEqual(world.close_codes(), [H3_DATAGRAM_ERROR], data.hex())


if __name__ == "__main__":
    tap.main(WrongTest)
