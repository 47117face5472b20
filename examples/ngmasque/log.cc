#include "log.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <format>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

namespace ngmasque::programs {

namespace {

struct Level {
  LogLevel level;
  std::string_view name;
  int priority; // Of syslog.
};
constexpr Level kLevels[] = {{LogLevel::kDebug, "debug", 7},
                             {LogLevel::kInfo, "info", 6},
                             {LogLevel::kWarning, "warning", 4},
                             {LogLevel::kError, "error", 3}};

const Level &Row(LogLevel level) { return kLevels[std::to_underlying(level)]; }

// Others may have set the variable for their own stderr: it says which one is meant.
bool IsJournal(int fd) {
  const char *stream = std::getenv("JOURNAL_STREAM");
  struct stat info{};
  return stream && ::fstat(fd, &info) == 0 &&
         stream == std::format("{}:{}", info.st_dev, info.st_ino);
}

} // namespace

std::optional<LogLevel> ParseLogLevel(std::string_view text) {
  const auto *found = std::ranges::find(kLevels, text, &Level::name);
  return found == std::end(kLevels) ? std::nullopt : std::optional(found->level);
}

std::string_view LogLevelText(LogLevel level) { return Row(level).name; }

Log::Log(LogLevel least) : least_(least), journal_(IsJournal(STDERR_FILENO)) {}

void Log::Write(LogLevel level, std::string_view line) const {
  if (level < least_) {
    return;
  }
  std::string out;
  if (journal_) {
    out = std::format("<{}>{}\n", Row(level).priority, line);
  } else {
    const auto now =
      std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
    out = std::format("{:%FT%T}.{:03}Z {}: {}\n", seconds, (now - seconds).count(), Row(level).name,
                      line);
  }
  // One write for a line: those of other processes do not get into it.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, out.data(), out.size());
}

} // namespace ngmasque::programs
