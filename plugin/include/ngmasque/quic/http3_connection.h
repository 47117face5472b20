// HTTP/3 on a QUIC connection, for either role: request streams, QUIC datagrams and SETTINGS.
// RFC 9114, RFC 9220, RFC 9221, RFC 9297, and draft-schinazi-quic-h3-datagram-05.
//
// The QUIC connection is that of a class derived from this one: Http3Endpoint, which has one of its
// own, or whatever else has an ngtcp2_conn and hands on what its callbacks say: Http3Callbacks.
#pragma once

#include "ngmasque/quic/datagram_queue.h"
#include "ngmasque/quic/error.h"
#include "ngmasque/quic/types.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/wire/byte_budget.h"
#include "ngmasque/wire/h3_error.h"
#include "ngmasque/wire/h3_settings.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>

struct ngtcp2_conn;
struct ngtcp2_path;
struct ngtcp2_pkt_info;

namespace ngmasque {

/// Bytes on one stream that wait or are not yet acknowledged, with kStreamPartOverhead for each part
/// that was given.  Beyond it SendData says kFull.
inline constexpr std::size_t kMaxStreamBytes = std::size_t{256} << 10;

/// The same for SendMessage, which so has room where payloads have taken all of theirs.
inline constexpr std::size_t kMaxStreamMessageBytes = kMaxStreamBytes + (std::size_t{16} << 10);

/// What each part counts besides its bytes, about what it takes: small ones are not for free.
inline constexpr std::size_t kStreamPartOverhead = 64;

/// The fields of a message: names and values, and 32 bytes for each (RFC 9114, section 4.2.2),
/// decoded.  A response with more is reset, a request is answered with 431.
inline constexpr std::size_t kMaxFieldBytes = std::size_t{16} << 10;

/// The same of all messages of a connection that have not come to the end of their fields; the one
/// that exceeds it is treated like one that is too large.  A peer that never ends them could have as
/// much as that for each stream otherwise.
inline constexpr std::size_t kMaxUnfinishedFieldBytes = 4 * kMaxFieldBytes;

class Http3Connection {
public:
  enum class Role : std::uint8_t { kClient, kServer };

  /// What may wait for the congestion window, in bytes with DatagramQueue::kOverhead for each
  /// datagram.
  struct QueueBounds {
    /// Of one tunnel.  Beyond either bound SendDatagram says kFull.
    std::size_t datagrams_per_tunnel = 256;
    std::size_t bytes_per_tunnel = std::size_t{256} << 10;
    /// Of all tunnels: as much as 64 can have.  Beyond it the tunnel that has more than its share
    /// loses some, which is told: see DatagramQueue.
    std::size_t bytes = std::size_t{16} << 20;
  };

  /// From within a call of it only SendDatagram, SendData, SendMessage, Respond, CloseStream and
  /// const functions may be called.
  class Handler {
  public:
    virtual ~Handler() = default;

