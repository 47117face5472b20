#include "ngmasque/session/target_policy.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

// inet_pton, which only turns text into bytes.
#include <arpa/inet.h>

namespace ngmasque {

namespace {

constexpr std::size_t kIpv4At = 12; // Where an IPv4 address is in its mapped form.
constexpr unsigned kMappedLength = 96;

constexpr Address Mapped(const std::uint8_t *ipv4) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ipv4[0], ipv4[1], ipv4[2], ipv4[3]};
}

bool HasPrefix(const Address &address, const Address &prefix, unsigned length) {
  const auto bytes = length / 8;
  if (!std::equal(prefix.begin(), prefix.begin() + bytes, address.begin())) {
    return false;
  }
  const auto rest = length % 8;
  return rest == 0 || (address[bytes] ^ prefix[bytes]) >> (8 - rest) == 0;
}

constexpr std::array<std::uint8_t, 4> kZero{};
constexpr Address kMapped = Mapped(kZero.data());

bool IsIpv4(const Address &address) { return HasPrefix(address, kMapped, kMappedLength); }

// A block that is no target by default.
struct Special {
  AddressBlock block;
  SessionError reason;
};

constexpr AddressBlock V4(std::array<std::uint8_t, 4> address, unsigned length) {
  return {.address = Mapped(address.data()), .length = kMappedLength + length};
}

// By its first 16-bit groups.
template <typename... Groups> constexpr AddressBlock V6(unsigned length, Groups... groups) {
  AddressBlock block{.address = {}, .length = length};
  std::size_t at = 0;
  ((block.address[at++] = static_cast<std::uint8_t>(groups >> 8),
    block.address[at++] = static_cast<std::uint8_t>(groups & 0xff)),
   ...);
  return block;
}

// IANA IPv4 and IPv6 Special-Purpose Address Registries; the first one that fits counts.
constexpr auto kSpecial = std::to_array<Special>({
  {V4({0, 0, 0, 0}, 8), SessionError::kUnspecifiedAddress},
  {V4({10, 0, 0, 0}, 8), SessionError::kPrivateAddress},
  {V4({100, 64, 0, 0}, 10), SessionError::kSharedAddress},
  {V4({127, 0, 0, 0}, 8), SessionError::kLoopbackAddress},
  {V4({169, 254, 0, 0}, 16), SessionError::kLinkLocalAddress},
  {V4({172, 16, 0, 0}, 12), SessionError::kPrivateAddress},
  {V4({192, 0, 0, 0}, 24), SessionError::kReservedAddress}, // IETF protocol assignments
  {V4({192, 0, 2, 0}, 24), SessionError::kDocumentationAddress},
  {V4({192, 88, 99, 0}, 24), SessionError::kReservedAddress}, // 6to4 relays, of the past
  {V4({192, 168, 0, 0}, 16), SessionError::kPrivateAddress},
  {V4({198, 18, 0, 0}, 15), SessionError::kBenchmarkingAddress},
  {V4({198, 51, 100, 0}, 24), SessionError::kDocumentationAddress},
  {V4({203, 0, 113, 0}, 24), SessionError::kDocumentationAddress},
  {V4({224, 0, 0, 0}, 4), SessionError::kMulticastAddress},
  {V4({255, 255, 255, 255}, 32), SessionError::kBroadcastAddress},
  {V4({240, 0, 0, 0}, 4), SessionError::kReservedAddress},

  {V6(128), SessionError::kUnspecifiedAddress},
  {V6(128, 0, 0, 0, 0, 0, 0, 0, 1), SessionError::kLoopbackAddress},
  {V6(10, 0xfe80), SessionError::kLinkLocalAddress},
  {V6(10, 0xfec0), SessionError::kPrivateAddress}, // site-local, of the past
  {V6(7, 0xfc00), SessionError::kPrivateAddress},
  {V6(8, 0xff00), SessionError::kMulticastAddress},
  {V6(48, 0x64, 0xff9b, 1), SessionError::kPrivateAddress}, // NAT64 of a local network, RFC 8215
  {V6(32, 0x2001, 0xdb8), SessionError::kDocumentationAddress},
  {V6(20, 0x3fff), SessionError::kDocumentationAddress},
  {V6(48, 0x2001, 2), SessionError::kBenchmarkingAddress},
});

constexpr auto kNat64 = V6(96, 0x64, 0xff9b);
constexpr auto k6to4 = V6(16, 0x2002);
constexpr auto kTeredo = V6(32, 0x2001, 0);
constexpr auto kAssignments = V6(23, 0x2001); // IETF protocol assignments
constexpr auto kGlobal = V6(3, 0x2000);

// What is wrong with an address by itself.
std::optional<SessionError> Classify(const Address &address) {
  for (const auto &[block, reason] : kSpecial) {
    if (block.Contains(address)) {
      return reason;
    }
  }
  if (IsIpv4(address) || kNat64.Contains(address) || kTeredo.Contains(address)) {
    return std::nullopt;
  }
  // Nothing else is global unicast (RFC 4291, section 2.4, and RFC 2928).
  if (!kGlobal.Contains(address) || kAssignments.Contains(address)) {
    return SessionError::kReservedAddress;
  }
  return std::nullopt;
}

// The IPv4 addresses that packets to an IPv6 address get to, or may get to.
struct Embedded {
  std::array<Address, 2> addresses{};
  std::size_t size = 0;
};

