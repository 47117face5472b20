// The client's end of an HTTP/3 connection that carries CONNECT-UDP requests and QUIC datagrams:
// ngtcp2, nghttp3 and GnuTLS behind one class.  RFC 9000, RFC 9114, RFC 9221, and
// draft-schinazi-quic-h3-datagram-05.
//
// Without sockets and clocks: packets, paths, ECN and the time are arguments, what is to be sent
// goes to a sink.  Times are in nanoseconds of any clock that never goes back.
#pragma once

#include "ngmasque/quic/datagram_queue.h"
#include "ngmasque/quic/error.h"
#include "ngmasque/quic/packet_size.h"
#include "ngmasque/routing/connection_id.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/authority.h"
#include "ngmasque/wire/h3_error.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ngmasque {

using Nanoseconds = std::uint64_t;

/// No time at all, of Http3Client::Expiry.
inline constexpr Nanoseconds kNever = UINT64_MAX;

/// Datagrams of one tunnel that wait for the congestion window, in bytes with
/// DatagramQueue::kOverhead for each.  Beyond either bound SendDatagram says kFull.
inline constexpr std::size_t kMaxQueuedDatagrams = 256;
inline constexpr std::size_t kMaxQueuedDatagramBytes = std::size_t{256} << 10;

/// Datagrams of all tunnels that wait, in the same bytes: as many as 64 tunnels can have.  Beyond it
/// the tunnel that has more than its share loses some, which is counted: see DatagramQueue.
inline constexpr std::size_t kMaxAllQueuedBytes = 64 * kMaxQueuedDatagramBytes;

/// Bytes on one stream that wait or are not yet acknowledged.  Beyond it SendData says kFull.
inline constexpr std::size_t kMaxStreamBytes = std::size_t{256} << 10;

/// The same for SendMessage, which so has room where payloads have taken all of theirs.
inline constexpr std::size_t kMaxStreamMessageBytes = kMaxStreamBytes + (std::size_t{16} << 10);

/// The fields of a response: names and values, and 32 bytes for each (RFC 9114, section 4.2.2),
/// decoded.  A stream with more is reset.
inline constexpr std::size_t kMaxResponseBytes = std::size_t{16} << 10;

/// The length of the connection IDs that the client chooses for itself, in bytes.
inline constexpr std::size_t kLocalIdLength = 17;

/// Why a connection is over.
enum class CloseKind : std::uint8_t {
  kLocal,          ///< Close was called.
  kPeer,           ///< The peer closed it.
  kStatelessReset, ///< The peer does not know it any more.
  kIdleTimeout,
  kHandshakeTimeout,
  kCertificate, ///< The peer's certificate is not acceptable.
  kTls,         ///< The TLS handshake failed otherwise.
  kProtocol,    ///< The peer broke QUIC or HTTP/3.
  kInternal,
};

struct CloseReason {
  CloseKind kind{};
  bool application = false; ///< Whether `code` is one of HTTP/3, and not of QUIC.
  std::uint64_t code = 0;
  std::string text; ///< Printable ASCII, at most some hundred bytes.
};

/// How a request stream came to its end.
enum class StreamEnd : std::uint8_t {
  kFinished, ///< The peer has sent all, and in order.
  kReset,    ///< The peer has reset it, or does not want to read any more.
  kRefused,  ///< The response was refused here: malformed, or more than kMaxResponseBytes.
};

/// UDP payloads of `segment` bytes each, the last may be shorter.
struct OutgoingBurst {
  FourTuple path;
  unsigned ecn = 0; ///< 0 to 3.
  std::span<const std::uint8_t> data;
  std::size_t segment = 0;
};

/// Takes a burst, all of it.  Returns false if no more should follow now.
using BurstSink = std::function<bool(const OutgoingBurst &)>;

class Http3Client {
public:
  struct Options {
    std::string server_name{};        ///< For SNI and for the certificate; no SNI for an address.
    std::filesystem::path ca_file{};  ///< PEM.  Empty: the certificate is not verified.
    std::filesystem::path qlog_dir{}; ///< Empty: none.  File: ID.outer.sqlog, ID in hex.
    std::filesystem::path key_log_file{}; ///< Empty: none.  Appended to.
    std::chrono::nanoseconds idle_timeout = std::chrono::seconds(30);
    std::chrono::nanoseconds handshake_timeout = std::chrono::seconds(10);
    /// Silence after which a PING is sent; nothing: a third of the idle timeout that both ends
    /// agree on; zero: never.
    std::optional<std::chrono::nanoseconds> keep_alive{};
    /// UDP payload of packets in bytes, kMinUdpPayload to 65527: from the start, or else at most.
    std::size_t max_udp_payload = kOuterUdpPayload;
    /// Whether packets begin with kMinUdpPayload, and the path is probed for more.
    bool probe_path = false;
    /// Whether SETTINGS_H3_DATAGRAM of the draft and max_datagram_frame_size are announced.
    bool datagrams = true;
  };

  /// From within a call of it only SendDatagram, SendData, SendMessage and const functions may be
  /// called.
  class Handler {
  public:
    virtual ~Handler() = default;

