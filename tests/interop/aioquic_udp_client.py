"""Downloads one file by HTTP/3 through a UDP proxy (RFC 9298), with aioquic twice; runs in the root directory of
ci/interop.

    aioquic_udp_client.py PROXY_HOST PROXY_PORT TARGET_HOST TARGET_PORT PATH OUT [--capsules]

With --capsules, payloads go to the proxy on the stream.
"""

import asyncio
import ssl
import sys
import urllib.parse
from pathlib import Path

from aioquic.asyncio import connect
from aioquic.h3.connection import Setting
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from aioquic_get import WINDOW, Client
from aioquic_udp import UdpProtocol, configuration


class Outer(UdpProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        loop = asyncio.get_running_loop()
        self._ready, self._answer = loop.create_future(), loop.create_future()
        self.inner: asyncio.DatagramProtocol | None = None

    async def open(self, authority: str, host: str, port: int) -> int:
        """A tunnel; the stream of it."""
        settings = await self._ready
        if settings.get(Setting.ENABLE_CONNECT_PROTOCOL) != 1:
            raise ConnectionError(f"no extended CONNECT: {settings}")
        stream = self._quic.get_next_available_stream_id()
        path = f"/.well-known/masque/udp/{urllib.parse.quote(host, safe='')}/{port}/"
        self.http.send_headers(stream, [
            (b":method", b"CONNECT"), (b":protocol", b"connect-udp"), (b":scheme", b"https"),
            (b":authority", authority.encode()), (b":path", path.encode()), (b"capsule-protocol", b"?1")])
        self.transmit()
        fields = await self._answer
        if not fields[":status"].startswith("2") or fields.get("capsule-protocol") != "?1":
            raise ConnectionError(f"the proxy says {fields}")
        return stream

    def on_settings(self) -> None:
        if not self._ready.done():
            self._ready.set_result(self.http.received_settings)

    def on_closed(self, reason: str) -> None:
        for future in (self._ready, self._answer):
            if not future.done():
                future.set_exception(ConnectionError(reason))

    def on_fields(self, stream: int, fields: dict[str, str]) -> None:
        if not fields.get(":status", "").startswith("1") and not self._answer.done():
            self._answer.set_result(fields)

    def on_payload(self, stream: int, payload: bytes) -> None:
        if self.inner:
            self.inner.datagram_received(payload, ("::", 0))

    def on_end(self, stream: int) -> None:
        self.on_closed(f"stream {stream} has ended")


class Tunnel(asyncio.DatagramTransport):
    """What the inner connection takes for a socket."""

    def __init__(self, outer: Outer, stream: int):
        super().__init__()
        self._outer, self._stream = outer, stream

    def sendto(self, data, addr=None) -> None:
        self._outer.send_payload(self._stream, bytes(data))

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


async def main(proxy: tuple[str, int], target: tuple[str, int], path: str, out: Path, capsules: bool) -> None:
    outer_configuration = configuration(is_client=True, server_name="localhost", verify_mode=ssl.CERT_NONE)
    async with connect(*proxy, configuration=outer_configuration, create_protocol=Outer) as outer:
        outer.use_capsules = capsules
        stream = await outer.open(f"localhost:{proxy[1]}", *target)
        inner = Client(QuicConnection(configuration=QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE,
            max_data=WINDOW, max_stream_data=WINDOW)))
        outer.inner = inner
        inner.connection_made(Tunnel(outer, stream))
        inner.connect(("::1", target[1]))
        await inner.wait_connected()
        status, body = await inner.get(f"localhost:{target[1]}", path)
        inner.close()
    if status != b"200":
        sys.exit(f"status {status.decode()}")
    out.write_bytes(body)


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--capsules"]
    asyncio.run(main((arguments[0], int(arguments[1])), (arguments[2], int(arguments[3])), arguments[4],
                     Path(arguments[5]), "--capsules" in sys.argv))
