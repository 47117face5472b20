"""A client of UDP proxies (RFC 9298) that does one thing at a time, whether it is right or wrong, for tests of what a
proxy answers; and that may tell it of connection IDs (draft-ietf-masque-quic-proxy).  That of draft-00 is
proxy_client.py."""

from net import Addr
from proxy_client import ProxyClient
from qpack import Fields, encode_fields
from quic_aware import CidCapsule, Forwarding, read_cid_capsule, read_forwarding
from quic_http import HEADERS, Http, frame
from quic_packets import QuicError, Reader
from rfc9298 import (DATAGRAM, ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, UDP, Capsules, datagram, datagram_capsule,
                     read_datagram, request)


class Tunnel:
    """A request of the client's, and all that has come of it."""

    def __init__(self, client: "UdpClient", stream: int):
        self.client, self.stream = client, stream
        self.fields: Fields | None = None  # of the final answer
        self.ended = False  # the proxy has ended or reset the stream
        self.payloads: list[tuple[int, bytes]] = []  # context and payload, not taken by receive() yet
        self.in_datagrams = self.in_capsules = 0  # how many have come in which
        self.cids: list[tuple[int, CidCapsule]] = []  # with the revision
        self.other_capsules: list[tuple[int, bytes]] = []
        self._capsules = Capsules()

    def status(self) -> int:
        """Waits for the answer."""
        self.client.wait(lambda: self.fields is not None or self.ended, f"no answer on stream {self.stream}")
        if self.fields is None:
            raise QuicError(f"stream {self.stream} ended without an answer")
        return int(dict(self.fields)[":status"])

    @property
    def reset_code(self) -> int | None:
        """What the proxy has reset the stream with."""
        return self.client.connection.resets.get(self.stream)

    def wait_ended(self) -> int | None:
        """Waits until the proxy ends the stream; reset_code."""
        self.client.wait(lambda: self.ended, f"the proxy does not end stream {self.stream}")
        return self.reset_code

    def forwarding(self) -> Forwarding | None:
        """What the answer says of it."""
        return read_forwarding(self.fields or [], response=True)

    # Payloads

    def send(self, payload: bytes, context: int = UDP) -> None:
        self.client.send_datagram(datagram(self.stream, payload, context))

    def send_capsule(self, payload: bytes, context: int = UDP) -> None:
        self.send_bytes(datagram_capsule(payload, context))

    def receive(self) -> bytes:
        """Waits for the next UDP payload."""
        self.client.wait(lambda: bool(self.payloads) or self.ended, f"nothing arrives for stream {self.stream}")
        if not self.payloads:
            raise QuicError(f"stream {self.stream} has ended")
        context, payload = self.payloads.pop(0)
        if context != UDP:
            raise QuicError(f"a payload of context {context}")
        return payload

    # On the stream

    def send_bytes(self, data: bytes, fin: bool = False) -> None:
        """In a DATA frame, be they capsules or anything else."""
        self.client.http.send_data(self.stream, data, fin)
        self.client.work()

    def send_frame(self, kind: int, payload: bytes) -> None:
        self.client.connection.send_stream(self.stream, frame(kind, payload))
        self.client.work()

    def send_cid(self, what: CidCapsule, revision: int = 9) -> None:
        self.send_bytes(what.write(revision))

    def receive_cid(self, *names: str) -> CidCapsule:
        """Waits for a capsule of these names, and leaves others alone."""
        def found():
            return next((at for at, (_, what) in enumerate(self.cids) if what.name in names), None)

        self.client.wait(lambda: found() is not None or self.ended, f"no {' or '.join(names)} arrives")
        if found() is None:
            raise QuicError(f"stream {self.stream} has ended")
        return self.cids.pop(found())[1]

    # Machinery

    def on_data(self, data: bytes) -> None:
        for kind, value in self._capsules.feed(data):
            if kind == DATAGRAM:
                r = Reader(value)
                self.payloads.append((r.varint(), r.rest()))
                self.in_capsules += 1
            elif what := read_cid_capsule(kind, value):
                self.cids.append(what)
            else:
                self.other_capsules.append((kind, value))

    def on_end(self) -> None:
        self.ended = True
        if self._capsules.cut_off and self.reset_code is None:
            raise QuicError(f"stream {self.stream} ends in the middle of a capsule")


class UdpClient(ProxyClient):
    """Connected from the beginning of a with block to its end.  `settings` are its own; without H3_DATAGRAM among
    them it takes no QUIC datagrams, and says so in its transport parameters as well."""

    def __init__(self, proxy: Addr, source: str = "", settings: dict[int, int] = {H3_DATAGRAM: 1}):
        super().__init__(proxy, source, datagrams=settings.get(H3_DATAGRAM) == 1)
        self.http = Http(self.connection, settings, self._on_fields, self._on_data, self._on_end)
        self.tunnels: dict[int, Tunnel] = {}
        self._proxy = proxy

    def __enter__(self) -> "UdpClient":
        self._connect()
        self.http.begin()
        return self

    def proxy_settings(self) -> dict[int, int]:
        """Waits for them."""
        self.wait(lambda: self.http.settings is not None, "the proxy sends no SETTINGS")
        return self.http.settings

    def check_settings(self) -> None:
        """Waits until the proxy has said that it can be asked: RFC 9298, section 3.4, and RFC 9220, section 3."""
        settings = self.proxy_settings()
        if settings.get(ENABLE_CONNECT_PROTOCOL) != 1 or settings.get(H3_DATAGRAM) != 1:
            raise QuicError(f"SETTINGS of something that is no proxy: {settings}")

    # Requests, none of which waits for SETTINGS

    def connect(self, host: str, port: int, fields: Fields = []) -> Tunnel:
        """With more `fields`."""
        return self.ask_fields([*request(str(self._proxy), host, port), *fields])

    def ask_fields(self, fields: Fields, fin: bool = False) -> Tunnel:
        return self.ask_bytes(frame(HEADERS, encode_fields(fields)), fin)

    def ask_bytes(self, data: bytes, fin: bool = False) -> Tunnel:
        """Whatever that is."""
        number = self.connection.open_stream()
        tunnel = self.tunnels[number] = Tunnel(self, number)
        self.connection.send_stream(number, data, fin)
        self.work()
        return tunnel

    def send_datagram(self, data: bytes) -> None:
        """Whatever that is."""
        self.connection.send_datagram(data)
        self.work()

    # Machinery

    def _on_fields(self, number: int, fields: Fields) -> None:
        tunnel = self.tunnels[number]
        if not dict(fields)[":status"].startswith("1"):
            if tunnel.fields is not None:
                raise QuicError("a second answer")
            tunnel.fields = fields

    def _on_data(self, number: int, data: bytes) -> None:
        self.tunnels[number].on_data(data)

    def _on_end(self, number: int) -> None:
        self.tunnels[number].on_end()

    def _on_datagram(self, data: bytes) -> None:
        stream, context, payload = read_datagram(data)
        if tunnel := self.tunnels.get(stream):
            tunnel.payloads.append((context, payload))
            tunnel.in_datagrams += 1
