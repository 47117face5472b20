#!/usr/bin/env python3
"""The proxy of udp_proxy.py, which goes away on its first connection: it takes one tunnel there, answers a second
one with GOAWAY (RFC 9114, section 5.2), and goes on with the first.  On other connections it is as usual."""

import udp_proxy
from qpack import Fields
from quic_http import frame
from udp_proxy_server import Peer, Proxy

GOAWAY = 7
# A server's first unidirectional stream, on which it has sent SETTINGS; a client's second request
CONTROL, SECOND = 3, 4


class DrainingPeer(Peer):
    def _on_fields(self, number: int, fields: Fields) -> None:
        if self is not self.proxy.all[0] or number < SECOND:
            super()._on_fields(number, fields)
            return
        if number == SECOND:
            self.connection.send_stream(CONTROL, frame(GOAWAY, bytes([SECOND])))


class DrainingProxy(Proxy):
    peer = DrainingPeer


if __name__ == "__main__":
    udp_proxy.main(DrainingProxy)
