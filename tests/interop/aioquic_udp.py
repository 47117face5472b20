"""UDP in HTTP/3 (RFC 9297, RFC 9298) on aioquic, which has HTTP/3 datagrams and lets one send any fields: what the
client and the proxy beside this share."""

from collections.abc import Iterator

from aioquic.asyncio import QuicConnectionProtocol
from aioquic.buffer import Buffer, BufferReadError, encode_uint_var
from aioquic.h3.connection import H3Connection, Setting
from aioquic.h3.events import DatagramReceived, DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

DATAGRAM = 0
CONTEXT_UDP = encode_uint_var(0)
# Of outer packets, and what fits into one: RFC 9298 has Initial packets of 1200 bytes and more in them.
PACKET_SIZE, LARGEST_PAYLOAD = 1400, 1330
WINDOW = 16 << 20


def configuration(**how) -> QuicConfiguration:
    return QuicConfiguration(alpn_protocols=["h3"], max_data=WINDOW, max_stream_data=WINDOW,
                             max_datagram_size=PACKET_SIZE, max_datagram_frame_size=65536, **how)


def capsule(kind: int, value: bytes) -> bytes:
    return encode_uint_var(kind) + encode_uint_var(len(value)) + value


class Payloads:
    """Takes UDP payloads out of the capsules of a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._rest += data
        while True:
            buffer = Buffer(data=self._rest)
            try:
                kind, length = buffer.pull_uint_var(), buffer.pull_uint_var()
                value = buffer.pull_bytes(length)
            except BufferReadError:
                return
            self._rest = self._rest[buffer.tell():]
            if kind == DATAGRAM and (payload := in_udp_context(value)) is not None:
                yield payload


def in_udp_context(data: bytes) -> bytes | None:
    """The payload, if that is its context."""
    buffer = Buffer(data=data)
    return data[buffer.tell():] if buffer.pull_uint_var() == 0 else None


class UdpProtocol(QuicConnectionProtocol):
    """One connection, of either role.  What comes is handed to on_fields(), on_payload() and on_end(), with the
    stream."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # What is called so switches HTTP/3 datagrams on as well; extended CONNECT always is.
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self.use_capsules = False
        self._payloads: dict[int, Payloads] = {}

    @property
    def datagrams(self) -> bool:
        return (self.http.received_settings or {}).get(Setting.H3_DATAGRAM) == 1

    def send_payload(self, stream: int, payload: bytes) -> None:
        if not self.use_capsules and self.datagrams:
            if len(payload) > LARGEST_PAYLOAD:
                return  # lost, as far as UDP is concerned
            self.http.send_datagram(stream, CONTEXT_UDP + payload)
        else:
            self.http.send_data(stream, capsule(DATAGRAM, CONTEXT_UDP + payload), end_stream=False)
        self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.on_closed(event.reason_phrase or hex(event.error_code))
        elif isinstance(event, StreamReset):
            self.on_end(event.stream_id)
        for http_event in self.http.handle_event(event):
            self._http_event(http_event)
        if self.http.received_settings is not None:
            self.on_settings()

    def _http_event(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self.on_fields(event.stream_id, {name.decode(): value.decode() for name, value in event.headers})
        elif isinstance(event, DatagramReceived):
            if (payload := in_udp_context(event.data)) is not None:
                self.on_payload(event.stream_id, payload)
        elif isinstance(event, DataReceived):
            for payload in self._payloads.setdefault(event.stream_id, Payloads()).feed(event.data):
                self.on_payload(event.stream_id, payload)
        if getattr(event, "stream_ended", False):
            self.on_end(event.stream_id)

    def on_settings(self) -> None:
        pass

    def on_closed(self, reason: str) -> None:
        pass

    def on_fields(self, stream: int, fields: dict[str, str]) -> None:
        raise NotImplementedError

    def on_payload(self, stream: int, payload: bytes) -> None:
        raise NotImplementedError

    def on_end(self, stream: int) -> None:
        raise NotImplementedError
