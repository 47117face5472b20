"""A small QUIC endpoint (RFC 9000, 9001, 9002, 9221), client or server, for tests
that need a peer that does what the programs under test never do by themselves:
asks to be addressed by new connection IDs, or changes those that it uses.

It has neither clock nor socket.  Left out: Retry, 0-RTT, key update, version
negotiation, migration of its own, and flow control of what it receives, for
which it gives enough credit once and for all.
"""

import os
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from quic_crypto import APPLICATION, HANDSHAKE, INITIAL, LEVELS, Keys, Tls, initial_secrets, reset_token
from quic_packets import (Packet, QuicError, Reader, decode_parameters, encode_parameters, open_packet,
                          parse_header, seal_packet, varint)
from quic_state import Inbound, Outbound, Sent, Space

CREDIT = 1 << 40
STREAMS = 1000
# Connection IDs that a server has in use at one time, if its client allows as many
CIDS = 4
# Packets that may overtake one before that counts as lost
REORDERING = 3
# Bytes in flight
LEAST_WINDOW, FIRST_WINDOW, GREATEST_WINDOW = 4 * 1200, 32 * 1200, 256 * 1200
# Frames that are of no interest here: type -> number of fields, all of them varints
_IGNORED = {0x00: 0, 0x01: 0, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 2, 0x16: 1, 0x17: 1}


