// What a connection begins with, in either role.
#pragma once

#include "http3_endpoint_impl.h"

#include "ngmasque/quic/error.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <span>

#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

/// Flow control for what comes on a request stream.  It is small, but for payloads where there are no
/// datagrams, and consumed at once.
inline constexpr std::uint64_t kStreamWindow = std::uint64_t{256} << 10;

/// Options that a client and a server have in common: see there.
struct EndpointOptions {
  const std::filesystem::path &qlog_dir;
  bool hold_qlog = false; ///< See Qlog.
  std::chrono::nanoseconds idle_timeout{};
  std::chrono::nanoseconds handshake_timeout{};
  std::size_t max_udp_payload = 0;
  bool probe_path = false;
  Http3Features features;
};

/// Unpredictable bytes; false if there are none.
[[nodiscard]] bool Random(std::span<std::uint8_t> out);

/// Whether packets may have so many bytes of UDP payload.  Error: kArgument.
[[nodiscard]] std::expected<void, QuicError> CheckUdpPayload(std::size_t size);

/// Fills both for the connection with the ID `scid`, and opens its qlog.  What is the role's own is
/// left for the caller.  Error: kQlog.
[[nodiscard]] std::expected<void, QuicError>
PrepareConnection(Http3Endpoint::Impl &endpoint, const EndpointOptions &options,
                  const ngtcp2_cid &scid, Nanoseconds now, ngtcp2_settings &settings,
                  ngtcp2_transport_params &params);

} // namespace ngmasque
