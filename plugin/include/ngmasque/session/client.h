// Whom a proxy counts limits for: not connections, of which everybody can have many.
#pragma once

#include "ngmasque/routing/types.h"
#include "ngmasque/session/token_bucket.h"
#include "ngmasque/wire/byte_budget.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace ngmasque {

/// Who a client is: its credentials, or else where it comes from.  A user is one, see Admission.
class ClientKey {
public:
  /// Credentials are at most so long.
  static constexpr std::size_t kMaxCredentials = 64;

  /// An IPv4 address, IPv4-mapped or not; of an IPv6 address the first 64 bits, and the interface of
  /// a link-local one: hosts choose the rest as they like (RFC 8981).  Ports do not matter, as behind
  /// a NAT they do not tell hosts apart that can be trusted apart.
  [[nodiscard]] static ClientKey FromAddress(const Endpoint &remote);

  /// What stands for somebody whom the caller has authenticated, 1 to kMaxCredentials bytes: an
  /// identifier or a hash.  Nothing for other lengths.
  [[nodiscard]] static std::optional<ClientKey>
  FromCredentials(std::span<const std::uint8_t> credentials);

  [[nodiscard]] bool operator==(const ClientKey &) const = default;

private:
  friend class ClientKeyHash;
  enum class Kind : std::uint8_t { kIpv4, kIpv6, kCredentials };

  ClientKey(Kind kind, std::span<const std::uint8_t> bytes, std::uint32_t scope = 0);

  Kind kind_;
  std::uint8_t size_;
  std::uint32_t scope_;
  std::array<std::uint8_t, kMaxCredentials> bytes_{}; // size_ of them; the others are 0.
};

/// For unordered containers.  Keyed, because a peer may have as many addresses as it likes to
/// choose from.
class ClientKeyHash {
public:
  explicit ClientKeyHash(const HashKey &key) : key_(key) {}
  [[nodiscard]] std::size_t operator()(const ClientKey &key) const noexcept;

private:
  HashKey key_;
};

/// What a client has, of all of its connections together.  The bounds are those of RoutingLimits and
/// ProxyOptions.
struct Client {
  Client(const ClientKey &k, std::shared_ptr<ByteBudget> w) : key(k), waiting(std::move(w)) {}

  ClientKey key;
  std::size_t connections = 0; ///< At most max_connections_per_client.
  std::size_t tunnels = 0;     ///< At most max_flows_per_client; each has at most one socket.
  std::size_t requests = 0;    ///< At most max_streams_per_client.
  std::size_t mappings = 0;    ///< The same.
  /// At most max_lookups_per_client.  Those that run count even if nobody waits for them any more,
  /// and keep the record: otherwise new connections could start any number of them.
  std::size_t lookups = 0;
  TokenBucket bucket{0, 0};
  std::optional<std::uint64_t> own_rate{}; ///< Admission::max_bytes_per_second
  std::shared_ptr<ByteBudget> waiting; ///< For whoever keeps its bytes; never null.
};

} // namespace ngmasque