class Connection:
    def __init__(self, now: float, *, certificate: tuple[Path, Path] | None = None, original: bytes = b"",
                 cid_length: int = 8, payload_size: int = 1200, parameters: bytes = b"", datagrams: bool = True,
                 on_stream: Callable[[int, bytes, bool], None] = lambda *_: None,
                 on_datagram: Callable[[bytes], None] = lambda _: None):
        """A server if there is a `certificate`; `original` is then the client's first DCID.  `datagrams`: it takes some.
        `payload_size`: of the UDP datagrams that it sends; `parameters`: more of them, encoded."""
        self.server = certificate is not None
        self.now = now
        self.closed: str | None = None
        self.close_code: int | None = None  # if the peer closed: of a transport error, or an application's
        self.peer: dict = {}  # transport parameters
        # Of RESET_STREAM and STOP_SENDING that have come: stream -> error code
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.cid_length, self.payload_size = cid_length, payload_size
        self.on_stream, self.on_datagram = on_stream, on_datagram
        # Our connection IDs by sequence number, and how many packets came with each
        self._secret = os.urandom(16)
        self._scid = os.urandom(cid_length)
        self.cids: dict[int, bytes] = {0: self._scid}
        self.issued = 1
        self._retire_prior_to = 0
        self.received_with: Counter[bytes] = Counter()
        # The peer's that may be used, and the one that is
        self.peer_cids: dict[int, bytes] = {0: b"" if self.server else os.urandom(8)}
        self.peer_cid = 0
        self._peer_cid_known = False
        self.sent_with: Counter[bytes] = Counter()
        self._spaces = {level: Space() for level in LEVELS}
        self._in: dict[int, Inbound] = {}
        self._out: dict[int, Outbound] = {}
        self._opened: Counter[bool] = Counter()
        self._sent_on_streams, self._credit = 0, 0
        self._datagrams: deque[bytes] = deque()
        self._in_flight, self._window, self._threshold = 0, FIRST_WINDOW, GREATEST_WINDOW
        self._recovery_since, self._rtt, self._probes = now, 0.1, 0
        dcid = original if self.server else self.peer_cids[0]
        client, server = (Keys(secret) for secret in initial_secrets(dcid))
        first = self._spaces[INITIAL]
        first.write, first.read = (server, client) if self.server else (client, server)
        values = {"max_idle_timeout": 60_000, "initial_max_data": CREDIT,
                  "initial_max_stream_data_bidi_local": CREDIT, "initial_max_stream_data_bidi_remote": CREDIT,
                  "initial_max_stream_data_uni": CREDIT, "initial_max_streams_bidi": STREAMS,
                  "initial_max_streams_uni": STREAMS, "active_connection_id_limit": 8,
                  "initial_source_connection_id": self._scid, "max_datagram_frame_size": 65535 * datagrams}
        if self.server:
            values["original_destination_connection_id"] = original
        self._tls = Tls(encode_parameters(values) + parameters, self._crypto_out, self._secrets, self._parameters,
                        certificate)
        self._confirmed = False
        if not self.server:
            self._tls.feed()

    @property
    def established(self) -> bool:
        return self._tls.complete

    def release(self) -> None:
        """Gives back what the libraries hold.  The object is of no use then."""
        for space in self._spaces.values():
            space.close()
        self._tls.close()

    # What TLS says

    def _crypto_out(self, level: int, data: bytes) -> None:
        space = self._spaces[level]
        for at in range(0, len(data), 1000):
            space.queue.append(("crypto", space.crypto_offset, data[at:at + 1000]))
            space.crypto_offset += len(data[at:at + 1000])

    def _secrets(self, level: int, read: bytes | None, write: bytes | None) -> None:
        if level in self._spaces:
            space = self._spaces[level]
            space.read = Keys(read) if read else space.read
            space.write = Keys(write) if write else space.write

    def _parameters(self, data: bytes) -> None:
        self.peer = decode_parameters(data)
        self._credit = self.peer.get("initial_max_data", 0)

    # What the application does

    def open_stream(self, *, uni: bool = False) -> int:
        number = self._opened[uni] << 2 | uni << 1 | self.server
        self._opened[uni] += 1
        return number

    def send_stream(self, number: int, data: bytes, fin: bool = False) -> None:
        if not (stream := self._out.get(number)):
            kind = "uni" if number & 2 else "bidi_remote" if number & 1 == self.server else "bidi_local"
            stream = self._out[number] = Outbound(credit=self.peer.get(f"initial_max_stream_data_{kind}", 0))
        stream.data += data
        stream.fin |= fin

    def reset_stream(self, number: int, code: int) -> None:
        """Of both directions."""
        stream = self._out.pop(number)
        self._control(b"\x04" + varint(number) + varint(code) + varint(stream.sent))
        self._control(b"\x05" + varint(number) + varint(code))

    def send_datagram(self, data: bytes) -> None:
        if len(data) > self.payload_size - 50:
            raise QuicError("too long for a DATAGRAM frame")
        self._datagrams.append(data)

    def unsent(self, number: int) -> int:
        """Bytes of a stream that have not been sent once."""
        return len(self._out[number].data) - self._out[number].sent

    def issue_cids(self, count: int, retire: bool) -> None:
        """Tells the peer of new ones, and to use none of the old ones any more if `retire`."""
        if retire:
            self._retire_prior_to = self.issued
        for number in range(self.issued, self.issued + count):
            cid = self.cids[number] = os.urandom(self.cid_length)
            self._control(b"\x18" + varint(number) + varint(self._retire_prior_to) + bytes([len(cid)]) + cid
                          + reset_token(self._secret, cid))
        self.issued += count

    def change_peer_cid(self) -> bool:
        """Retires the one that is in use; False if there is no other."""
        if not (others := [number for number in self.peer_cids if number > self.peer_cid]):
            return False
        self._control(b"\x19" + varint(self.peer_cid))
        del self.peer_cids[self.peer_cid]
        self.peer_cid = min(others)
        return True

    def _control(self, frame: bytes) -> None:
        self._spaces[APPLICATION].queue.append(("control", frame))

    # Receiving

    def receive(self, datagram: bytes, now: float) -> None:
        self.now = now
        at = 0
        while at < len(datagram) and not self.closed:
            header = parse_header(datagram, at, self.cid_length)
            if header.level is None:
                return
            space = self._spaces[header.level]
            if space.read and (packet := open_packet(datagram, at, header, space.read, space.largest)):
                if not self._peer_cid_known and header.level != APPLICATION:
                    self.peer_cids[0] = header.scid
                    self._peer_cid_known = True
                self.received_with[packet.dcid] += 1
                if space.note(packet.number):
                    self._frames(packet, space)
            at = header.end

    def _frames(self, packet: Packet, space: Space) -> None:
        r = Reader(packet.payload)
        while r:
            kind = r.varint()
            if kind not in (0x00, 0x02, 0x03, 0x1c, 0x1d):
                space.ack_due = True
            match kind:
                case _ if kind in _IGNORED:
                    for _ in range(_IGNORED[kind]):
                        r.varint()
                case 0x02 | 0x03:
                    self._ack(space, r)
                    if kind == 0x03:
                        r.varint(), r.varint(), r.varint()
                case 0x04:
                    number, self.resets[number], _ = r.varint(), r.varint(), r.varint()
                    self.on_stream(number, b"", True)
                case 0x05:
                    number, self.stops[number] = r.varint(), r.varint()
                case 0x06:
                    offset = r.varint()
                    if data := space.crypto.add(offset, r.bytes(r.varint())):
                        self._tls.feed(packet.level, data)
                        if self._tls.complete and self.server and not self._confirmed:
                            self._confirm()
                            self._control(b"\x1e")
                            self.issue_cids(min(self.peer.get("active_connection_id_limit", 2), CIDS) - 1, False)
                case 0x07:
                    r.bytes(r.varint())
                case _ if 0x08 <= kind <= 0x0f:
                    self._stream(kind, r)
                case 0x10:
                    self._credit = max(self._credit, r.varint())
                case 0x11:
                    number, credit = r.varint(), r.varint()
                    if stream := self._out.get(number):
                        stream.credit = max(stream.credit, credit)
                case 0x18:
                    self._new_peer_cid(r.varint(), r.varint(), r.bytes(r.byte()), r.bytes(16))
                case 0x19:
                    self._retired(r.varint())
                case 0x1a:
                    self._challenged(r.bytes(8))
                case 0x1b:
                    r.bytes(8)
                case 0x1c | 0x1d:
                    self.close_code = r.varint()
                    if kind == 0x1c:
                        r.varint()
                    reason = r.bytes(r.varint()).decode(errors="replace")
                    self.closed = f"peer closed with {self.close_code:#x} {reason}"
                case 0x1e:
                    self._confirm()
                case 0x30 | 0x31:
                    self.on_datagram(r.bytes(r.varint()) if kind & 1 else r.rest())
                case _:
                    self._unknown(kind, r)

    def _challenged(self, data: bytes) -> None:
        self._control(b"\x1b" + data)

    def _unknown(self, kind: int, _: Reader) -> None:
        raise QuicError(f"frame of type {kind:#x}")

    def _confirm(self) -> None:
        """The handshake is over, and with it what only it needs."""
        self._confirmed = True
        for level in (INITIAL, HANDSHAKE):
            space = self._spaces[level]
            self._in_flight -= sum(sent.size for sent in space.unacked.values())
            space.close()
            self._spaces[level] = Space()

    def _stream(self, kind: int, r: Reader) -> None:
        number = r.varint()
        offset = r.varint() if kind & 4 else 0
        data = r.bytes(r.varint()) if kind & 2 else r.rest()
        stream = self._in.setdefault(number, Inbound())
        if kind & 1:
            stream.size = offset + len(data)
        before = stream.offset
        fresh = stream.add(offset, data)
        ended = stream.offset == stream.size
        if fresh or ended and (before < stream.offset or kind & 1):
            self.on_stream(number, fresh, ended)

    def _new_peer_cid(self, number: int, retire_prior_to: int, cid: bytes, _: bytes) -> None:
        if number >= self.peer_cid:
            self.peer_cids.setdefault(number, cid)
        for old in [n for n in self.peer_cids if n < retire_prior_to]:
            if old == self.peer_cid:
                self.change_peer_cid()
            else:
                del self.peer_cids[old]
                self._control(b"\x19" + varint(old))

    def _retired(self, number: int) -> None:
        if number >= self.issued:
            raise QuicError("retired what was not issued")
        if self.cids.pop(number, None) and number >= self._retire_prior_to:
            self.issue_cids(1, False)

    def _ack(self, space: Space, r: Reader) -> None:
        largest, _, count = r.varint(), r.varint(), r.varint()
        high = largest
        low = high - r.varint()
        sent = space.unacked.get(largest)
        while True:
            for number in [n for n in space.unacked if low <= n <= high]:
                packet = space.unacked.pop(number)
                self._in_flight -= packet.size
                grow = packet.size if self._window < self._threshold else 1200 * packet.size // self._window
                self._window = min(self._window + grow, GREATEST_WINDOW)
            if not count:
                break
            count -= 1
            high = low - r.varint() - 2
            low = high - r.varint()
        if sent:
            self._rtt += (self.now - sent.time - self._rtt) / 8
            self._probes = 0
        for number in [n for n in space.unacked if n <= largest - REORDERING]:
            self._lost(space, number)

    def _lost(self, space: Space, number: int) -> None:
        packet = space.unacked.pop(number)
        self._in_flight -= packet.size
        space.queue.extendleft(reversed(packet.frames))
        if packet.time >= self._recovery_since:
            self._recovery_since = self.now
            self._window = self._threshold = max(self._window // 2, LEAST_WINDOW)

    # Sending

    def deadline(self) -> float | None:
        """When transmit() is to be called even if nothing arrives."""
        times = [next(iter(space.unacked.values())).time for space in self._spaces.values() if space.unacked]
        return min(times) + (3 * self._rtt + 0.025) * (1 << min(self._probes, 6)) if times else None

    def close(self, code: int = 0x100) -> None:
        """Says so when transmit() is called next."""
        self.closed = "closed by us"
        self._control(b"\x1d" + varint(code) + varint(0))

    def transmit(self, now: float) -> list[bytes]:
        """The datagrams that are to be sent now."""
        self.now = now
        if (deadline := self.deadline()) and deadline <= now:
            self._probes += 1
            for space in self._spaces.values():
                for number in list(space.unacked)[:2]:
                    self._lost(space, number)
                    space.queue.append(("control", b"\x01"))
        out = []
        for level, space in self._spaces.items():
            while space.write and (datagram := self._packet(level, space)):
                out.append(datagram)
        return out

    def _packet(self, level: int, space: Space) -> bytes | None:
        payload, frames = b"", []
        dcid = self.peer_cids[self.peer_cid]
        room = self.payload_size - (21 + len(dcid) if level == APPLICATION else 80)
        if space.ack_due:
            payload += space.ack_frame()
            space.ack_due = False
        if self._in_flight < self._window:
            while space.queue:
                frame = self._encode(space.queue[0])
                if len(payload) + len(frame) > room:
                    break
                frames.append(space.queue.popleft())
                payload += frame
            if level == APPLICATION:
                while self._datagrams and len(payload) + len(self._datagrams[0]) + 3 <= room:
                    data = self._datagrams.popleft()
                    payload += b"\x31" + varint(len(data)) + data
                    frames.append(("control", b""))
                while not space.queue and (frame := self._next_stream_frame(room - len(payload))):
                    frames.append(frame)
                    payload += self._encode(frame)
        if not payload:
            return None
        least = 1200 - 30 - len(dcid) - len(self._scid) if level == INITIAL else 4
        datagram = seal_packet(level, space.next, dcid, self._scid, payload.ljust(least, b"\0"), space.write)
        if frames:
            space.unacked[space.next] = Sent(self.now, len(datagram), [f for f in frames if f != ("control", b"")])
            self._in_flight += len(datagram)
        space.next += 1
        self.sent_with[dcid] += 1
        return datagram

    @staticmethod
    def _encode(frame: tuple) -> bytes:
        match frame:
            case ("control", data):
                return data
            case ("crypto", offset, data):
                return b"\x06" + varint(offset) + varint(len(data)) + data
            case ("stream", number, offset, data, fin):
                return bytes([0x0e | fin]) + varint(number) + varint(offset) + varint(len(data)) + data

    def _next_stream_frame(self, room: int) -> tuple | None:
        for number, stream in self._out.items():
            size = min(room - 20, len(stream.data) - stream.sent, stream.credit - stream.sent,
                       self._credit - self._sent_on_streams)
            last = stream.fin and stream.sent + size == len(stream.data)
            if room > 40 and (size > 0 or size == 0 and last and not stream.fin_sent):
                data = bytes(memoryview(stream.data)[stream.sent:stream.sent + size])
                frame = ("stream", number, stream.sent, data, last)
                stream.sent += size
                stream.fin_sent = last
                self._sent_on_streams += size
                return frame
        return None
