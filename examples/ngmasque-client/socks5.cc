#include "socks5.h"

#include <ngmasque/quic/socket_address.h>
#include <ngmasque/session/target_policy.h>

#include <algorithm>
#include <format>
#include <utility>

#include <arpa/inet.h>

namespace ngmasque::programs {

namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::uint8_t kVersion = 5;
constexpr std::uint8_t kCredentialsVersion = 1;
constexpr std::uint8_t kUdpAssociate = 3;
enum Method : std::uint8_t { kNoAuthentication = 0, kUsernamePassword = 2, kNoneAcceptable = 0xff };
enum AddressType : std::uint8_t { kIpv4 = 1, kName = 3, kIpv6 = 4 };

constexpr std::size_t kMappedPrefix = 12; // Of an IPv4 address in an Endpoint.

// ATYP, address and port.
struct SocksAddress {
  std::uint8_t type = 0;
  Bytes address;
  std::uint16_t port = 0;
  std::size_t size = 0; ///< Of all three.
};

enum class Found : std::uint8_t { kNo, kCutOff, kYes };

Found ReadAddress(Bytes bytes, SocksAddress &found) {
  if (bytes.size() < 2) {
    return Found::kCutOff;
  }
  std::size_t begin = 1;
  std::size_t length = 0;
  switch (bytes[0]) {
  case kIpv4: length = 4; break;
  case kIpv6: length = 16; break;
  case kName:
    begin = 2;
    length = bytes[1];
    break;
  default: return Found::kNo;
  }
  const auto size = begin + length + 2;
  if (bytes.size() < size) {
    return Found::kCutOff;
  }
  found = {.type = bytes[0],
           .address = bytes.subspan(begin, length),
           .port = static_cast<std::uint16_t>(bytes[size - 2] << 8 | bytes[size - 1]),
           .size = size};
  return Found::kYes;
}

// As ParseAuthority wants it.
std::string HostText(const SocksAddress &address) {
  if (address.type == kName) {
    return {address.address.begin(), address.address.end()};
  }
  char raw[INET6_ADDRSTRLEN];
  inet_ntop(address.type == kIpv4 ? AF_INET : AF_INET6, address.address.data(), raw, sizeof raw);
  const std::string text(raw);
  return address.type == kIpv4 ? text : std::format("[{}]", text);
}

void AppendPort(std::vector<std::uint8_t> &out, std::uint16_t port) {
  out.push_back(static_cast<std::uint8_t>(port >> 8));
  out.push_back(static_cast<std::uint8_t>(port));
}

// No sooner for the first difference than for the last.
bool Equal(Bytes given, std::string_view wanted) {
  unsigned difference = given.size() != wanted.size();
  for (std::size_t i = 0; i < given.size(); ++i) {
    difference |=
      given[i] ^ static_cast<std::uint8_t>(wanted.empty() ? 0 : wanted[i % wanted.size()]);
  }
  return difference == 0;
}

} // namespace

bool SocksSession::Read(std::span<const std::uint8_t> bytes, std::vector<std::uint8_t> &out) {
  input_.insert(input_.end(), bytes.begin(), bytes.end());
  for (;;) {
    if (stage_ == Stage::kAssociated) {
      return input_.empty(); // A client has nothing more to say.
    }
    const auto step = stage_ == Stage::kMethods       ? ReadMethods(out)
                      : stage_ == Stage::kCredentials ? ReadCredentials(out)
                                                      : ReadRequest(out);
    if (step != Step::kNext) {
      return step == Step::kMore;
    }
  }
}

SocksSession::Step SocksSession::ReadMethods(std::vector<std::uint8_t> &out) {
  if (!input_.empty() && input_[0] != kVersion) {
    return Step::kEnd;
  }
  if (input_.size() < 2 || input_.size() < 2u + input_[1]) {
    return Step::kMore;
  }
  const auto size = 2u + input_[1];
  const auto method = wanted_ ? kUsernamePassword : kNoAuthentication;
  const bool offered = std::ranges::contains(Bytes(input_).subspan(2, size - 2), method);
  out.insert(out.end(), {kVersion, offered ? method : kNoneAcceptable});
  input_.erase(input_.begin(), input_.begin() + size);
  stage_ = wanted_ ? Stage::kCredentials : Stage::kRequest;
  return offered ? Step::kNext : Step::kEnd;
}

