// Who makes a request: what its header fields say, and how often they may be wrong.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <ngmasque/session/client.h>

namespace ngmasque::programs {

struct Credentials {
  std::optional<std::string> name; ///< Of Basic; a Bearer token has none.
  std::string secret;
};

/// Reads the value of authorization or proxy-authorization: Basic (RFC 7617) or Bearer (RFC 6750).
/// Nothing is returned for anything else.
[[nodiscard]] std::optional<Credentials> ParseCredentials(std::string_view field);

/// How many wrong credentials have come from an address lately: so that one that tries many is not
/// listened to, nor fills a log.  An address is that of a ClientKey.
class Failures {
public:
  /// As many wrong ones are looked at from one address; one more is each `kRecovery` nanoseconds.
  static constexpr unsigned kMost = 10;
  static constexpr std::uint64_t kRecovery = 6'000'000'000;
  /// Addresses that are kept.  Of more the one whose last failure is the oldest is forgotten.
  static constexpr std::size_t kMaxAddresses = 4096;

  /// `key`: see HashKey.
  explicit Failures(const HashKey &key) : known_(0, ClientKeyHash(key)) {}

  /// How long credentials from there are not looked at, be they right or wrong; 0: they are.  In
  /// nanoseconds, as `now` is.
  [[nodiscard]] std::uint64_t Wait(const Endpoint &client, std::uint64_t now) const;
  [[nodiscard]] bool MayTry(const Endpoint &client, std::uint64_t now) const {
    return Wait(client, now) == 0;
  }
  /// They were wrong.
  void OnFailure(const Endpoint &client, std::uint64_t now);

  [[nodiscard]] std::size_t addresses() const { return known_.size(); }

private:
  struct Entry {
    ClientKey key;
    std::uint64_t forgiven = 0; ///< When there will be no failure left.
  };
  // The one with the latest failure last.
  std::list<Entry> entries_;
  std::unordered_map<ClientKey, std::list<Entry>::iterator, ClientKeyHash> known_;
};

} // namespace ngmasque::programs
