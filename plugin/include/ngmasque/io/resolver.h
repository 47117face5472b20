// Names to addresses, without blocking: c-ares on a libev loop.
#pragma once

#include "ngmasque/routing/types.h"
#include "ngmasque/session/error.h"

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

struct ev_loop;

namespace ngmasque {

/// Looks names up as the system does (/etc/hosts, and /etc/resolv.conf as it is when this is
/// created), but takes no aliases of the environment.
class Resolver {
public:
  enum class Names : std::uint8_t {
    kAsTheyAre, ///< Without search domains: what somebody else has asked for.
    kSearch,    ///< With those of the system, as its user expects.
  };

  /// The addresses of a name, IPv6 and IPv4 in the order of RFC 6724; their ports are 0.  Never an
  /// empty list.
  using Result = std::expected<std::vector<Endpoint>, SessionError>;
  using Done = std::function<void(Result)>;

  /// Each server is asked this often, and waited for this long, doubled each time.
  static constexpr int kTries = 2;
  static constexpr int kTimeoutMs = 2'000;

  /// Nothing if c-ares cannot be set up.
  [[nodiscard]] static std::unique_ptr<Resolver> Create(struct ev_loop *loop,
                                                        Names names = Names::kAsTheyAre);

  /// Look-ups that are under way end without `done` being called.  Not to be called from within a
  /// `done`.
  ~Resolver();
  Resolver(const Resolver &) = delete;
  Resolver &operator=(const Resolver &) = delete;

  /// Calls `done` once, from the loop or from within this call.
  /// Errors: kNoName if there is none or it has no address, kLookupTimeout if no server answered,
  /// kNoAddress for everything else.
  void Lookup(const std::string &host, Done done);

private:
  struct State;
  explicit Resolver(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

} // namespace ngmasque
