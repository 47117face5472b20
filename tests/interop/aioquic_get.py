"""Downloads one file by HTTP/3 with aioquic; runs in the root directory of ci/interop.

    aioquic_get.py HOST PORT PATH OUT
"""

import asyncio
import ssl
import sys
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

WINDOW = 16 << 20


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._body = b""
        self._status = b""
        self._done = asyncio.get_running_loop().create_future()

    async def get(self, authority: str, path: str) -> tuple[bytes, bytes]:
        stream = self._quic.get_next_available_stream_id()
        self._http.send_headers(stream, [
            (b":method", b"GET"), (b":scheme", b"https"), (b":authority", authority.encode()),
            (b":path", path.encode())], end_stream=True)
        self.transmit()
        return await self._done

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated) and not self._done.done():
            self._done.set_exception(ConnectionError(event.reason_phrase or hex(event.error_code)))
        for http_event in self._http.handle_event(event):
            self._http_event(http_event)

    def _http_event(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self._status = dict(event.headers)[b":status"]
        elif isinstance(event, DataReceived):
            self._body += event.data
        if getattr(event, "stream_ended", False) and not self._done.done():
            self._done.set_result((self._status, self._body))


async def main(host: str, port: int, path: str, out: Path) -> None:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost",
                                      verify_mode=ssl.CERT_NONE, max_data=WINDOW, max_stream_data=WINDOW)
    async with connect(host, port, configuration=configuration, create_protocol=Client) as client:
        status, body = await client.get(f"localhost:{port}", path)
    if status != b"200":
        sys.exit(f"status {status.decode()}")
    out.write_bytes(body)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
