#!/usr/bin/env python3
"""A UDP proxy of 2021: draft-ietf-masque-connect-udp-03, with draft-schinazi-masque-h3-datagram.  It wants :scheme
and :path, knows nothing of connection IDs, and does nothing before it has the client's SETTINGS.

    tests/e2e/draft03_proxy.py --listen HOST PORT --key FILE --cert FILE --stats FILE

Options and statistics are those of udp_proxy.py.
"""

import re

import udp_proxy
from qpack import Fields
from quic_http import H3_DATAGRAM
from quic_packets import QuicError, Reader, varint
from rfc9298 import capsule
from udp_proxy_server import Peer, Proxy
from udp_proxy_tunnel import Tunnel

# Of a chunk on the stream: section 5 of the draft
UDP_PACKET = 0x00
_AUTHORITY = re.compile(r"\[?([A-Za-z0-9._:-]+?)\]?:([0-9]{1,5})")


class Draft03Tunnel(Tunnel):
    def __init__(self, peer: "Draft03Peer", stream: int, addr: tuple, family: int, fields: Fields):
        # Connection IDs are fields that it does not know.
        super().__init__(peer, stream, addr, family, [])
        flow = dict(fields).get("datagram-flow-id", "")
        self.flow = int(flow) if flow.isascii() and flow.isdigit() and peer.takes_datagrams else None

    def tunnel(self, payload: bytes) -> None:
        if self.flow is not None:
            super().tunnel(payload)
        else:
            self.send_bytes(self.in_capsule(payload))
            self.peer.proxy.to_client["capsules"] += 1

    def in_datagram(self, payload: bytes) -> bytes:
        return varint(self.flow) + payload

    def in_capsule(self, payload: bytes) -> bytes:
        return capsule(UDP_PACKET, payload)

    def on_data(self, data: bytes) -> None:
        for kind, value in self.capsules.feed(data):
            if kind == UDP_PACKET:
                self.to_target(value, "capsules")


class Draft03Peer(Peer):
    tunnel = Draft03Tunnel

    def __init__(self, *args):
        super().__init__(*args)
        self._held: list[tuple[int, Fields]] = []  # before SETTINGS

    @property
    def takes_datagrams(self) -> bool:
        return (self.http.settings or {}).get(H3_DATAGRAM) == 1

    def _check_settings(self) -> None:
        if self.http.settings is not None:
            held, self._held = self._held, []
            for number, fields in held:
                self._ask(number, fields)

    def _on_fields(self, number: int, fields: Fields) -> None:
        self.proxy.requests.append(fields)
        self._held.append((number, fields))

    def _ask(self, number: int, fields: Fields) -> None:
        text = dict(fields)
        where = _AUTHORITY.fullmatch(text.get(":authority", ""))
        if text.get(":method") != "CONNECT-UDP":
            self._refuse(number, 501)
        elif not where or text.get(":scheme") not in ("masque", "https") or text.get(":path") != "/":
            self._refuse(number, 400)
        elif self._flow_in_use(text.get("datagram-flow-id")):
            self._refuse(number, 400)
        else:
            self._accept(number, (where[1], int(where[2])), fields)

    def _flow_in_use(self, flow: str | None) -> bool:
        return flow is not None and any(str(tunnel.flow) == flow for tunnel in self.tunnels.values())

    def _on_datagram(self, data: bytes) -> None:
        r = Reader(data)
        try:
            flow, payload = r.varint(), r.rest()
        except QuicError:
            return
        if tunnel := next((tunnel for tunnel in self.tunnels.values() if tunnel.flow == flow), None):
            tunnel.to_target(payload, "datagrams")


class Draft03Proxy(Proxy):
    peer = Draft03Peer

    def settings(self) -> dict[int, int]:
        return {} if self.options.no_datagrams else {H3_DATAGRAM: 1}

    def answer(self, tunnel: Draft03Tunnel, address: str) -> Fields:
        flow = [("datagram-flow-id", str(tunnel.flow))] if tunnel.flow is not None else []
        return [(":status", "200"), *flow]


if __name__ == "__main__":
    udp_proxy.main(Draft03Proxy)
