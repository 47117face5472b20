#include "secret_file.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <format>
#include <string>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

namespace ngmasque::programs {

namespace {

constexpr std::size_t kLeast = 32;

std::unexpected<Complaint> SystemError(const std::filesystem::path &file) {
  return std::unexpected(std::format("{}: {}", file.string(), std::strerror(errno)));
}

bool WriteAll(int fd, std::string_view text) {
  return ::write(fd, text.data(), text.size()) == ssize_t(text.size()) && ::fsync(fd) == 0;
}

} // namespace

std::expected<std::optional<ServerSecret>, Complaint>
ReadSecretFile(const std::filesystem::path &file) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) {
    const auto directory = file.has_parent_path() ? file.parent_path() : ".";
    if (errno == ENOENT && ::access(directory.c_str(), F_OK) == 0) {
      return std::nullopt;
    }
    return SystemError(file);
  }
  if ((status.st_mode & S_IRWXO) != 0) {
    return std::unexpected(
      std::format("{0} is no secret, as everybody gets to it: chmod o= {0}", file.string()));
  }
  const auto text = ReadFile(file);
  if (!text) {
    return std::unexpected(text.error());
  }
  if (text->size() < kLeast) {
    return std::unexpected(std::format("{} has to have {} bytes or more: openssl rand -hex 32",
                                       file.string(), kLeast));
  }
  return HashSecret(*text);
}

// In another file first, so that nobody reads half of it; and never over one that is there.
std::expected<ServerSecret, Complaint> MakeSecretFile(const std::filesystem::path &file) {
  auto there = ReadSecretFile(file);
  if (!there) {
    return std::unexpected(std::move(there.error()));
  }
  if (*there) {
    return **there;
  }
  const auto first = DrawSecret();
  const auto second = DrawSecret();
  if (!first || !second) {
    return std::unexpected(first ? second.error() : first.error());
  }
  auto name = file.string() + ".XXXXXX";
  const int fd = ::mkstemp(name.data()); // With mode 0600
  if (fd == -1) {
    return SystemError(file);
  }
  const bool made = WriteAll(fd, *first + *second + "\n") &&
                    (::link(name.c_str(), file.c_str()) == 0 || errno == EEXIST);
  const auto error = SystemError(file);
  ::close(fd);
  ::unlink(name.c_str());
  if (!made) {
    return error;
  }
  auto read = ReadSecretFile(file);
  if (read && !*read) {
    return SystemError(file); // Somebody has removed it.
  }
  return read.transform([](const auto &secret) { return *secret; });
}

} // namespace ngmasque::programs
