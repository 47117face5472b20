// Lines to stderr, for people or for journald.
#pragma once

#include <ngmasque/io/common.h>

#include <optional>
#include <string_view>

namespace ngmasque::programs {

/// `debug`, `info`, `warning` or `error`.
[[nodiscard]] std::optional<LogLevel> ParseLogLevel(std::string_view text);
[[nodiscard]] std::string_view LogLevelText(LogLevel level);

class Log {
public:
  /// Less important lines than `least` are left out.
  explicit Log(LogLevel least);

  void Write(LogLevel level, std::string_view line) const;
  void Info(std::string_view line) const { Write(LogLevel::kInfo, line); }
  void Warning(std::string_view line) const { Write(LogLevel::kWarning, line); }
  void Error(std::string_view line) const { Write(LogLevel::kError, line); }

  /// For the library; this has to outlive it.
  [[nodiscard]] LogFunction Function() const {
    return [this](LogLevel level, std::string_view line) { Write(level, line); };
  }

  /// After a reload.
  void set_least(LogLevel least) { least_ = least; }

private:
  LogLevel least_;
  bool journal_; ///< stderr is read by journald, which has the time, and wants a priority.
};

} // namespace ngmasque::programs
