// A connected UDP socket that takes and gives packets in batches, with their ECN bits.
#pragma once

#include "ngmasque/routing/types.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <span>

namespace ngmasque {

/// Room for the largest UDP payload, or for as many as the kernel hands over at once.
inline constexpr std::size_t kReadBufferSize = std::size_t{64} << 10;

/// What became of a burst.
struct SendOutcome {
  std::span<const std::uint8_t> rest; ///< What has not left; empty if all has.
  int error = 0; ///< With a rest: 0 if the socket is full (EAGAIN), otherwise what the system said.
};

/// Non-blocking.  Packets are never fragmented, and what ICMP says about the path's MTU is not
/// believed.  A value that owns its descriptor.
class UdpSocket {
public:
  /// Opens a socket with a port that the system chooses, connected to `remote`: it takes packets
  /// from there only (P15).
  /// Errors: errno.
  [[nodiscard]] static std::expected<UdpSocket, int> Connect(const Endpoint &remote);

  UdpSocket(UdpSocket &&other) noexcept;
  UdpSocket &operator=(UdpSocket &&other) noexcept;
  ~UdpSocket();

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const Endpoint &local() const { return local_; }
  [[nodiscard]] const Endpoint &remote() const { return remote_; }

  /// Takes a UDP payload and its ECN bits, 0 to 3; the view is valid during the call.  Returns
  /// whether more is wanted.
  using Reader = std::function<bool(std::span<const std::uint8_t> packet, unsigned ecn)>;

  /// Reads what is there, but at most kMaxReads times, so that a flood starves nobody else; packets
  /// of no bytes count as well.  `buffer`: kReadBufferSize bytes.
  /// Errors: errno, if it is not that nothing is there; what came before has been handed over.
  [[nodiscard]] std::expected<void, int> Read(std::span<std::uint8_t> buffer, const Reader &reader);
  static constexpr int kMaxReads = 32;

  /// Sends UDP payloads of `segment` bytes each, more than 0; the last one may be shorter.  `ecn`:
  /// 0 to 3.  One system call for up to 64 of them, or one for each where the system cannot do
  /// that, or `use_gso(false)` was called.
  [[nodiscard]] SendOutcome Send(std::span<const std::uint8_t> packets, std::size_t segment,
                                 unsigned ecn);
  void use_gso(bool on) { gso_ = on; }

private:
  UdpSocket(int fd, const Endpoint &remote) : fd_(fd), remote_(remote) {}
  [[nodiscard]] int SendOnce(std::span<const std::uint8_t> packets, std::size_t segment,
                             unsigned ecn) const;

  int fd_ = -1;
  bool gso_ = true;
  Endpoint local_;
  Endpoint remote_;
};

} // namespace ngmasque
