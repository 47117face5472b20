#include "qlog.h"

#include <cerrno>
#include <cstring>
#include <format>
#include <span>
#include <string>

namespace ngmasque {

std::expected<File, QuicError> OpenQlog(const std::filesystem::path &dir, const ngtcp2_cid &id) {
  std::string name;
  for (const auto byte : std::span(id.data, id.datalen)) {
    name += std::format("{:02x}", byte);
  }
  const auto path = dir / (name + ".outer.sqlog");
  File file(std::fopen(path.c_str(), "we"));
  if (!file) {
    return std::unexpected(
      QuicError{QuicError::kQlog, "qlog file " + path.string() + ": " + std::strerror(errno)});
  }
  return file;
}

} // namespace ngmasque
