#!/usr/bin/env python3
"""Frames and transport parameters of server migration that break a rule: what the
peer that gets them says in its CONNECTION_CLOSE; and some that must be put up with.

    tests/e2e/test_migration_wire.py --build DIR [--filter TEXT]
"""

import socket
from collections.abc import Iterator
from functools import partialmethod
from unittest import mock

import net
import quic_connection
import tap
from hostile_case import HostileCase
from net import Addr
from procs import Program
from proxy_client import ProxyClient
from quic_connection import Connection
from quic_crypto import APPLICATION, HANDSHAKE, INITIAL
from quic_hostile import (CONNECTION_ID_LIMIT_ERROR, ENABLE_SERVER_MIGRATION, FRAME_ENCODING_ERROR, INTERNAL_ERROR,
                          PROTOCOL_VIOLATION, SERVER_ALTERNATE_ADDRESS, TRANSPORT_PARAMETER_ERROR,
                          Peer, Script, alternate_address, new_connection_id, stateless_reset, token_of)
from quic_packets import QuicError, varint

A, B = b"conn-id-A", b"conn-id-B"
# Nobody is there, and nobody is to be tried before the connection is closed.
SOMEWHERE, ELSEWHERE = Addr("127.0.0.9", 9999), Addr("127.0.0.9", 9998)
WHOLE = alternate_address(1, SOMEWHERE, cid=A)
# More than the bucket of what is suspicious holds
GLITCHES = 20_000
PER_PACKET = 13


def frames(*parts: bytes) -> Script:
    """All in one packet, the last of which ends with it."""
    def script(peer: Peer) -> Iterator:
        yield peer.established
        peer.send(b"".join(parts))
        yield lambda: False
    return script


def nothing(peer: Peer) -> Iterator:
    yield peer.established


def early(level: int) -> Script:
    def script(peer: Peer) -> Iterator:
        peer.connection.inject(WHOLE, level)
        yield lambda: False
    return script