    /// A request has come, or the final response to one; interim ones are left out.
    virtual void OnHeaders(StreamId stream, std::span<const HeaderField> fields) = 0;
    /// Bytes in DATA frames, of a request or of a response with 2xx; never none.
    virtual void OnData(StreamId stream, std::span<const std::uint8_t> data) = 0;
    /// Nothing more comes on the stream; once for each of SubmitRequest or, at a server, of OnHeaders
    /// that was not ended with CloseStream or Respond.  `code` is the peer's, if it gave one; with
    /// kRefused it is ours.
    ///
    /// With kFinished a client may have ended its request alone (RFC 9114, section 4.1).  One that is
    /// not answered yet stays, for Respond or CloseStream.  On one that was accepted, as on a response
    /// with 2xx at a client, ours is ended as well, in order, after what is sent from within the call;
    /// CloseStream resets it instead.  Otherwise the stream is over.
    virtual void OnStreamClosed(StreamId stream, StreamEnd end, std::uint64_t code) = 0;
    /// A datagram, as it came.  What is returned is the error code to close the connection with, 0
    /// for none.
    virtual std::uint64_t OnDatagram(std::span<const std::uint8_t> datagram) = 0;
    /// A datagram that SendDatagram took is dropped after all, header and all: kFull, at
    /// QueueBounds::bytes for one of another tunnel, or kTooLarge, as packets have become smaller.
    /// Also called from within SendDatagram and WritePackets; must call nothing.
    virtual void OnDatagramDropped(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram,
                                   QuicError::Code reason) = 0;
    /// After kFull: there is room again, for one at least of the tunnels and streams that it was
    /// said of.  Not at a server, which does not wait for it.
    virtual void OnWritable() {}
    /// The peer takes no more requests: once.  Those that it has taken go on; of those that it says it
    /// will not take OnStreamClosed has told before, with kReset and kH3RequestRejected, which can be
    /// sent again on another connection.  RFC 9114, section 5.2.
    virtual void OnGoAway() {}
    /// The peer's SETTINGS have come, once.
    virtual void OnSettings(const PeerSettings &) {}
  };

  struct Statistics {
    std::uint64_t datagrams_sent = 0;
    std::uint64_t datagrams_received = 0;
  };

  Http3Connection(const Http3Connection &) = delete;
  Http3Connection &operator=(const Http3Connection &) = delete;

  /// A client's: sends a request on a new stream, which stays open.  The fields leave no later than
  /// datagrams that are queued afterwards, unless flow control holds them back.
  /// Errors: kClosed, kNotReady, kStreamsBlocked, kGoingAway, kInternal.
  [[nodiscard]] std::expected<StreamId, QuicError>
  SubmitRequest(std::span<const HeaderField> fields);

  /// A server's: answers a request, once.  `end`: the response has no content and nothing more of the
  /// request is read; otherwise the stream stays open.
  /// Errors: kClosed, kUnknownStream, kInternal.
  [[nodiscard]] std::expected<void, QuicError>
  Respond(StreamId stream, std::span<const HeaderField> fields, bool end);

  /// Whether a request has been answered.  False: it is not there, or not any more.
  [[nodiscard]] bool answered(StreamId stream) const;

  /// Ends a request: the stream is reset and the peer asked to stop.  Unknown ones are ignored.
  void CloseStream(StreamId stream, std::uint64_t code = kH3RequestCancelled);

  /// Queues a datagram, the two parts one after the other.  Tunnels take turns; `tunnel` tells them
  /// apart.
  /// Errors: kClosed, kNotReady, kNoDatagrams, kTooLarge, kFull.
  [[nodiscard]] std::expected<void, QuicError> SendDatagram(DatagramQueue::Key tunnel,
                                                            std::span<const std::uint8_t> header,
                                                            std::span<const std::uint8_t> payload);

  /// Sends bytes on the stream in DATA frames, the two parts one after the other: all, or nothing.
  /// Errors: kClosed, kUnknownStream, kTooLarge (above kMaxStreamBytes), kFull.
  [[nodiscard]] std::expected<void, QuicError> SendData(StreamId stream,
                                                        std::span<const std::uint8_t> header,
                                                        std::span<const std::uint8_t> payload);

  /// The same for what must not be left out, and so has more room: kMaxStreamMessageBytes.
  [[nodiscard]] std::expected<void, QuicError> SendMessage(StreamId stream,
                                                           std::span<const std::uint8_t> message);

  /// What waits, in datagrams and on streams, counts there as well from now on; where there is no
  /// room in it, sending says kFull.  To be called while nothing waits.
  void ShareWith(std::shared_ptr<ByteBudget> budget);

  /// The longest datagram in bytes that fits a packet on this path now; 0 if the peer takes none.
  [[nodiscard]] std::size_t max_datagram() const;

