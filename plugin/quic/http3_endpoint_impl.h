// What an Http3Endpoint is made of.  Its functions are in http3_endpoint.cc (the interface, and
// packets), endpoint_callbacks.cc (callbacks of ngtcp2) and endpoint_close.cc (the end).
#pragma once

#include "handles.h"
#include "qlog.h"
#include "tls_end.h"

#include "ngmasque/quic/http3_endpoint.h"
#include "ngmasque/quic/peer_moves.h"
#include "ngmasque/quic/socket_address.h"
#include "ngmasque/quic/validated_paths.h"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

struct Http3Endpoint::Impl {
  enum class State : std::uint8_t {
    kOpen,
    kClosePacket, ///< The peer is to be told.
    kClosed,
  };

  Impl(Http3Endpoint &self_in, Role role_in) : self(self_in), role(role_in) {}

  // endpoint_callbacks.cc
  /// Those of both roles; user_data is a pointer to this.
  [[nodiscard]] static ngtcp2_callbacks MakeCallbacks();
  /// For TlsEnd: user_data of the argument is a pointer to this.
  static ngtcp2_conn *Conn(ngtcp2_crypto_conn_ref *reference) {
    return static_cast<Impl *>(reference->user_data)->conn.get();
  }
  /// For ngtcp2_settings, if there is a `qlog`.
  static void WriteQlog(void *user_data, std::uint32_t, const void *data, std::size_t size) {
    static_cast<Impl *>(user_data)->qlog->Write({static_cast<const std::uint8_t *>(data), size});
  }
  /// Draws a connection ID of ours that nobody has an objection to, and its token.
  [[nodiscard]] bool DrawLocalId(ngtcp2_cid &cid, ngtcp2_stateless_reset_token *token);
  void Attach(ngtcp2_conn *raw) {
    conn.reset(raw);
    self.Attach(raw);
  }
  void OnPathValidated(const FourTuple &path, bool success);
  /// In the middle of a packet: one of its frames is for HTTP/3.
  void OnFrame();

  void WriteBursts(Nanoseconds now, const BurstSink &sink);
  struct Run;
  /// Writes into `buffer` what can leave together.  Returns 0, an error of ngtcp2, or the size of a
  /// packet behind that cannot leave together with the others.
  [[nodiscard]] ngtcp2_ssize WriteRun(Run &run, Nanoseconds now);

  // endpoint_close.cc
  /// The connection ends because a function of ngtcp2 returned `error`.
  void Fail(int error);
  /// ... because it is wanted here, with a code of HTTP/3.
  void FailLocal(std::uint64_t code);
  /// The same in the middle of a server's handshake, with CONNECTION_REFUSED.
  void Refuse();
  void WriteClose(Nanoseconds now, const BurstSink &sink);
  /// What WriteClose has written, until the buffer is used again; empty if nothing.
  [[nodiscard]] std::span<const std::uint8_t> close_packet() const {
    return buffer.first(close_size);
  }

  /// Tells the handler what could not be told from within a callback.
  void Deliver();

  Http3Endpoint &self;
  Role role;
  Handler *handler = nullptr;
  State state = State::kOpen;
  CloseReason reason;
  ngtcp2_ccerr close_error{};

  /// Of kLocalIdLength bytes; may be drawn in another way.
  std::function<bool(std::span<std::uint8_t>)> draw_id;
  std::array<std::uint8_t, 32> reset_secret{}; ///< Of the tokens of stateless resets.

  // ngtcp2_conn uses these until it is gone.
  std::optional<Qlog> qlog;
  std::unique_ptr<TlsEnd> tls; ///< Of a server's, until the handshake is complete.
  QuicConn conn;
  std::span<std::uint8_t> buffer; ///< Of kBurstBuffer bytes; others may use it between the calls.

  ValidatedPaths validated; ///< A server's.
  PeerMoves moves;          ///< A server's.
  /// The packet that a server's connection is reading, if it has a short header.
  struct Arrival {
    const FourTuple &path;
    std::span<const std::uint8_t> id;
  };
  std::optional<Arrival> arrival;
  std::uint64_t keep_alive = UINT64_MAX;  ///< As ngtcp2 wants it.
  Nanoseconds pause_end = 0;             ///< When packets may follow those that were written last.
  bool ping = false;                     ///< It is set to the least there is until a packet leaves.
  /// A client's: the server may move the connection, also back to a path that was validated before,
  /// of which there is no callback.
  bool server_migration = false;
  // What Deliver tells.
  bool tell_path = false;
  FourTuple told_path;
  bool tell_closed = false;
  std::size_t close_size = 0;
  /// The peer has been told, or has told: packets of its may come for a while still.
  bool lingers = false;
  bool stateless_reset = false;
  bool retry = false; ///< A server's: the client is to show its address first.

  struct Callbacks;
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
