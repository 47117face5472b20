// Which targets a proxy opens sockets to.
#pragma once

#include "ngmasque/routing/types.h"
#include "ngmasque/session/error.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque {

/// An address as Endpoint has it: IPv6, or IPv4-mapped.
using Address = std::array<std::uint8_t, 16>;

/// Reads an IPv4 address of four decimal numbers without leading zeros, or an IPv6 address without
/// brackets and zone.  Nothing is returned for anything else: `127.1`, `0x7f.0.0.1`, names.
[[nodiscard]] std::optional<Address> ParseAddress(std::string_view text);

/// A block of addresses.
struct AddressBlock {
  Address address{};     ///< Its bits after the first `length` are zero.
  unsigned length = 128; ///< 0 to 128; of IPv4 addresses 96 to 128.
  [[nodiscard]] bool operator==(const AddressBlock &) const = default;

  /// Whether `other` is in it.  A block of IPv6 addresses, `::/0` too, has no IPv4 addresses in it.
  [[nodiscard]] bool Contains(const Address &other) const;
};

/// Reads `192.0.2.0/24`, `2001:db8::/32`, or one address.  Bits after the prefix must be zero.
/// Errors: kAddressBlock.
[[nodiscard]] std::expected<AddressBlock, SessionError> ParseAddressBlock(std::string_view text);

/// Reads the end of names: `example.com`, or `.example.com`, which is the same.  It is made as names of
/// authorities are, lower-case and without a final dot.  Errors: kNameSuffix, for addresses, too.
[[nodiscard]] std::expected<std::string, SessionError> ParseNameSuffix(std::string_view text);

/// Ports from `first` to `last`.
struct PortRange {
  std::uint16_t first{};
  std::uint16_t last{};
  [[nodiscard]] bool operator==(const PortRange &) const = default;
};

/// Reads ranges and single ports, separated by commas: `443,8000-8999`.  Neither 0 nor a range that
/// ends before it begins; at most kMaxPortRanges.  Errors: kPorts.
[[nodiscard]] std::expected<std::vector<PortRange>, SessionError> ParsePorts(std::string_view text);
inline constexpr std::size_t kMaxPortRanges = 64;

/// Default deny: only global unicast addresses by the registries of IANA
/// (RFC 6890), unless a block allows more.  An IPv6 address that leads to an IPv4 address, by NAT64
/// (64:ff9b::/96), 6to4 (2002::/16) or Teredo (2001::/32), is as good as that one.
///
/// Of the ports, 443, 80 and those from 1024 on, but for those that are known to amplify: a short
/// request from anybody brings much more.  target_policy_ports.cc lists them.
class TargetPolicy {
public:
  struct Options {
    /// Addresses that are allowed, whatever they are, except for the proxy's own.  Of these it can
    /// allow loopback addresses, as they are nobody else's, but never a listener.
    std::vector<AddressBlock> allow = {};
    /// Addresses that are not, whatever allows them.  An IPv6 address that leads to one of them is
    /// none either.
    std::vector<AddressBlock> deny = {};
    /// If it is not empty: the names that are allowed, see ParseNameSuffix, which are those that are
    /// equal to one of these or end with a dot and that.  Where they lead to has to be allowed as
    /// well.  A target that is an address has to be in `allow` then.
    std::vector<std::string> allow_names = {};
    /// Names that are not, whatever allows them.  It keeps nobody from an address that has another name
    /// as well: that takes `deny`.
    std::vector<std::string> deny_names = {};
    /// The proxy's own listeners.  One without an address (0.0.0.0 or ::) means its port on all
    /// addresses in `local`, and on loopback addresses.
    std::vector<Endpoint> own = {};
    /// The addresses of this machine: what else listens there is no target either, on any port.
    std::vector<AddressBlock> local = {};
    /// The ports that are allowed, instead of those above.
    std::optional<std::vector<PortRange>> ports = {};
  };

  TargetPolicy() = default;
  explicit TargetPolicy(Options options);

  /// Whether a socket may be opened to `target`: to be asked after the look-up, for the very
  /// address that is used.  Errors: kTargetPort, kOwnAddress to kReservedAddress, kDeniedAddress.
  /// Cost: linear in the lists.
  [[nodiscard]] std::expected<void, SessionError> Check(const Endpoint &target) const;

  /// Whether a target may be asked for by that host, a name or an address, as Authority has it: to be
  /// asked before the look-up, Check after it.  Errors: kTargetName.  Cost: linear in the lists.
  [[nodiscard]] std::expected<void, SessionError> CheckHost(std::string_view host) const;

  /// Whether it is the proxy itself, or what else listens on its machine: part of Check.
  [[nodiscard]] bool IsOwn(const Endpoint &target) const;

  /// Whether a target may have that port: part of Check, which can be asked before the look-up.
  [[nodiscard]] bool AllowsPort(std::uint16_t port) const;

private:
  [[nodiscard]] bool IsAllowed(const Address &address) const;
  [[nodiscard]] bool IsDenied(const Address &address) const;
  [[nodiscard]] bool IsOwn(const Address &address, std::uint16_t port) const;

  Options options_;
};

} // namespace ngmasque
