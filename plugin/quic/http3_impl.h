// What an Http3Client is made of.  Its functions are in http3_client.cc (the interface),
// http3_setup.cc, http3_quic.cc (callbacks of ngtcp2), http3_streams.cc (nghttp3 and request
// streams), http3_write.cc (packets) and http3_close.cc (the end).
#pragma once

#include "handles.h"
#include "tls_client.h"

#include "ngmasque/quic/http3_client.h"
#include "ngmasque/quic/socket_address.h"

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

struct Http3Client::Impl {
  using Bytes = std::vector<std::uint8_t>;

  /// A request.  There are as many as the peer allows streams, and only as many as were submitted.
  struct Stream {
    // The response.
    std::vector<HeaderField> fields;
    std::size_t field_bytes = 0;
    unsigned status = 0;
    bool ended = false;     ///< Nothing of it is reported any more.
    bool too_large = false; ///< More than kMaxResponseBytes: to be refused.

    // What is to be sent in DATA frames.  nghttp3 points into it until it is acknowledged.
    std::deque<Bytes> out;
    std::size_t out_bytes = 0; ///< Of all that is in `out`.
    std::size_t given = 0;     ///< How many of `out` nghttp3 has taken.
    std::size_t acked = 0;     ///< How many bytes of the first one have been acknowledged.
    bool resume = false;       ///< nghttp3 is to be told that there is something to take.
    bool room_wanted = false;  ///< It has been said to be full.
  };

  enum class State : std::uint8_t {
    kOpen,
    kClosePacket, ///< The peer is to be told.
    kClosed,
  };

  Impl(Options options_in, Handler &handler_in)
    : options(std::move(options_in)), handler(handler_in) {}

  // http3_setup.cc
  [[nodiscard]] std::expected<void, QuicError> Open(const FourTuple &path, Nanoseconds now);
  [[nodiscard]] std::expected<void, QuicError> OpenQlog(const ngtcp2_cid &scid);
  [[nodiscard]] bool OpenH3();
  /// Draws a connection ID of ours that the handler has no objection to.
  [[nodiscard]] bool DrawLocalId(ngtcp2_cid &cid);
  [[nodiscard]] static const ngtcp2_callbacks &QuicCallbacks();
  [[nodiscard]] static const nghttp3_callbacks &H3Callbacks();

  // http3_streams.cc
  [[nodiscard]] bool ReadStream(std::int64_t id, bool fin, std::span<const std::uint8_t> data);
  [[nodiscard]] bool OnQuicStreamClosed(std::int64_t id, std::uint64_t code);
  void EndStream(std::int64_t id, StreamEnd end, std::uint64_t code);
  void OnField(std::int64_t id, std::int32_t token, std::string_view name, std::string_view value);
  void OnFieldsEnd(std::int64_t id);
  void OnData(std::int64_t id, std::span<const std::uint8_t> data);
  void OnDataAcked(std::int64_t id, std::uint64_t bytes);
  [[nodiscard]] nghttp3_ssize GiveData(std::int64_t id, std::span<nghttp3_vec> out);
  /// `max_bytes`: of what waits on the stream.
  [[nodiscard]] std::expected<void, QuicError> AddData(StreamId stream,
                                                       std::span<const std::uint8_t> header,
                                                       std::span<const std::uint8_t> payload,
                                                       std::size_t max_bytes);
  void Consume(std::int64_t id, std::size_t bytes);
  [[nodiscard]] Stream *Find(std::int64_t id);

  // http3_write.cc
  ngtcp2_ssize WritePacket(ngtcp2_path *path, ngtcp2_pkt_info *pi, std::span<std::uint8_t> out,
                           ngtcp2_tstamp now);
  void WriteBursts(Nanoseconds now, const BurstSink &sink);
  [[nodiscard]] std::size_t MaxDatagram() const;
  void DropTooLarge(std::size_t max_datagram);
  /// Whether some of what was full has room again, which is then forgotten.
  [[nodiscard]] bool TakeRoom();

  // http3_close.cc
  /// The connection ends because a function of ngtcp2 returned `error`.
  void Fail(int error);
  /// The same for nghttp3; to be followed by a return of NGTCP2_ERR_CALLBACK_FAILURE.
  void FailH3(int error);
  void SetH3Error(std::uint64_t code, std::string_view text);
  void WriteClose(Nanoseconds now, const BurstSink &sink);
  /// Tells the handler what could not be told from within a callback.
  void Deliver();

  Options options;
  Handler &handler;
  Statistics statistics;
  State state = State::kOpen;
  CloseReason reason;
  ngtcp2_ccerr close_error{};
  std::string close_text; // close_error points into it.

  // ngtcp2_conn uses these until it is gone.
  File qlog;
  std::unique_ptr<TlsClient> tls;
  QuicConn conn;
  H3Conn h3;
  std::array<std::uint8_t, 32> reset_secret{}; ///< Of the tokens of stateless resets.

  std::map<std::int64_t, Stream> streams;
  DatagramQueue datagrams{kMaxAllQueuedBytes,
                          [this](DatagramQueue::Key tunnel, std::span<const std::uint8_t> bytes) {
                            handler.OnDatagramDropped(tunnel, bytes, QuicError::kFull);
                          }};
  std::set<DatagramQueue::Key> full; ///< Tunnels that were told kFull, and so have some that wait.
  /// Streams to be ended once nghttp3 is done with its input, and with which code.
  std::vector<std::pair<std::int64_t, std::uint64_t>> refused;
  bool fresh_request = false;        ///< Fields of a request have not left yet: streams go first.
  bool streams_first = true;         ///< Otherwise they take turns.
  std::vector<std::uint8_t> buffer;

  std::optional<bool> peer_h3_datagram;
  bool handshake_done = false;
  std::uint64_t keep_alive = UINT64_MAX; ///< As ngtcp2 wants it.
  bool ping = false;                     ///< It is set to the least there is until a packet leaves.
  bool going_away = false;
  bool stream_gone = false; ///< One that was full.
  bool room_wanted = false; ///< Something was told kFull: one of `full`, or a stream.
  // What Deliver tells.
  bool tell_ready = false;
  bool tell_streams = false;
  bool tell_going_away = false;
  bool tell_path = false;
  FourTuple told_path;
  bool tell_closed = false;
  bool stateless_reset = false;
};

/// `path` as ngtcp2 has it.
[[nodiscard]] FourTuple ToFourTuple(const ngtcp2_path &path);

/// A path for ngtcp2, which points into the two addresses.
struct QuicPath {
  explicit QuicPath(const FourTuple &tuple) : local(tuple.local), remote(tuple.remote) {}
  [[nodiscard]] ngtcp2_path get() {
    return {.local = {.addr = local.get(), .addrlen = local.size()},
            .remote = {.addr = remote.get(), .addrlen = remote.size()},
            .user_data = nullptr};
  }
  SocketAddress local;
  SocketAddress remote;
};

} // namespace ngmasque