  /// Whether the peer takes QUIC datagrams: it has sent max_datagram_frame_size.  Known once the
  /// handshake is complete; SETTINGS may be late or say nothing of it.
  [[nodiscard]] bool datagrams() const;

  /// Nothing before the peer's SETTINGS have come.
  [[nodiscard]] std::optional<PeerSettings> peer_settings() const;

  [[nodiscard]] const Statistics &statistics() const;

  struct Impl; // Of the implementation.

protected:
  /// An error of the connection: it is to be closed with this code of HTTP/3.
  struct Failure {
    std::uint64_t code{};
    std::string text;
  };

  /// `features`: what is announced.  With datagrams of either kind, max_datagram_frame_size is to
  /// be, too.
  Http3Connection(Role role, const Http3Features &features, const QueueBounds &bounds);
  ~Http3Connection();

  /// Who is told; null: nobody, and what comes is dropped.
  void SetHandler(Handler *handler);

  /// What it is on, which has to be there until the last call; before anything else.
  void Attach(ngtcp2_conn *conn);

  [[nodiscard]] bool is_server() const;

  /// Starts HTTP/3.  False: see failure().
  [[nodiscard]] bool Open();

  // Called by Http3Callbacks; without effect before Open.  False: the callback fails, and the
  // connection is to be closed for failure().
  [[nodiscard]] bool RecvStreamData(std::int64_t stream, bool fin,
                                    std::span<const std::uint8_t> data);
  [[nodiscard]] bool AckedStreamData(std::int64_t stream, std::uint64_t size);
  [[nodiscard]] bool StreamClosed(std::int64_t stream, std::uint64_t code);
  [[nodiscard]] bool StreamReset(std::int64_t stream, std::uint64_t code);
  [[nodiscard]] bool StreamStopSending(std::int64_t stream);
  void RecvStopSending(std::int64_t stream, std::uint64_t code);
  void ExtendMaxRemoteStreams(std::uint64_t max);
  [[nodiscard]] bool ExtendMaxStreamData(std::int64_t stream);
  [[nodiscard]] bool RecvDatagram(std::span<const std::uint8_t> datagram);

  /// Writes one packet, as the callback of ngtcp2_conn_write_aggregate_pkt2 has to: what it returns
  /// is an ngtcp2_ssize.  `fill`: packets of datagrams are padded to the size of `out`, if more
  /// follow; false: not if the next one will be as large as this one by itself, and not much smaller
  /// than `out`.
  [[nodiscard]] std::ptrdiff_t WritePacket(ngtcp2_path *path, ngtcp2_pkt_info *pi,
                                           std::span<std::uint8_t> out, Nanoseconds now,
                                           bool fill = true);

  /// Whether datagrams or data of streams may wait to be written; what ngtcp2 has to say of its own
  /// accord is not counted.
  [[nodiscard]] bool waits() const;

  /// To be called before packets are written.  False: see failure().
  [[nodiscard]] bool ResumeStreams();

  /// Tells the handler what could not be told from within a callback.
  void DeliverHttp3();

  /// A server's GOAWAY: the client is to send no more requests, those on their way are taken still ...
  void AnnounceGoAway();
  /// ... and from now on none are, but answered with H3_REQUEST_REJECTED.  False: see failure().
  [[nodiscard]] bool GoAway();
  /// Whether no request is left after GoAway, and that has been sent.
  [[nodiscard]] bool drained() const;

  /// Nothing can be sent any more.
  void CloseHttp3();

  /// What the first failure was; nothing if there was none.
  [[nodiscard]] const std::optional<Failure> &failure() const;

  /// There is something to be written that was not there before.
  virtual void OnWantWrite() {}

  /// failure() says why the connection is to be closed, with a code of HTTP/3.
  virtual void OnFailure() {}

private:
  template <Http3Connection *(*find)(void *user_data)> friend class Http3Callbacks;

  std::unique_ptr<Impl> impl_;
};

} // namespace ngmasque
