// Which versions of everything there are, for `--version` and reports of errors.
#pragma once

#include <string_view>

namespace ngmasque {

/// Of those that are linked in at run time.
struct Versions {
  std::string_view ngmasque;
  std::string_view ngtcp2;
  std::string_view nghttp3;
  std::string_view gnutls;
};
[[nodiscard]] Versions LibraryVersions();

/// What is implemented, in which revision.
inline constexpr std::string_view kDocuments[] = {
  "RFC 9298 and RFC 9297: CONNECT-UDP",
  "draft-ietf-masque-quic-proxy-06, -08 and -09: dialect rfc9298",
  "draft-pauly-masque-quic-proxy-00: dialect draft-00",
  "draft-ietf-masque-connect-udp-03: dialect draft-03, as a client",
  "draft-saa-ali-quic, April 2025: SERVER_ALTERNATE_ADDRESS",
};

} // namespace ngmasque
