#include "ngmasque/routing/connection_id.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ngmasque {

namespace {
int CompareBytes(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) noexcept {
  auto common = std::min(a.size(), b.size());
  // memcmp must not get the null pointer of an empty span.
  return common == 0 ? 0 : std::memcmp(a.data(), b.data(), common);
}
} // namespace

Relation Compare(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) noexcept {
  if (CompareBytes(a, b) != 0) {
    return Relation::kUnrelated;
  }
  if (a.size() == b.size()) {
    return Relation::kEqual;
  }
  return a.size() < b.size() ? Relation::kFirstIsPrefix : Relation::kSecondIsPrefix;
}

std::strong_ordering Order(std::span<const std::uint8_t> a,
                           std::span<const std::uint8_t> b) noexcept {
  auto order = CompareBytes(a, b) <=> 0;
  return order != 0 ? order : a.size() <=> b.size();
}

std::optional<ConnectionId> ConnectionId::From(std::span<const std::uint8_t> bytes) {
  if (bytes.size() > kMaxConnectionIdLength) {
    return std::nullopt;
  }

  ConnectionId id;
  auto to = id.inline_.data();
  if (bytes.size() > kInlineSize) {
    id.heap_ = std::make_unique<std::uint8_t[]>(bytes.size());
    to = id.heap_.get();
  }
  std::ranges::copy(bytes, to);
  id.size_ = static_cast<std::uint8_t>(bytes.size());
  return id;
}

ConnectionId::ConnectionId(const ConnectionId &other) : ConnectionId(*From(other.bytes())) {}

ConnectionId &ConnectionId::operator=(const ConnectionId &other) {
  return *this = ConnectionId(other);
}

ConnectionId::ConnectionId(ConnectionId &&other) noexcept
  : heap_(std::move(other.heap_)), inline_(other.inline_), size_(std::exchange(other.size_, 0)) {}

ConnectionId &ConnectionId::operator=(ConnectionId &&other) noexcept {
  if (this != &other) {
    heap_ = std::move(other.heap_);
    inline_ = other.inline_;
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

bool ConnectionId::IsPrefixOf(const ConnectionId &longer) const noexcept {
  auto relation = Compare(bytes(), longer.bytes());
  return relation == Relation::kEqual || relation == Relation::kFirstIsPrefix;
}

std::strong_ordering operator<=>(const ConnectionId &a, const ConnectionId &b) noexcept {
  return Order(a.bytes(), b.bytes());
}

} // namespace ngmasque