def many(first: bytes, again: bytes) -> Script:
    """The second one again and again."""
    def script(peer: Peer) -> Iterator:
        yield peer.established
        peer.connection.inject(first)
        for _ in range(GLITCHES // PER_PACKET):
            peer.connection.inject(again * PER_PACKET)
            yield lambda: len(peer.connection._spaces[3].queue) < 100
        yield lambda: False
    return script


def unacknowledged(peer: Peer) -> Iterator:
    """New ones that each make one connection ID moot, and no RETIRE_CONNECTION_ID is ever acknowledged."""
    yield peer.established
    peer.connection.acknowledges = False
    for _ in range(80):
        peer.announce(SOMEWHERE)
    yield lambda: False


def with_length(cid: bytes) -> bytes:
    return alternate_address(1, SOMEWHERE, cid=cid, token=bytes(range(16)))


# What gtlsclient, which has asked for server migration, says to it.  Rows of the notes, section 2, in comments.
TO_CLIENT: dict[str, tuple[int, Script]] = {
    "in_handshake": (PROTOCOL_VIOLATION, early(HANDSHAKE)),  # N8
    "type_not_minimal": (FRAME_ENCODING_ERROR, frames(  # N9
        (SERVER_ALTERNATE_ADDRESS | 0xc0 << 56).to_bytes(8) + WHOLE[4:])),
    "cid_empty": (FRAME_ENCODING_ERROR, frames(with_length(b""))),  # N10
    "cid_of_21": (FRAME_ENCODING_ERROR, frames(with_length(bytes(21)))),
    "cid_of_255": (FRAME_ENCODING_ERROR, frames(with_length(bytes(255)))),
    **{f"cut_off_after_{size}": (FRAME_ENCODING_ERROR, frames(WHOLE[:size]))  # N11
       for size in (4, 5, 10, 28, 29, 30, len(WHOLE) - 17, len(WHOLE) - 1)},
    "same_number_other_cid": (PROTOCOL_VIOLATION, frames(WHOLE, alternate_address(1, SOMEWHERE, cid=B))),  # S3
    "same_number_other_token": (PROTOCOL_VIOLATION, frames(
        WHOLE, alternate_address(1, SOMEWHERE, cid=A, token=bytes(16)))),
    "same_cid_other_number": (PROTOCOL_VIOLATION, frames(WHOLE, alternate_address(2, SOMEWHERE, cid=A))),
    "other_cid_than_new_connection_id": (PROTOCOL_VIOLATION, frames(new_connection_id(1, B), WHOLE)),
    "other_token_than_new_connection_id": (PROTOCOL_VIOLATION, frames(
        new_connection_id(1, A, token=bytes(16)), WHOLE)),
    "new_connection_id_contradicts": (PROTOCOL_VIOLATION, frames(WHOLE, new_connection_id(1, B))),
    "same_number_other_address": (PROTOCOL_VIOLATION, frames(WHOLE, alternate_address(1, ELSEWHERE, cid=A))),  # S4
    "same_number_other_family": (PROTOCOL_VIOLATION, frames(
        WHOLE, alternate_address(1, SOMEWHERE, Addr("::1", 9), cid=A))),
    "same_number_withdrawn": (PROTOCOL_VIOLATION, frames(WHOLE, alternate_address(1, cid=A))),
    "number_0": (PROTOCOL_VIOLATION, frames(alternate_address(0, SOMEWHERE, cid=A))),  # S16
    "one_cid_too_many": (CONNECTION_ID_LIMIT_ERROR, frames(  # S8: the client allows 31
        *(new_connection_id(n, b"cid" + bytes([n]) * 5) for n in range(1, 31)),
        alternate_address(31, SOMEWHERE, cid=A))),
    "nothing_acknowledged": (CONNECTION_ID_LIMIT_ERROR, unacknowledged),  # A10
    "duplicates": (INTERNAL_ERROR, many(WHOLE, WHOLE)),  # A11
    "stale": (INTERNAL_ERROR, many(b"".join(alternate_address(n, SOMEWHERE, cid=b"cid" + bytes([n]) * 5)
                                            for n in (1, 2)),
                                   alternate_address(1, SOMEWHERE, cid=b"cid" + bytes([1]) * 5))),
}

# What gtlsserver says to a client that has asked for server migration and sends them
TO_SERVER: dict[str, tuple[int, int, bytes]] = {
    "frame": (PROTOCOL_VIOLATION, APPLICATION, WHOLE),  # N6
    "withdrawal": (PROTOCOL_VIOLATION, APPLICATION, alternate_address(1, cid=A)),
    "cid_empty": (FRAME_ENCODING_ERROR, APPLICATION, with_length(b"")),
    "in_handshake": (PROTOCOL_VIOLATION, HANDSHAKE, WHOLE),  # N8
}

DISABLE_ACTIVE_MIGRATION = varint(0x0c) + b"\0"
PREFERRED = b"preferred"[:8]
# Token of a connection ID that the client has no reason to use
UNUSED = b"a token, unused!"
NEGOTIATES = varint(ENABLE_SERVER_MIGRATION) + b"\0"
NOT_EMPTY = varint(ENABLE_SERVER_MIGRATION) + b"\1\0"


def preferred_address(addr: Addr) -> bytes:
    value = (socket.inet_aton(addr.host) + addr.port.to_bytes(2) + bytes(18) + bytes([len(PREFERRED)]) + PREFERRED
             + token_of(PREFERRED))
    return varint(0x0d) + varint(len(value)) + value


class WireTest(HostileCase):
    """Most methods are made from the tables above."""

    def test_not_negotiated(self):
        """N7: the client has not asked for it."""
        self.closes(frames(WHOLE), PROTOCOL_VIOLATION, migrates=False)

    def test_zero_length_connection_ids(self):
        """S12: the server has none, so it cannot give one away."""
        self.closes(frames(WHOLE), PROTOCOL_VIOLATION, cid_length=0)

    # What is no error: the download goes on, and the client is where it should be

    def test_moves(self):
        def script(peer: Peer, other: Addr) -> Iterator:
            yield peer.established
            self.cid = peer.announce(other)
        peer = self.moves(script)
        self.assertEqual({arrival.cid for arrival in peer.elsewhere}, {self.cid})

    def test_only_probes(self):
        """C14, row 8 of the adversarial ones: what else the client has to say goes the old way, at whatever
        time.  Without discovery of the MTU, other packets are of the size of a probe."""
        dead = net.free_addrs(*["127.0.0.2"] * 4)

        def script(peer: Peer) -> Iterator:
            yield peer.established
            for addr in dead:
                before = len(peer.elsewhere)
                peer.announce(addr)
                # Something to acknowledge at once
                peer.connection.inject(b"\x01" * 1100)
                peer.connection.inject(b"\x01" * 1100)
                yield lambda: len(peer.elsewhere) >= before + 2

        peer = self.goes_on(script, others=dead, options=("--no-pmtud",))
        self.assertEqual({arrival.size for arrival in peer.elsewhere}, {1200})
        self.assertEqual({arrival.cid for arrival in peer.elsewhere} & {peer.connection.cids[0]}, set())
        self.assertEqual(peer.elsewhere, peer.probes)

    def test_twin_of_new_connection_id(self):
        """S2: the same connection ID in both frames, in both orders, again and again."""
        def script(peer: Peer, other: Addr) -> Iterator:
            yield peer.established
            first, second = peer.cid(), peer.cid()
            for _ in range(3):
                peer.connection.inject(
                    new_connection_id(1, first) + alternate_address(1, SOMEWHERE, cid=first)
                    + alternate_address(2, other, cid=second) + new_connection_id(2, second))
        self.moves(script)

    def test_older_number(self):
        """S6: the frame that comes late gives a connection ID and no address."""
        def script(peer: Peer, other: Addr) -> Iterator:
            yield peer.established
            peer.connection.inject(alternate_address(2, other, cid=peer.cid()))
            peer.connection.inject(alternate_address(1, SOMEWHERE, cid=peer.cid()))
        self.moves(script)

    def test_retired_before_it_came(self):
        """S7: Retire Prior To is above its number; the address is good with any other connection ID."""
        def script(peer: Peer, other: Addr) -> Iterator:
            yield peer.established
            peer.connection.inject(new_connection_id(5, peer.cid(), retire=5) + new_connection_id(6, peer.cid()))
            yield lambda: 0 in peer.connection.retired
            peer.connection.inject(alternate_address(3, other, cid=A[:8]))
            yield lambda: 3 in peer.connection.retired
        self.moves(script)

    def test_before_handshake_is_confirmed(self):
        """C1: stored, and acted on when HANDSHAKE_DONE comes; nothing is probed before."""
        def script(peer: Peer, other: Addr) -> Iterator:
            peer.connection.confirms = False
            yield peer.established
            self.cid = peer.announce(other)
            # C18: no answer to what comes from an address that it has not probed itself
            peer.server.send(peer.connection.packet(b"\x1a" + bytes(8)), other, peer.source)
            yield 0.5
            self.assertEqual(peer.elsewhere, [])
            peer.connection.confirm()
        peer = self.moves(script)
        self.assertEqual({arrival.cid for arrival in peer.elsewhere}, {self.cid})

    def test_parameter_from_server(self):
        """N2: only a client sends it; from a server it means nothing."""
        self.goes_on(nothing, parameters=NEGOTIATES)

    def test_parameter_from_server_not_empty(self):
        """N3"""
        self.closes(nothing, TRANSPORT_PARAMETER_ERROR, parameters=NOT_EMPTY)

    def test_in_initial(self):
        """N8: an Initial packet can be forged; with such a frame it is dropped, and so is the frame."""
        def script(peer: Peer) -> Iterator:
            peer.connection.inject(WHOLE, INITIAL)
            yield peer.established
            yield 0.5
        self.goes_on(script)

    def test_active_migration_disabled(self):
        """C8: that forbids what the client does by itself."""
        def script(peer: Peer, other: Addr) -> Iterator:
            yield peer.established
            peer.announce(other)
        self.moves(script, parameters=DISABLE_ACTIVE_MIGRATION)

    def preferred(self, early: bool) -> None:
        """C5: the preferred address does not answer, and is to be tried when the frame comes, or is being tried."""
        dead, = net.free_addrs("127.0.0.2")

        def script(peer: Peer, other: Addr) -> Iterator:
            peer.server.peers[PREFERRED] = peer
            peer.connection.confirms = not early
            yield peer.established
            if not early:
                yield lambda: bool(peer.elsewhere)
            peer.next_number = 2
            self.cid = peer.announce(other)
            if early:
                yield 0.2
                peer.connection.confirm()

        peer = self.moves(script, [dead], parameters=preferred_address(dead))
        self.assertEqual([arrival.to for arrival in peer.probes[:2]], [dead, dead])
        self.assertEqual({arrival.cid for arrival in peer.elsewhere}, {PREFERRED, self.cid})

    def test_preferred_address_is_tried(self):
        self.preferred(early=False)

    def test_preferred_address_is_to_be_tried(self):
        self.preferred(early=True)

    def test_withdrawn(self):
        """N16: before the client could act on it."""
        def script(peer: Peer) -> Iterator:
            yield peer.established
            peer.connection.inject(WHOLE + alternate_address(2, cid=B))
            yield lambda: {1, 2} <= peer.connection.retired
            yield 0.5
        self.goes_on(script)

    # E21: a second host at the address that is being validated, which has no state of the connection

    def test_stateless_reset(self):
        """RFC 9000, section 10.3.1: the token belongs to the connection ID that is in use on that path."""
        addr, other = net.free_addrs("127.0.0.1", "127.0.0.2")

        def script(peer: Peer) -> Iterator:
            yield peer.established
            cid = peer.cid()
            peer.replies[other] = stateless_reset(token_of(cid))
            peer.connection.inject(alternate_address(1, other, cid=cid))
            yield lambda: False

        server = self.server({addr: script}, [other])
        client = self.client(addr, "client", "--quiet")
        server.run(lambda: client.status is not None and server.idle())
        # It has not got its file, it draws the conclusion at once, and it says nothing more, to no address.
        self.assertEqual(client.wait(0), 1)
        peer = server.all[0]
        self.assertIn(len(peer.elsewhere), (1, 2))  # both probes may be out before the answer
        self.assertIsNone(peer.connection.close_code)

    def resets_in_vain(self, there: bytes, here: bool = False) -> None:
        """The address fails as one that is silent, and the next one is good."""
        other, = net.free_addrs("127.0.0.2")

        def script(peer: Peer, good: Addr) -> Iterator:
            yield peer.established
            peer.connection.inject(new_connection_id(2, peer.cid(), token=UNUSED))
            peer.replies[other] = stateless_reset(there)
            cid = peer.cid()
            peer.connection.inject(alternate_address(1, other, cid=cid))
            yield lambda: bool(peer.elsewhere)
            if here:
                peer.server.send(stateless_reset(token_of(cid)), peer.here, peer.source)
            yield lambda: 1 in peer.connection.retired
            peer.next_number = 3
            peer.announce(good)

        self.moves(script, [other])

    def test_stateless_reset_wrong_token(self):
        self.resets_in_vain(bytes(16))

    def test_stateless_reset_of_unused_connection_id(self):
        self.resets_in_vain(UNUSED)

    def test_stateless_reset_on_other_path(self):
        """The right token, but on the path where its connection ID is not used."""
        self.resets_in_vain(bytes(16), here=True)

    # From a client

    def asks(self, addr: Addr, parameters: bytes = b"", frame: bytes = b"", level: int = APPLICATION) -> Connection:
        """Sends the parameters, and the frame in a packet of that level, and asks for the file."""
        encode = quic_connection.encode_parameters
        with mock.patch.object(quic_connection, "encode_parameters", lambda values: encode(values) + parameters):
            client = ProxyClient(addr)
        client.connection._spaces[level].queue.append(("control", frame + b"\x01"))
        with client:
            stream = client.request_fields([(":method", "GET"), (":scheme", "https"), (":authority", "localhost"),
                                            (":path", "/file")], fin=True)
            client.wait(lambda: client.ended(stream), "no file")
        return client.connection

    def served(self, *options: str) -> Addr:
        """By gtlsserver, which has to end in order."""
        addr, other = net.free_addrs("127.0.0.1", "127.0.0.2")
        server = self.enterContext(Program(
            [self.build / "examples" / "gtlsserver", "--quiet", f"--htdocs={self.site.htdocs}",
             f"--alternate-addr={other}", *options, addr.host, str(addr.port), *self.site.certificate],
            self.work / f"{self._testMethodName}.log"))
        server.wait_bound([addr, other])
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return addr

    def is_closed(self, code: int, parameters: bytes, frame: bytes = b"", level: int = APPLICATION) -> None:
        addr = self.served()
        with self.assertRaisesRegex(QuicError, f"peer closed with {code:#x} "):
            self.asks(addr, parameters, frame, level)
        self.assertIsNone(self.asks(addr).close_code)  # others do not notice

    def test_server_parameter_not_empty(self):
        """N3"""
        self.is_closed(TRANSPORT_PARAMETER_ERROR, NOT_EMPTY)

    def test_server_parameter_twice(self):
        """N4: ngtcp2 does not look for that in any parameter."""
        self.assertIsNone(self.asks(self.served(), NEGOTIATES * 2).close_code)

    def test_server_is_not_asked(self):
        """E17: without the parameter there is no frame, which would be an unknown one to this client."""
        addr = self.served("--migrate-every=1ms")
        self.asks(addr)
        with self.assertRaisesRegex(QuicError, f"frame of type {SERVER_ALTERNATE_ADDRESS:#x}"):
            self.asks(addr, NEGOTIATES)


for name, (code, script) in TO_CLIENT.items():
    setattr(WireTest, f"test_client_{name}", partialmethod(WireTest.closes, script, code))
for name, (code, level, data) in TO_SERVER.items():
    setattr(WireTest, f"test_server_{name}", partialmethod(WireTest.is_closed, code, NEGOTIATES, data, level))


if __name__ == "__main__":
    tap.main(WireTest)
