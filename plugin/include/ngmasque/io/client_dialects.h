// What a client says to its proxy, and how it finds out what that understands.
#pragma once

#include "ngmasque/io/error.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/session/client_dialect.h"
#include "ngmasque/session/rfc9298.h"

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// See the headers of session/ with these names.
enum class ProxyDialect : std::uint8_t {
  /// rfc9298 if the proxy's SETTINGS allow extended CONNECT and it does not answer the first request
  /// with 404, 405 or 501; otherwise draft-00.
  kAuto,
  kRfc9298,
  kDraft00, ///< Its requests leave before the proxy's SETTINGS have come.
  kDraft03, ///< What came after draft-00, and before extended CONNECT: without connection IDs.
};

struct ClientDialectChoice {
  ProxyDialect dialect = ProxyDialect::kAuto;
  // Of rfc9298:
  /// An absolute https URI: UriTemplate.  Empty: kDefaultUdpPath at the proxy's host and port.
  std::string uri_template{};
  /// Packet transforms that are offered, the preferred one first.
  std::vector<Transform> transforms{Transform::kScrambleDt, Transform::kIdentity};
  QuicProxyRevision revision = kNewestRevision;
  bool port_sharing = true; ///< Whether the proxy may use one socket for several connections.
};

/// `host` is without brackets, `port` in digits; `key`: see HashKey.
/// Error: kArgument, for a template that is none.
[[nodiscard]] std::expected<ClientDialectFactory, IoError>
MakeClientDialects(const ClientDialectChoice &choice, std::string_view host, std::string_view port,
                   const HashKey &key);

} // namespace ngmasque
