#!/usr/bin/env python3
"""Requests that are malformed, by a client whose connection has a tunnel already: the stream ends, and
the tunnel works on (RFC 9114, section 4.1.2).  And what is an error of the connection all the same.

    tests/e2e/test_proxy_malformed.py --build DIR [--filter TEXT]
"""

from contextlib import contextmanager

import tap
from proxy_case import PacketCase
from proxy_client import MESSAGE_ERROR, ProxyClient, sf_bytes
from quic_http import DATA, HEADERS, encode_fields, frame
from quic_packets import QuicError, varint
from udp_target import Target

ONE, TWO, NEXT = b"client-one", b"client-two", b"next-client"
EXCESSIVE_LOAD, FRAME_UNEXPECTED, DECOMPRESSION_FAILED = 0x107, 0x105, 0x200
QPACK_ENCODER, QPACK_DECODER = 2, 3
LARGE = 66_000
# Malformed messages in a row that nghttp3 puts up with; it forgets 33 in a second.
GLITCHES = 1000
AT_ONCE = 50


def headers(fields: list[tuple[str, str]]) -> bytes:
    return frame(HEADERS, encode_fields(fields))


class MalformedTest(PacketCase):
    @contextmanager
    def tunnel(self):
        """A proxy, a target, and a client with a tunnel: flow 0, ONE.  In the end there is another client, and the
        proxy ends in order."""
        with self.proxy() as world, Target() as target:
            with ProxyClient(world.proxy_addr) as client:
                self.assertEqual(client.ask(target.authority, 0, client_cid=ONE), 200)
                self.check_flow(client, target, 0, ONE)
                yield world, target, client
            with ProxyClient(world.proxy_addr) as late:
                self.assertEqual(late.ask(target.authority, 0, client_cid=NEXT), 200)
                self.check_flow(late, target, 0, NEXT)
            self.stop(world)

    def check_refused(self, client: ProxyClient, target: Target, stream: int, code: int, what: str) -> None:
        """Reset with that code and without an answer, and the tunnel works."""
        client.wait(lambda: client.ended(stream), f"{what}: the stream does not end")
        self.assertEqual(client.connection.resets.get(stream), code, what)
        self.assertEqual(client._streams[stream][0], b"", what)
        self.check_flow(client, target, 0, ONE)

    def check_stopped(self, client: ProxyClient, stream: int, code: int, what: str) -> None:
        client.wait(lambda: stream in client.connection.stops, f"{what}: no STOP_SENDING")
        self.assertEqual(client.connection.stops[stream], code, what)

    # Errors of a stream

    def test_fields(self):
        """Each field section that is malformed, wherever a CONNECT-UDP request has the fault."""
        with self.tunnel() as (_, target, client):
            method, authority = (":method", "CONNECT-UDP"), (":authority", target.authority)
            flow, cid = ("datagram-flow-id", "2"), ("client-connection-id", sf_bytes(TWO))
            good = [method, authority, flow, cid]
            bad = {
                "NUL in a value": [*good, ("x", "a\0b")],
                "line feed in a value": [*good, ("x", "a\nb")],
                "upper case name": [*good, ("Server-connection-id", "a")],
                "connection-specific field": [*good, ("connection", "close")],
                "another one": [*good, ("transfer-encoding", "chunked")],
                "missing pseudo-header": [method, flow, cid],
                "doubled pseudo-header": [method, authority, authority, flow, cid],
                "pseudo-header after a field": [method, flow, authority, cid],
                "unknown pseudo-header": [method, authority, (":status", "200"), flow, cid],
                "empty name": [*good, ("", "a")],
                "space in a name": [*good, ("a b", "a")],
                "DEL in a value": [*good, ("x", "\x7f")],
                **{f"{char!r} in {name}": [field if field[0] != name else (name, field[1][:-1] + char + field[1][-1])
                                          for field in (*good[:-1], (server or cid[0], cid[1]))]
                   for char in "\0\n\r" for server, name in ((None, flow[0]), (None, cid[0]),
                                                             ("server-connection-id", "server-connection-id"))},
                "space after client-connection-id": [*good[:-1], (cid[0], f"{cid[1]} ")],
            }
            for what, fields in bad.items():
                stream = client.request_fields(fields)
                self.check_refused(client, target, stream, MESSAGE_ERROR, what)
                self.check_stopped(client, stream, MESSAGE_ERROR, what)
            # Nothing of them is left: neither the flow nor the connection ID.
            self.assertEqual(client.ask(target.authority, 2, client_cid=TWO), 200)
            self.check_flow(client, target, 2, TWO)
            self.assertEqual(client.connection.closed, None)

    def test_messages(self):
        """What is wrong with a message as a whole, and the request is none for the proxy."""
        with self.tunnel() as (_, target, client):
            get = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/none")]
            put = [(":method", "PUT"), *get[1:], ("content-length", "5")]
            bad = {
                "empty HEADERS": (frame(HEADERS, b""), MESSAGE_ERROR),
                "less than content-length": (headers(put) + frame(DATA, bytes(4)), MESSAGE_ERROR),
                "more than content-length": (headers(put) + frame(DATA, bytes(6)), MESSAGE_ERROR),
                "content-length without content": (headers(put), MESSAGE_ERROR),
                "trailers with a pseudo-header": (headers(get) + headers([(":path", "/")]), MESSAGE_ERROR),
                "trailers with a line feed": (headers(get) + frame(DATA, b"x") + headers([("x", "a\nb")]),
                                              MESSAGE_ERROR),
                f"a value of {LARGE} bytes": (headers([*get, ("x", "a" * LARGE)]), EXCESSIVE_LOAD),
                f"a name of {LARGE} bytes": (headers([*get, ("x" * LARGE, "a")]), EXCESSIVE_LOAD),
            }
            for what, (data, code) in bad.items():
                # What has been received to its end is not asked to stop.
                whole = code == MESSAGE_ERROR
                stream = client.request_bytes(data, fin=whole)
                self.check_refused(client, target, stream, code, what)
                if not whole:
                    self.check_stopped(client, stream, code, what)

    def test_large_section(self):
        """Of many fields none of which is large: 431."""
        with self.tunnel() as (_, target, client):
            fields = [(":method", "CONNECT-UDP"), (":authority", target.authority), ("datagram-flow-id", "2")]
            fields += [(f"x-{number}", "a" * 1000) for number in range(LARGE // 1000)]
            self.assertEqual(client.status(client.request_fields(fields)), 431)
            self.check_flow(client, target, 0, ONE)

    def test_dynamic_table(self):
        """A malformed request that refers to the dynamic table, before and after what it refers to is there: its
        references are given back, and a request after it can have the same ones."""
        with self.tunnel() as (_, target, client):
            method, authority = (":method", "CONNECT-UDP"), (":authority", target.authority)
            encoder = client.connection.open_stream(uni=True)
            # Set Dynamic Table Capacity: 220
            client.connection.send_stream(encoder, varint(QPACK_ENCODER) + b"\x3f\xbd\x01")

            def insert(name: bytes, value: bytes) -> None:
                client.connection.send_stream(encoder, bytes([0x40 | len(name), *name, len(value), *value]))

            def section(inserts: int, fields: list[tuple[str, str]]) -> bytes:
                """That many inserts are needed; the field that was inserted last comes last."""
                return frame(HEADERS, bytes([inserts + 1, 0]) + encode_fields(fields)[2:] + b"\x80")

            def decoder() -> bytes:
                return next((data for data in client.peer_streams.values() if data[:1] == bytes([QPACK_DECODER])), b"")

            for inserts, late in ((1, False), (2, True)):
                flow, cid = 2 * inserts, b"client-%d" % inserts
                if not late:
                    insert(b"x-name", b"%d" % inserts)
                evil = client.request_bytes(section(inserts, [method, authority, ("Upper", "case")]))
                if late:
                    self.check_flow(client, target, 0, ONE)
                    self.assertNotIn(evil, client.connection.resets)
                    insert(b"x-name", b"%d" % inserts)
                self.check_refused(client, target, evil, MESSAGE_ERROR, "malformed")
                client.wait(lambda: bytes([0x40 | evil]) in decoder()[1:], "no Stream Cancellation")
                good = client.request_bytes(section(inserts, [
                    method, authority, ("datagram-flow-id", str(flow)), ("client-connection-id", sf_bytes(cid))]))
                self.assertEqual(client.status(good), 200)
                client.wait(lambda: bytes([0x80 | good]) in decoder()[1:], "no Section Acknowledgment")
                self.check_flow(client, target, flow, cid)
                self.check_flow(client, target, 0, ONE)

    # Errors of the connection

    def closes(self, data: bytes, code: int) -> None:
        with self.tunnel() as (world, target, good):
            with ProxyClient(world.proxy_addr) as evil:
                self.assertEqual(evil.ask(target.authority, 0, client_cid=TWO), 200)
                evil.request_bytes(data)
                with self.assertRaisesRegex(QuicError, f"closed with {code:#x} "):
                    evil.wait(lambda: False, "it goes on")
            self.check_flow(good, target, 0, ONE)

    def test_undecodable(self):
        """A reference to what is not in the dynamic table: nobody knows what comes after it."""
        self.closes(frame(HEADERS, b"\0\0\x80"), DECOMPRESSION_FAILED)

    def test_data_first(self):
        self.closes(frame(DATA, b"x"), FRAME_UNEXPECTED)

    def test_headers_in_tunnel(self):
        """RFC 9114, section 4.4"""
        request = headers([(":method", "CONNECT-UDP"), (":authority", "127.0.0.2:9"), ("datagram-flow-id", "2")])
        self.closes(request + headers([("x", "a")]), FRAME_UNEXPECTED)

    def test_too_many(self):
        """A client that sends nothing but malformed requests is thrown out."""
        with self.tunnel() as (world, target, good), ProxyClient(world.proxy_addr) as evil:
            with self.assertRaisesRegex(QuicError, f"closed with {EXCESSIVE_LOAD:#x} "):
                for _ in range(5 * GLITCHES // AT_ONCE):
                    streams = [evil.request_bytes(frame(HEADERS, b"")) for _ in range(AT_ONCE)]
                    evil.wait(lambda: all(map(evil.ended, streams)), "the streams do not end")
                    for stream in streams:
                        evil.connection.reset_stream(stream, MESSAGE_ERROR)
            self.check_flow(good, target, 0, ONE)


if __name__ == "__main__":
    tap.main(MalformedTest)
