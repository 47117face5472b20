// Where the proxy is, by its name: looked up for each connection, as names change.
#pragma once

#include <ngmasque/io/resolver.h>

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

struct ev_loop;

namespace ngmasque::programs {

class ProxyName {
public:
  using Result = std::expected<std::vector<Endpoint>, SessionError>;
  /// Addresses with the port, or one of Resolver's errors.
  using Done = std::function<void(const Result &found)>;

  /// `host`: a name or an address, IPv6 without brackets.  `loop` has to outlive it.
  ProxyName(struct ev_loop *loop, std::string host, std::uint16_t port);

  /// Asks, without holding the loop up, and calls `done` once, from the loop or from within this
  /// call.  A question that has no answer yet is forgotten.  Not to be called from within a `done`.
  void LookUp(Done done);
  /// Forgets the question.
  void Cancel();

  /// Whether there is a question without an answer.
  [[nodiscard]] bool pending() const { return pending_; }
  /// Whether it has had an address once.
  [[nodiscard]] bool known() const { return known_; }
  [[nodiscard]] const std::string &host() const { return host_; }

private:
  struct ev_loop *const loop_;
  const std::string host_;
  const std::uint16_t port_;
  // One for each question: the name servers may be others where this machine is meanwhile.
  std::unique_ptr<Resolver> resolver_;
  bool pending_ = false;
  bool known_ = false;
};

} // namespace ngmasque::programs
