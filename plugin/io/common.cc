#include "ngmasque/io/common.h"

#include "common.h"

#include "ngmasque/quic/socket_address.h"
#include "ngmasque/wire/quic_header.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <format>
#include <utility>

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <netinet/in.h>
#include <sys/resource.h>

namespace ngmasque {

std::uint64_t SteadyNow() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                      std::chrono::steady_clock::now().time_since_epoch())
                                      .count());
}

std::optional<HashKey> DrawHashKey() {
  HashKey key;
  if (gnutls_rnd(GNUTLS_RND_KEY, &key, sizeof(key)) != 0) {
    return std::nullopt;
  }
  return key;
}

bool IsNews(const SendOutcome &outcome, std::set<std::string> &said) {
  return !outcome.gave_up.empty() && said.insert(outcome.gave_up).second;
}

void Count(Traffic &count, const Burst &burst) {
  auto rest = burst.data;
  do {
    const auto packet = rest.first(std::min(burst.segment, rest.size()));
    rest = rest.subspan(packet.size());
    count.Add(packet.size(), PeekHeaderForm(packet) == HeaderForm::kLong);
  } while (!rest.empty());
}

std::size_t RaiseDescriptorLimit(std::size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return 0;
  }
  const auto raised = std::clamp<rlim_t>(wanted, limit.rlim_cur, limit.rlim_max);
  const auto old = std::exchange(limit.rlim_cur, raised);
  if (limit.rlim_cur != old && ::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return old;
  }
  return limit.rlim_cur;
}

std::string ToText(const Endpoint &endpoint) {
  SocketAddress address(endpoint);
  std::array<char, INET6_ADDRSTRLEN> host{};
  const bool ipv4 = address.family() == AF_INET;
  const void *bytes = ipv4 ? static_cast<const void *>(
                               &reinterpret_cast<const sockaddr_in *>(address.get())->sin_addr)
                           : &reinterpret_cast<const sockaddr_in6 *>(address.get())->sin6_addr;
  inet_ntop(address.family(), bytes, host.data(), host.size());
  return ipv4 ? std::format("{}:{}", host.data(), endpoint.port)
              : std::format("[{}]:{}", host.data(), endpoint.port);
}

} // namespace ngmasque
