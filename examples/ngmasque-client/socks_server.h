// The SOCKS listener: TCP ports, and the associations of their clients.
#pragma once

#include "socks_association.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include <ev.h>

namespace ngmasque::programs {

class SocksServer {
public:
  struct Options {
    std::vector<Endpoint> addresses{};
    SocksAssociation::Options association{};
    /// Control connections at a time.  Beyond it new ones are closed at once.
    std::size_t max_associations = 128;
    std::size_t max_tunnels = 256; ///< Of all of them together.
  };

  /// Binds the ports.  Error: what could not be bound and why, in words.
  [[nodiscard]] static std::expected<std::unique_ptr<SocksServer>, std::string>
  Create(Carrier &carrier, Options options, const Log &log);
  ~SocksServer();
  SocksServer(const SocksServer &) = delete;
  SocksServer &operator=(const SocksServer &) = delete;

  [[nodiscard]] std::vector<Endpoint> addresses() const;
  [[nodiscard]] std::size_t associations() const { return associations_.size(); }
  [[nodiscard]] std::size_t tunnels() const { return budget_.tunnels; }
  [[nodiscard]] std::uint64_t dropped() const { return budget_.dropped; }

private:
  struct Listener {
    int fd = -1;
    ev_io readable{};
  };
  struct Entry {
    std::unique_ptr<SocksAssociation> association;
    bool over = false;
  };

  SocksServer(Carrier &carrier, Options options, const Log &log);
  [[nodiscard]] std::expected<void, std::string> Listen(const Endpoint &address);
  void Accept(int fd);

  Carrier &carrier_;
  const Options options_;
  const Log &log_;
  SocksAssociation::Budget budget_;
  std::list<Listener> listeners_;
  std::list<Entry> associations_; // Options::max_associations
  LogLimit full_lines_;
  ev_prepare sweep_{}; // Only fed.
};

} // namespace ngmasque::programs
