#include "stream.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <format>

namespace harness {

bool Output::Pump(int from) {
  std::array<char, 65536> buffer;
  ssize_t size;
  do {
    size = read(from, buffer.data(), buffer.size());
  } while (size < 0 && errno == EINTR);
  if (size > 0) {
    Keep({buffer.data(), static_cast<std::size_t>(size)});
  }
  return size > 0 || (size < 0 && errno == EAGAIN);
}

std::string Output::text() const {
  if (skipped_ == 0) {
    return head_ + tail_;
  }
  return std::format("{}\n[... {} bytes left out ...]\n{}", head_, skipped_, tail_);
}

void Output::Keep(std::string_view bytes) {
  for (auto rest = bytes; !rest.empty();) {
    const auto size = write(to_, rest.data(), rest.size());
    if (size < 0 && errno != EINTR) {
      break;
    }
    rest.remove_prefix(size < 0 ? 0 : static_cast<std::size_t>(size));
  }
  const auto to_head = std::min(bytes.size(), kMaxKept - head_.size());
  head_ += bytes.substr(0, to_head);
  tail_ += bytes.substr(to_head);
  if (tail_.size() > kMaxKept) {
    skipped_ += tail_.size() - kMaxKept;
    tail_.erase(0, tail_.size() - kMaxKept);
  }
}

} // namespace harness
