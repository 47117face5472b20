// SOCKS version 5 as a server of UDP ASSOCIATE speaks it: RFC 1928, with the credentials of RFC
// 1929. Bytes in, bytes out; sockets and tunnels are the caller's.
#pragma once

#include <ngmasque/routing/types.h>
#include <ngmasque/session/authority.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ngmasque::programs {

/// REP of RFC 1928, section 6.
enum class SocksReply : std::uint8_t {
  kSucceeded = 0,
  kFailure = 1,
  kNotAllowed = 2,
  kCommandNotSupported = 7,
  kAddressTypeNotSupported = 8,
};

/// The control connection of one client, from its first byte to the reply to its request.
class SocksSession {
public:
  struct Credentials {
    std::string name;
    std::string secret;
  };

  /// Nothing: nobody is asked who they are.
  explicit SocksSession(std::optional<Credentials> wanted) : wanted_(std::move(wanted)) {}

  /// The next bytes of the client.  What is to be sent is put behind `out`.  False: the connection
  /// is to be closed after that, and nothing more is read.
  [[nodiscard]] bool Read(std::span<const std::uint8_t> bytes, std::vector<std::uint8_t> &out);

  /// The client wants to associate: it waits for Answer, and has said that it sends from this
  /// address and port, as far as these are not 0.  Told once.
  [[nodiscard]] std::optional<Endpoint> TakeRequest();

  /// The answer; with kSucceeded `relay` is where datagrams are to be sent.
  [[nodiscard]] static std::vector<std::uint8_t> Answer(SocksReply reply,
                                                        const Endpoint &relay = {});

private:
  enum class Stage : std::uint8_t { kMethods, kCredentials, kRequest, kAssociated };
  enum class Step : std::uint8_t { kMore, kNext, kEnd };

  Step ReadMethods(std::vector<std::uint8_t> &out);
  Step ReadCredentials(std::vector<std::uint8_t> &out);
  Step ReadRequest(std::vector<std::uint8_t> &out);

  std::optional<Credentials> wanted_;
  Stage stage_ = Stage::kMethods;
  // Each message has a length of its own, of which the largest is that of credentials: 513 bytes.
  std::vector<std::uint8_t> input_;
  std::optional<Endpoint> request_;
};

/// What is in a datagram from a client (section 7).
struct SocksDatagram {
  Authority target;
  std::span<const std::uint8_t> payload;
};

/// Nothing for what is to be dropped: too short, a fragment (FRAG other than 0), another address
/// type, a name that is none, port 0.
[[nodiscard]] std::optional<SocksDatagram>
ReadSocksDatagram(std::span<const std::uint8_t> datagram);

/// What stands before a payload of `target` for the client, which sees the target as it has named
/// it.
[[nodiscard]] std::vector<std::uint8_t> SocksHeader(const Authority &target);

} // namespace ngmasque::programs
