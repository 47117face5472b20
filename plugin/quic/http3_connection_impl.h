// What an Http3Connection is made of.  Its functions are in http3_connection.cc (the interface),
// nghttp3_callbacks.cc (callbacks of nghttp3), http3_streams.cc (request streams) and http3_write.cc
// (packets).
#pragma once

#include "handles.h"

#include "ngmasque/quic/http3_connection.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

/// nghttp3's connection, and whether it may have something to send: only its functions can bring that
/// about.
class Http3State {
public:
  void reset(nghttp3_conn *conn) { conn_.reset(conn); }
  /// To call any function.
  [[nodiscard]] nghttp3_conn *get() {
    idle_ = false;
    return conn_.get();
  }
  explicit operator bool() const { return conn_ != nullptr; }

  /// Nothing was to be sent the last time, and no function has been called since.
  [[nodiscard]] bool idle() const { return idle_; }
  void SetIdle() { idle_ = true; }

private:
  H3Conn conn_;
  bool idle_ = false;
};

struct Http3Connection::Impl {
  using Bytes = std::vector<std::uint8_t>;

  /// A request.  There are as many as the streams that a client may open; a client's are only those
  /// that were submitted.
  struct Stream {
    // The message that comes.
    std::vector<HeaderField> fields;
    std::size_t field_bytes = 0; ///< Of the message, those that are not kept any more included.
    std::size_t kept_bytes = 0;  ///< Of `fields`.
    unsigned status = 0;    ///< Of a response.
    bool told = false;      ///< The handler knows of it.
    bool answered = false;  ///< By Respond.
    bool finished = false;  ///< The peer has sent all, and the handler knows.
    bool ended = false;     ///< Nothing of it is reported any more.
    bool too_large = false; ///< More than kMaxFieldBytes: to be refused.

    // What is to be sent in DATA frames.  nghttp3 points into it until it is acknowledged.
    std::deque<Bytes> out;
    std::size_t out_bytes = 0; ///< Of all that is in `out`, with kStreamPartOverhead for each.
    std::size_t given = 0;     ///< How many of `out` nghttp3 has taken.
    std::size_t acked = 0;     ///< How many bytes of the first one have been acknowledged.
    bool fin = false;          ///< Nothing follows it: no more is taken.
    bool resume = false;       ///< It is in `resumed`.
    bool room_wanted = false;  ///< It has been said to be full.
  };

  Impl(Http3Connection &self_in, Role role_in, const Http3Features &features_in,
       const QueueBounds &bounds_in)
    : self(self_in), role(role_in), features(features_in), bounds(bounds_in) {}
  ~Impl() { ReleaseStreams(); }

  [[nodiscard]] bool OpenH3();
  [[nodiscard]] static const nghttp3_callbacks &H3Callbacks();
  [[nodiscard]] bool is_server() const { return role == Role::kServer; }

  /// The first one is the cause of all others.
  void Fail(std::uint64_t code, std::string_view text);
  void FailH3(int error);
  /// The same, for what nghttp3 returned: whether that was no error.
  [[nodiscard]] bool Check(int rv);

  // http3_streams.cc
  void BeginHeaders(std::int64_t id);
  void OnField(std::int64_t id, std::int32_t token, std::string_view name, std::string_view value);
  void EndHeaders(std::int64_t id);
  /// Those of a stream are not kept any more.
  std::vector<HeaderField> TakeFields(Stream &stream);
  void OnData(std::int64_t id, std::span<const std::uint8_t> data);
  void OnDataAcked(std::int64_t id, std::uint64_t bytes);
  [[nodiscard]] nghttp3_ssize GiveData(std::int64_t id, std::span<nghttp3_vec> out,
                                       std::uint32_t &flags);
  void Consume(std::int64_t id, std::size_t bytes);
  /// The peer has sent all.
  void FinishStream(std::int64_t id);
  /// Has nghttp3 ask for what there is on it.
  void Resume(std::int64_t id, Stream &stream);
  /// Both directions are over: `end` is kReset or kRefused.
  void EndStream(std::int64_t id, StreamEnd end, std::uint64_t code);
  /// Forgets it, and says whether the handler is to be told that it is over.
  [[nodiscard]] bool RemoveStream(std::int64_t id);
  void ReleaseStreams();
  [[nodiscard]] std::expected<void, QuicError> Submit(std::int64_t id,
                                                      std::span<const HeaderField> fields,
                                                      bool end);
  [[nodiscard]] std::expected<void, QuicError> Respond(std::int64_t id,
                                                       std::span<const HeaderField> fields,
                                                       bool end);
  /// An answer of its own to a request that the handler never sees.
  void Refuse(std::int64_t id, unsigned status);
  /// `max_bytes`: of what waits on the stream.
  [[nodiscard]] std::expected<void, QuicError> AddData(StreamId stream,
                                                       std::span<const std::uint8_t> header,
                                                       std::span<const std::uint8_t> payload,
                                                       std::size_t max_bytes);
  [[nodiscard]] Stream *Find(std::int64_t id);

  // http3_write.cc
  [[nodiscard]] ngtcp2_ssize WritePacket(ngtcp2_path *path, ngtcp2_pkt_info *pi,
                                         std::span<std::uint8_t> out, ngtcp2_tstamp now,
                                         bool fill);
  [[nodiscard]] std::size_t MaxDatagram() const;
  void DropTooLarge(std::size_t max_datagram);
  void OnDropped(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram,
                 QuicError::Code reason);
  /// Whether some of what was full has room again, which is then forgotten.
  [[nodiscard]] bool TakeRoom();

  Http3Connection &self;
  Role role;
  Http3Features features;
  QueueBounds bounds;
  Handler *handler = nullptr;
  ngtcp2_conn *conn = nullptr; // From Attach on.
  Http3State h3;
  Statistics statistics;
  bool closed = false;
  std::optional<Failure> failure;
  std::shared_ptr<ByteBudget> budget; // May be null.

  std::map<std::int64_t, Stream> streams;
  std::size_t kept_field_bytes = 0; ///< Of all streams: at most kMaxUnfinishedFieldBytes.
  std::vector<std::int64_t> resumed; ///< Streams of which nghttp3 is to be told; at most all of them.
  DatagramQueue datagrams{bounds.bytes,
                          [this](DatagramQueue::Key tunnel, std::span<const std::uint8_t> bytes) {
                            OnDropped(tunnel, bytes, QuicError::kFull);
                          }};
  std::set<DatagramQueue::Key> full; ///< Tunnels that were told kFull, and so have some that wait.
  /// Streams to be ended once nghttp3 is done with its input, and with which code.
  std::vector<std::pair<std::int64_t, std::uint64_t>> refused;
  bool fresh_request = false; ///< Fields of a request have not left yet: streams go first.
  bool streams_first = true;  ///< Otherwise they take turns.

  std::optional<PeerSettings> peer_settings;
  bool tell_settings = false;
  bool going_away = false; ///< The peer is.
  std::vector<std::int64_t> rejected; ///< Requests that it will not take: to be ended, as `refused`.
  bool tell_going_away = false;
  bool stream_gone = false; ///< One that was full.
  bool room_wanted = false; ///< Something was told kFull: one of `full`, or a stream.
};

} // namespace ngmasque
