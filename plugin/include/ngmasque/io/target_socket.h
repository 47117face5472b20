// A server-facing socket: UDP, connected to one target, so that the system delivers only what comes
// from there (P15).
#pragma once

#include "ngmasque/routing/types.h"
#include "ngmasque/session/proxy.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>

namespace ngmasque {

/// Several UDP payloads that arrived, or are to be sent, together.
struct Burst {
  std::span<const std::uint8_t> data;
  std::size_t segment = 0; ///< In bytes, more than 0; the last payload can be shorter.
  unsigned ecn = 0;        ///< 0 to 3, of all of them.
};

class TargetSocket {
public:
  /// What a read or a write has come to.
  enum class Error : std::uint8_t {
    kBlocked,     ///< Nothing to read, or no room to write.
    kUnreachable, ///< The system has been told that nobody listens there, or there is no way.
    kTooLarge,    ///< A payload is larger than the path takes; it is never cut in fragments.
    kFailed,      ///< Anything else.
  };

  /// Opens a socket that does not block and does not fragment.
  [[nodiscard]] static std::expected<TargetSocket, SocketError> Open(const Endpoint &target);

  TargetSocket(TargetSocket &&other) noexcept;
  TargetSocket &operator=(TargetSocket &&other) noexcept;
  ~TargetSocket();

  [[nodiscard]] int fd() const { return fd_; }

  /// Reads into `buffer`, of 65,536 bytes or more; the view is into it.  A payload of no bytes
  /// gives one empty segment: `data` is empty.
  [[nodiscard]] std::expected<Burst, Error> Read(std::span<std::uint8_t> buffer);

  /// Sends all payloads, or says why not; with an error the rest is not tried.
  std::expected<void, Error> Send(const Burst &burst);

private:
  explicit TargetSocket(int fd) : fd_(fd) {}

  int fd_ = -1;
  bool gso_ = true;  // Until the system refuses it.
  bool ipv4_ = true; // The family of the socket.
};

} // namespace ngmasque
