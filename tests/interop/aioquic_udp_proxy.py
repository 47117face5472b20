"""A UDP proxy (RFC 9298) on aioquic, which asks for no credentials and protects nobody; runs in the root directory of
ci/interop.

    aioquic_udp_proxy.py HOST PORT CERT KEY [--capsules]

With --capsules, payloads go to the client on the stream.
"""

import asyncio
import re
import sys
import urllib.parse

from aioquic.asyncio import serve

from aioquic_udp import UdpProtocol, configuration

PATH = re.compile(r"/\.well-known/masque/udp/([^/]+)/([0-9]{1,5})/")


class Target(asyncio.DatagramProtocol):
    """The socket of one tunnel."""

    def __init__(self, client: UdpProtocol, stream: int):
        self._client, self._stream = client, stream

    def datagram_received(self, data, addr) -> None:
        self._client.send_payload(self._stream, data)


class Proxy(UdpProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.use_capsules = "--capsules" in sys.argv
        self._sockets: dict[int, asyncio.DatagramTransport] = {}
        self._early: dict[int, list[bytes]] = {}  # payloads of tunnels that are being opened
        self._tasks: set[asyncio.Task] = set()

    def on_fields(self, stream: int, fields: dict[str, str]) -> None:
        found = PATH.fullmatch(fields.get(":path", ""))
        if (fields.get(":method"), fields.get(":protocol")) != ("CONNECT", "connect-udp"):
            self._answer(stream, 501)
        elif not found or fields.get(":scheme") != "https" or not 0 < int(found[2]) < 65536:
            self._answer(stream, 400)
        else:
            self._early[stream] = []
            task = asyncio.ensure_future(self._open(stream, urllib.parse.unquote(found[1]), int(found[2])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, stream: int, host: str, port: int) -> None:
        try:
            socket, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Target(self, stream), remote_addr=(host, port))
        except OSError:
            self._early.pop(stream, None)
            self._answer(stream, 502)
            return
        self._sockets[stream] = socket
        self._answer(stream, 200)
        for payload in self._early.pop(stream):
            socket.sendto(payload)

    def _answer(self, stream: int, status: int) -> None:
        fields = [(b":status", str(status).encode())]
        self.http.send_headers(stream, fields + [(b"capsule-protocol", b"?1")] * (status == 200),
                               end_stream=status != 200)
        self.transmit()

    def on_payload(self, stream: int, payload: bytes) -> None:
        if socket := self._sockets.get(stream):
            socket.sendto(payload)
        elif stream in self._early:
            self._early[stream].append(payload)

    def on_end(self, stream: int) -> None:
        if socket := self._sockets.pop(stream, None):
            socket.close()

    def on_closed(self, reason: str) -> None:
        for stream in list(self._sockets):
            self.on_end(stream)


async def main(host: str, port: int, cert: str, key: str) -> None:
    how = configuration(is_client=False)
    how.load_cert_chain(cert, key)
    await serve(host, port, configuration=how, create_protocol=Proxy)
    await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