SocksSession::Step SocksSession::ReadCredentials(std::vector<std::uint8_t> &out) {
  const Bytes input(input_);
  if (!input.empty() && input[0] != kCredentialsVersion) {
    return Step::kEnd;
  }
  if (input.size() < 2 || input.size() < 3u + input[1]) {
    return Step::kMore;
  }
  const auto name = input.subspan(2, input[1]);
  const std::size_t length = input[2 + name.size()];
  const auto size = 3 + name.size() + length;
  if (input.size() < size) {
    return Step::kMore;
  }
  const bool same_name = Equal(name, wanted_->name);
  const bool same_secret = Equal(input.subspan(3 + name.size(), length), wanted_->secret);
  const bool right = same_name && same_secret;
  out.insert(out.end(), {kCredentialsVersion, static_cast<std::uint8_t>(right ? 0 : 1)});
  input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(size));
  stage_ = Stage::kRequest;
  return right ? Step::kNext : Step::kEnd;
}

SocksSession::Step SocksSession::ReadRequest(std::vector<std::uint8_t> &out) {
  const auto refuse = [&](SocksReply reply) {
    const auto answer = Answer(reply);
    out.insert(out.end(), answer.begin(), answer.end());
    return Step::kEnd;
  };
  const Bytes input(input_);
  if (!input.empty() && input[0] != kVersion) {
    return Step::kEnd;
  }
  if (input.size() < 4) {
    return Step::kMore;
  }
  SocksAddress address;
  const auto found = ReadAddress(input.subspan(3), address);
  if (found == Found::kNo) {
    return refuse(SocksReply::kAddressTypeNotSupported);
  }
  if (found == Found::kCutOff) {
    return Step::kMore;
  }
  if (input[1] != kUdpAssociate) {
    return refuse(SocksReply::kCommandNotSupported);
  }
  Endpoint from{.port = address.port};
  if (address.type == kIpv4 &&
      std::ranges::any_of(address.address, [](auto b) { return b != 0; })) {
    from.address[10] = from.address[11] = 0xff;
    std::ranges::copy(address.address, from.address.begin() + kMappedPrefix);
  } else if (address.type == kIpv6) {
    std::ranges::copy(address.address, from.address.begin());
  }
  input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(3 + address.size));
  request_ = from;
  stage_ = Stage::kAssociated;
  return Step::kNext;
}

std::optional<Endpoint> SocksSession::TakeRequest() { return std::exchange(request_, {}); }

std::vector<std::uint8_t> SocksSession::Answer(SocksReply reply, const Endpoint &relay) {
  std::vector<std::uint8_t> out{kVersion, static_cast<std::uint8_t>(reply), 0};
  const bool ipv4 = IsIpv4(relay) || relay == Endpoint{};
  out.push_back(ipv4 ? kIpv4 : kIpv6);
  out.insert(out.end(), relay.address.begin() + (ipv4 ? kMappedPrefix : 0), relay.address.end());
  AppendPort(out, relay.port);
  return out;
}

std::optional<SocksDatagram> ReadSocksDatagram(std::span<const std::uint8_t> datagram) {
  // RFC 1928, section 7: an implementation that does not support fragmentation must drop any
  // datagram whose FRAG field is other than X'00'.
  if (datagram.size() < 3 || datagram[2] != 0) {
    return std::nullopt;
  }
  SocksAddress address;
  if (ReadAddress(datagram.subspan(3), address) != Found::kYes || address.port == 0 ||
      (address.type == kName && std::ranges::contains(address.address, '['))) {
    return std::nullopt;
  }
  auto target = ParseAuthority(std::format("{}:{}", HostText(address), address.port));
  if (!target) {
    return std::nullopt;
  }
  return SocksDatagram{.target = *std::move(target), .payload = datagram.subspan(3 + address.size)};
}

std::vector<std::uint8_t> SocksHeader(const Authority &target) {
  std::vector<std::uint8_t> out{0, 0, 0};
  if (const auto address = ParseAddress(target.host)) {
    const Endpoint endpoint{.address = *address};
    const bool ipv4 = IsIpv4(endpoint) && !target.host.contains(':');
    out.push_back(ipv4 ? kIpv4 : kIpv6);
    out.insert(out.end(), address->begin() + (ipv4 ? kMappedPrefix : 0), address->end());
  } else {
    out.push_back(kName);
    out.push_back(static_cast<std::uint8_t>(target.host.size())); // kMaxHostLength
    out.insert(out.end(), target.host.begin(), target.host.end());
  }
  AppendPort(out, target.port);
  return out;
}

} // namespace ngmasque::programs
