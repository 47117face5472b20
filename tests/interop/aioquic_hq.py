"""One end of a test case of interoperability runners over HTTP/0.9 with aioquic; runs in the root directory of
ci/interop.

    aioquic_hq.py client CASE HOST PORT PATH OUT
    aioquic_hq.py server CASE HOST PORT FILES CERTIFICATE KEY

The client says what it has seen of the case, and fails if it has not happened; each file is `OUT` with a number.
The server says of each handshake whether it was resumed, and had early data.
"""

import asyncio
import ssl
import sys
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, QuicEvent
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite, Epoch, SessionTicket

ALPN = ["hq-interop"]
WINDOW = 16 << 20


def configuration(case: str, **options) -> QuicConfiguration:
    if case == "chacha20":
        options["cipher_suites"] = [CipherSuite.CHACHA20_POLY1305_SHA256]
    if case == "v2":
        options |= {"original_version": QuicProtocolVersion.VERSION_1,
                    "supported_versions": [QuicProtocolVersion.VERSION_2, QuicProtocolVersion.VERSION_1]}
    return QuicConfiguration(alpn_protocols=ALPN, max_data=WINDOW, max_stream_data=WINDOW, **options)


async def get(connection: QuicConnectionProtocol, path: str, out: Path) -> None:
    reader, writer = await connection.create_stream()
    writer.write(f"GET {path}\r\n".encode())
    writer.write_eof()
    out.write_bytes(await reader.read())


def seen(case: str, connections: list[QuicConnectionProtocol]) -> dict[str, bool]:
    """What shows that it was this case and no other."""
    first, last = connections[0]._quic, connections[-1]._quic
    return {
        "retry": first._retry_source_connection_id is not None,
        "chacha20": first.tls.key_schedule.cipher_suite == CipherSuite.CHACHA20_POLY1305_SHA256,
        "keyupdate": first._cryptos[Epoch.ONE_RTT].recv.key_phase == 1,
        "v2": first._version == QuicProtocolVersion.VERSION_2,
        "resumption": last.tls.session_resumed and not last.tls.early_data_accepted,
        "zerortt": last.tls.session_resumed and last.tls.early_data_accepted,
    } if case not in ("handshake", "transfer") else {case: True}


async def client(case: str, host: str, port: int, path: str, out: Path) -> None:
    tickets: list[SessionTicket] = []
    connections = []
    options = configuration(case, is_client=True, server_name="localhost", verify_mode=ssl.CERT_NONE)
    for number in range(2 if case in ("resumption", "zerortt") else 1):
        early = number > 0 and case == "zerortt"
        if number > 0:
            options.session_ticket = tickets[0]
            if not early:
                options.session_ticket.max_early_data_size = None
        async with connect(host, port, configuration=options, session_ticket_handler=tickets.append,
                           wait_connected=not early) as connection:
            connections.append(connection)
            if case == "keyupdate":
                await connection.ping()  # The handshake is confirmed.
                connection.request_key_update()
            await get(connection, path, out.with_name(f"{out.name}{number}"))
            while number == 0 and case in ("resumption", "zerortt") and not tickets:
                await connection.ping()
    if not seen(case, connections)[case]:
        sys.exit(f"{case} has not happened: {seen(case, connections)}")
    print(f"{len(connections)} connections, {case}")


class Server(QuicConnectionProtocol):
    def quic_event_received(self, event: QuicEvent) -> None:
        super().quic_event_received(event)
        if isinstance(event, HandshakeCompleted):
            print(f"resumed={event.session_resumed} early={event.early_data_accepted}", flush=True)


async def server(case: str, host: str, port: int, files: Path, certificate: Path, key: Path) -> None:
    tickets: dict[bytes, SessionTicket] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).decode().removeprefix("GET /").strip()
        writer.write((files / Path(path).name).read_bytes())
        writer.write_eof()

    options = configuration(case, is_client=False)
    options.load_cert_chain(certificate, key)
    await serve(host, port, configuration=options, create_protocol=Server, retry=case == "retry",
                stream_handler=lambda reader, writer: asyncio.ensure_future(answer(reader, writer)),
                session_ticket_fetcher=tickets.get,
                session_ticket_handler=lambda ticket: tickets.update({ticket.ticket: ticket}))
    await asyncio.Event().wait()


if __name__ == "__main__":
    role, case, host, port, *paths = sys.argv[1:]
    asyncio.run({"client": client, "server": server}[role](
        case, host, int(port), *([paths[0], Path(paths[1])] if role == "client" else map(Path, paths))))
