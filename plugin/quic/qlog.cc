#include "qlog.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <format>
#include <string>
#include <utility>

namespace ngmasque {

std::expected<Qlog, QuicError> Qlog::Open(const std::filesystem::path &dir, const ngtcp2_cid &id,
                                          bool hold) {
  std::string name;
  for (const auto byte : std::span(id.data, id.datalen)) {
    name += std::format("{:02x}", byte);
  }
  Qlog qlog(dir / (name + ".outer.sqlog"));
  if (!hold) {
    const auto path = qlog.path_.string();
    qlog.Keep();
    if (!qlog.file_) {
      return std::unexpected(
        QuicError{QuicError::kQlog, "qlog file " + path + ": " + std::strerror(errno)});
    }
  }
  return qlog;
}

void Qlog::Write(std::span<const std::uint8_t> records) {
  if (file_) {
    std::fwrite(records.data(), 1, records.size(), file_.get());
  } else if (!path_.empty() && held_.size() + records.size() <= kMaxHeld) {
    held_.insert(held_.end(), records.begin(), records.end());
  }
}

void Qlog::Keep() {
  if (path_.empty()) {
    return;
  }
  file_.reset(std::fopen(std::exchange(path_, {}).c_str(), "we"));
  const int error = errno; // For Open.
  const auto held = std::exchange(held_, {});
  if (file_ && !held.empty()) {
    std::fwrite(held.data(), 1, held.size(), file_.get());
  }
  errno = error;
}

} // namespace ngmasque