Embedded FindEmbedded(const Address &address) {
  if (kNat64.Contains(address)) { // RFC 6052, section 2.2
    return {.addresses = {Mapped(&address[kIpv4At])}, .size = 1};
  }
  if (k6to4.Contains(address)) { // RFC 3056, section 2
    return {.addresses = {Mapped(&address[2])}, .size = 1};
  }
  if (kTeredo.Contains(address)) { // RFC 4380, section 4: the server, and the client inverted
    std::array<std::uint8_t, 4> client{};
    std::ranges::transform(address.begin() + kIpv4At, address.end(), client.begin(),
                           [](std::uint8_t byte) { return static_cast<std::uint8_t>(~byte); });
    return {.addresses = {Mapped(&address[4]), Mapped(client.data())}, .size = 2};
  }
  return {};
}

} // namespace

std::optional<Address> ParseAddress(std::string_view text) {
  // The longest one, an IPv6 address that ends in an IPv4 address.  inet_pton wants a zero at the
  // end, and none before.
  if (text.size() >= INET6_ADDRSTRLEN || text.contains('\0')) {
    return std::nullopt;
  }
  const std::string copy(text);
  Address address{};
  if (text.contains(':')) {
    return inet_pton(AF_INET6, copy.c_str(), address.data()) == 1 ? std::optional(address)
                                                                  : std::nullopt;
  }
  std::array<std::uint8_t, 4> ipv4{};
  return inet_pton(AF_INET, copy.c_str(), ipv4.data()) == 1 ? std::optional(Mapped(ipv4.data()))
                                                            : std::nullopt;
}

bool AddressBlock::Contains(const Address &other) const {
  return HasPrefix(other, address, length) && (length >= kMappedLength || !IsIpv4(other));
}

std::expected<AddressBlock, SessionError> ParseAddressBlock(std::string_view text) {
  const auto slash = text.find('/');
  const auto host = text.substr(0, slash);
  const auto address = ParseAddress(host);
  if (!address) {
    return std::unexpected(SessionError::kAddressBlock);
  }
  const unsigned before = host.contains(':') ? 0 : kMappedLength;
  AddressBlock block{.address = *address, .length = 128};
  if (slash != std::string_view::npos) {
    const auto digits = text.substr(slash + 1);
    unsigned length = 0;
    const auto *end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, length);
    if (error != std::errc{} || stop != end || digits != std::to_string(length) ||
        length > 128 - before) {
      return std::unexpected(SessionError::kAddressBlock);
    }
    block.length = before + length;
  }
  for (unsigned bit = block.length; bit < 128; ++bit) {
    if (((block.address[bit / 8] >> (7 - bit % 8)) & 1) != 0) {
      return std::unexpected(SessionError::kAddressBlock);
    }
  }
  return block;
}

TargetPolicy::TargetPolicy(Options options) : options_(std::move(options)) {}

bool TargetPolicy::IsAllowed(const Address &address) const {
  return std::ranges::any_of(options_.allow, [&](const auto &b) { return b.Contains(address); });
}

bool TargetPolicy::IsOwn(const Address &address, std::uint16_t port) const {
  const auto reason = Classify(address);
  // To an unspecified address systems connect as to a loopback one, whichever.
  const auto anywhere = reason == SessionError::kUnspecifiedAddress;
  const auto loopback = anywhere || reason == SessionError::kLoopbackAddress;
  const auto local =
    loopback || std::ranges::any_of(options_.local, [&](const AddressBlock &block) {
      return block.Contains(address);
    });
  if (local && !loopback) {
    return true;
  }
  return std::ranges::any_of(options_.own, [&](const Endpoint &own) {
    const auto wildcard = own.address == Address{} || own.address == kMapped;
    const auto here = anywhere || (wildcard ? local : own.address == address);
    return here && (own.port == port || !loopback);
  });
}

bool TargetPolicy::IsDenied(const Address &address) const {
  return std::ranges::any_of(options_.deny, [&](const auto &b) { return b.Contains(address); });
}

bool TargetPolicy::IsOwn(const Endpoint &target) const {
  const auto embedded = FindEmbedded(target.address);
  return IsOwn(target.address, target.port) ||
         std::ranges::any_of(std::span(embedded.addresses).first(embedded.size),
                             [&](const auto &a) { return IsOwn(a, target.port); });
}

std::expected<void, SessionError> TargetPolicy::Check(const Endpoint &target) const {
  if (!AllowsPort(target.port)) {
    return std::unexpected(SessionError::kTargetPort);
  }
  const auto embedded = FindEmbedded(target.address);
  const auto ipv4 = std::span(embedded.addresses).first(embedded.size);
  if (IsOwn(target)) {
    return std::unexpected(SessionError::kOwnAddress);
  }
  if (IsDenied(target.address) ||
      std::ranges::any_of(ipv4, [&](const auto &a) { return IsDenied(a); })) {
    return std::unexpected(SessionError::kDeniedAddress);
  }
  if (IsAllowed(target.address)) {
    return {};
  }
  if (const auto reason = Classify(target.address)) {
    return std::unexpected(*reason);
  }
  for (const auto &address : ipv4) {
    if (const auto reason = Classify(address); reason && !IsAllowed(address)) {
      return std::unexpected(*reason);
    }
  }
  return {};
}

} // namespace ngmasque