    /// The handshake is complete; requests can be sent.  `max_datagram` is max_datagram().
    virtual void OnReady(std::size_t max_datagram) = 0;
    /// The final response of a request, as it came; interim ones are left out.
    virtual void OnResponse(StreamId stream, std::span<const HeaderField> fields) = 0;
    /// Bytes in DATA frames, after a response with 2xx; never none.
    virtual void OnData(StreamId stream, std::span<const std::uint8_t> data) = 0;
    /// The stream is over and nothing of it follows; once for each that was not closed with
    /// CloseStream.  `code` is the peer's, if it gave one; with kRefused it is ours.
    virtual void OnStreamClosed(StreamId stream, StreamEnd end, std::uint64_t code) = 0;
    /// A datagram, as it came.
    virtual void OnDatagram(std::span<const std::uint8_t> datagram) = 0;
    /// A datagram that SendDatagram took is dropped after all, header and all: kFull, at
    /// kMaxAllQueuedBytes for one of another tunnel, or kTooLarge, as packets have become smaller.
    /// Also called from within SendDatagram and WritePackets; must call nothing.
    virtual void OnDatagramDropped(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram,
                                   QuicError::Code reason) = 0;
    /// After kFull: there is room again, for one at least of the tunnels and streams that it was
    /// said of.
    virtual void OnWritable() = 0;
    /// The peer allows more streams than before.
    virtual void OnStreamsAvailable() = 0;
    /// The peer takes no more requests; those on their way go on.
    virtual void OnGoAway() = 0;
    /// The connection will use this connection ID.  Returns false if it must not, because it
    /// conflicts with one of another connection: another one is drawn.
    virtual bool OnNewLocalId(const ConnectionId &id) = 0;
    /// ... and does not use it any more.
    virtual void OnRetiredLocalId(const ConnectionId &id) = 0;
    /// Packets leave on another path from now on.
    virtual void OnPathChanged(const FourTuple &path) = 0;
    /// The connection is over; nothing else is called any more.
    virtual void OnClosed(const CloseReason &reason) = 0;
  };

  struct Statistics {
    std::uint64_t datagrams_sent = 0;
    std::uint64_t datagrams_received = 0;
  };

  /// Starts a connection on `path`.  `handler` has to outlive it; OnNewLocalId is called.
  /// Errors: kTls, kQlog, kArgument, kInternal.
  [[nodiscard]] static std::expected<std::unique_ptr<Http3Client>, QuicError>
  Create(Options options, const FourTuple &path, Handler &handler, Nanoseconds now);

  ~Http3Client();
  Http3Client(const Http3Client &) = delete;
  Http3Client &operator=(const Http3Client &) = delete;

  /// How many QUIC packets have come from the peer, those that could not be decrypted left out.
  [[nodiscard]] std::uint64_t packets_received() const;

  /// Takes a UDP payload.  `ecn`: 0 to 3.
  void Receive(const FourTuple &path, unsigned ecn, std::span<const std::uint8_t> packet,
               Nanoseconds now);

  /// To be called at Expiry().
  void HandleExpiry(Nanoseconds now);

  /// When HandleExpiry and WritePackets are to be called; kNever once the connection is over.
  [[nodiscard]] Nanoseconds Expiry() const;

  /// Writes what can be sent now, in bursts that leave with one system call each.  To be called
  /// after everything that may have made something to send.
  void WritePackets(Nanoseconds now, const BurstSink &sink);

  /// Sends a request on a new stream, which stays open.  The fields leave no later than datagrams
  /// that are queued afterwards, unless flow control holds them back.
  /// Errors: kClosed, kNotReady, kStreamsBlocked, kGoingAway, kInternal.
  [[nodiscard]] std::expected<StreamId, QuicError>
  SubmitRequest(std::span<const HeaderField> fields);

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

  /// The longest datagram in bytes that fits a packet on this path now; 0 if the peer takes none.
  [[nodiscard]] std::size_t max_datagram() const;

  /// Whether the peer takes QUIC datagrams: it has sent max_datagram_frame_size.  Known when
  /// OnReady is called; SETTINGS may be late or say nothing of it.
  [[nodiscard]] bool datagrams() const;

  /// The peer's SETTINGS_H3_DATAGRAM of the draft: nothing before its SETTINGS have come.
  [[nodiscard]] std::optional<bool> peer_h3_datagram() const;

  /// Validates a path from another local endpoint and moves there: OnPathChanged.
  /// Errors: kClosed, kNotReady (the handshake is not confirmed), kNotSupported, kInternal.
  [[nodiscard]] std::expected<void, QuicError> Migrate(const Endpoint &local, Nanoseconds now);

  /// Has the next packet elicit an acknowledgement, with a PING if there is nothing else.
  void Ping();

  /// Closes the connection with an error code of HTTP/3.  The handler is not called any more.
  void Close(std::uint64_t code, Nanoseconds now, const BurstSink &sink);

  /// The path that packets leave on.
  [[nodiscard]] FourTuple path() const;

  [[nodiscard]] const Statistics &statistics() const;

  struct Impl; // Of the implementation.

private:
  explicit Http3Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

} // namespace ngmasque
