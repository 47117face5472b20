// Reads what waits at a UDP socket, many packets with one system call.
#pragma once

#include "ngmasque/io/error.h"
#include "ngmasque/io/udp_socket.h"
#include "ngmasque/routing/types.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>

#include <sys/socket.h>
#include <sys/uio.h>

namespace ngmasque {

/// What came with a packet beside its bytes.
struct Ancillary {
  unsigned ecn = 0;
  std::size_t segment = 0; ///< 0 unless the kernel has put packets together.
  Endpoint local;          ///< Without a port; Endpoint{} if the socket does not tell.
};
[[nodiscard]] Ancillary ReadAncillary(msghdr &message);

/// One payload, or several of the same size, the last may be shorter.
struct ReceivedBurst {
  std::span<std::uint8_t> data; ///< With kPacketRoom on either side that is free to be written.
  std::size_t segment = 1;      ///< More than 0.
  unsigned ecn = 0;
  Endpoint local;  ///< See Ancillary.
  Endpoint remote; ///< Endpoint{} on a connected socket.
};

/// The buffers for any number of sockets, one after the other.
class BatchReader {
public:
  /// How many of ReceivedBurst one call brings: the bound of what is read of one socket before
  /// others get their turn.
  static constexpr std::size_t kBursts = 64;

  BatchReader();

  /// Reads once.  What is returned is valid until the next call; fewer than kBursts if nothing is
  /// left, or an error is, which the next call says.
  /// Errors: kSocket, with EAGAIN if nothing is there.
  [[nodiscard]] std::expected<std::span<const ReceivedBurst>, IoError> Read(int fd, bool connected);

private:
  static constexpr std::size_t kRoom = kPacketRoom + kReadBufferSize + kPacketRoom;
  // For ECN, GRO and the local address.
  struct Control {
    alignas(cmsghdr) std::array<std::uint8_t, 128> bytes;
  };

  std::unique_ptr<std::uint8_t[]> memory_; // The system gives only the pages that are written.
  std::array<mmsghdr, kBursts> messages_{};
  std::array<iovec, kBursts> vectors_{};
  std::array<Control, kBursts> control_;
  std::array<sockaddr_storage, kBursts> names_;
  std::array<ReceivedBurst, kBursts> bursts_;
};

} // namespace ngmasque
