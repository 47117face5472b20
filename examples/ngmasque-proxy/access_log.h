// The file of --access-log: what was done for whom, or refused.
#pragma once

#include "ngmasque/log.h"

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <utility>

#include <ngmasque/session/tunnel_record.h>

namespace ngmasque::programs {

/// One line of JSON, with its line feed.  `time` is when it ended, in milliseconds since 1970;
/// `left_out`: how many lines are missing before it.
[[nodiscard]] std::string AccessLine(const TunnelRecord &record, std::int64_t time,
                                     std::uint64_t left_out = 0);

/// Keeps strangers from filling the disk: of requests that were refused and are no user's.
class StrangersLimit {
public:
  /// That are written in a second.  Of more, the next line says how many there were.
  static constexpr unsigned kMost = 100;

  /// Whether one may be written at `now`, in nanoseconds.
  [[nodiscard]] bool Take(std::uint64_t now) {
    if (now - since_ >= 1'000'000'000) {
      since_ = now;
      written_ = 0;
    }
    return written_ < kMost ? ++written_ > 0 : (++left_out_, false);
  }
  /// How many were not, since the last call.
  [[nodiscard]] std::uint64_t TakeLeftOut() { return std::exchange(left_out_, 0); }

private:
  std::uint64_t since_ = 0;
  unsigned written_ = 0;
  std::uint64_t left_out_ = 0;
};

class AccessLog {
public:
  explicit AccessLog(const Log &log) : log_(log) {}
  ~AccessLog();
  AccessLog(const AccessLog &) = delete;
  AccessLog &operator=(const AccessLog &) = delete;

  /// Opens `file` to be appended to; -1 if it is empty.  The complaint says why not.
  [[nodiscard]] static std::expected<int, std::string> Open(const std::filesystem::path &file);
  /// Writes there from now on, and closes it in the end.
  void Use(int fd);

  void Write(const TunnelRecord &record);

  /// Lines that could not be written.
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

private:
  const Log &log_;
  int fd_ = -1;
  StrangersLimit strangers_;
  std::uint64_t lost_ = 0;
  LogLimit lost_lines_;
};

} // namespace ngmasque::programs
