// The file of --access-log: what was done for whom, or refused.
#pragma once

#include "ngmasque/log.h"

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>

#include <ngmasque/session/tunnel_record.h>

namespace ngmasque::programs {

/// One line of JSON, with its line feed.  `time` is when it ended, in milliseconds since 1970.
[[nodiscard]] std::string AccessLine(const TunnelRecord &record, std::int64_t time);

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
  std::uint64_t lost_ = 0;
  LogLimit lost_lines_;
};

} // namespace ngmasque::programs
