// What has gone which way: as a table for people, as one line, and as JSON.
#pragma once

#include "carrier.h"
#include "target_statistics.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace ngmasque::programs {

/// At one moment.
struct Status {
  std::string proxy{}; ///< Carrier::state.
  std::map<std::string, TargetStatistics> targets{};
  std::size_t peers = 0;        ///< Of --listen.
  std::size_t associations = 0; ///< Of --socks.
  std::uint64_t dropped = 0;    ///< Packets of peers and clients beyond the bounds.
  std::uint64_t connections = 0;
  std::uint64_t moves = 0;
  std::uint64_t server_migrations = 0;

  [[nodiscard]] TargetStatistics total() const;
};

/// `tunnelled 12 + 34 packets, ...`: without a line feed.
[[nodiscard]] std::string StatusLine(const Status &status);

/// Lines that fill a terminal of `rows` lines at most; the targets with most packets come first.
[[nodiscard]] std::string StatusTable(const Status &status, std::size_t rows, std::size_t columns);

/// One JSON object, with a line feed.  The names are those of gtlsclient's --stats.
[[nodiscard]] std::string StatusJson(const Status &status);

} // namespace ngmasque::programs
