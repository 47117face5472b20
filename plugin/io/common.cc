#include "ngmasque/io/common.h"

#include "common.h"

#include "ngmasque/wire/quic_header.h"

#include <algorithm>
#include <chrono>

#include <gnutls/crypto.h>

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

} // namespace ngmasque
