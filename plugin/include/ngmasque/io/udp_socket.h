// A connected UDP socket that takes and gives packets in batches, with their ECN bits.
#pragma once

#include "ngmasque/io/error.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/wire/quic_header.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>

namespace ngmasque {

/// Room for the largest UDP payload, or for as many as the kernel hands over at once.
inline constexpr std::size_t kReadBufferSize = std::size_t{64} << 10;

/// A packet that gets another connection ID may need so much more, before or behind it.
inline constexpr std::size_t kPacketRoom = kMaxConnectionIdLength;

/// The most payloads of one burst that the kernel takes at once (its UDP_MAX_SEGMENTS).
inline constexpr std::size_t kMaxSegmentsPerCall = 64;

/// UDP payloads that arrived, or are to be sent, together.
struct Burst {
  std::span<const std::uint8_t> data;
  std::size_t segment = 1; ///< In bytes, more than 0; the last payload may be shorter.
  unsigned ecn = 0;        ///< 0 to 3, of all of them.
};

/// What became of a burst.
struct SendOutcome {
  std::span<const std::uint8_t> rest; ///< What has not left; empty if all has.
  int error = 0; ///< If it has not: 0 if the socket is full (EAGAIN), otherwise what the system said.
  bool sent = false; ///< All has left; an empty payload, too.
  /// The system has been told that an earlier packet did not get there.
  bool refused = false;
  /// What this socket does without from now on, for the log; empty unless that is new.
  std::string gave_up{};
  std::size_t calls = 0; ///< System calls that it took.
};

/// What became of several bursts.
struct FrontOutcome {
  std::size_t sent = 0;  ///< How many of them have left, from the first on, and whole.
  bool refused = false;  ///< As in SendOutcome; what was to be sent then has not been tried.
  std::size_t calls = 0; ///< System calls that it took.
};

/// What goes with packets beyond their bytes, until the system has refused it.
struct SendExtras {
  bool gso = true;
  bool ecn = true;
};

/// Sends as UdpSocket::Send does, but on somebody else's socket that is not connected: to
/// `path.remote`, and from `path.local` unless that is Endpoint{}.
[[nodiscard]] SendOutcome SendOn(int fd, const FourTuple &path, const Burst &burst,
                                 SendExtras &extras);

/// Non-blocking.  Packets are never fragmented, and what ICMP says about the path's MTU is not
/// believed.  A value that owns its descriptor.
class UdpSocket {
public:
  /// Opens a socket with a port that the system chooses, connected to `remote`: it takes packets
  /// from there only.
  /// Errors: kSocket.
  [[nodiscard]] static std::expected<UdpSocket, IoError> Connect(const Endpoint &remote);

  UdpSocket(UdpSocket &&other) noexcept;
  UdpSocket &operator=(UdpSocket &&other) noexcept;
  ~UdpSocket();

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const Endpoint &local() const { return local_; }
  [[nodiscard]] const Endpoint &remote() const { return remote_; }

  /// Makes room for `bytes` that wait to be read, or as much as the system allows.  Never less than
  /// there was.
  void GrowReceiveBuffer(std::size_t bytes);

  /// Reads once: one payload, or several of the same size that the kernel has put together.  The
  /// view is into `buffer`, of kReadBufferSize bytes; a payload of no bytes gives empty data.
  /// Errors: kSocket, with EAGAIN if nothing is there.
  [[nodiscard]] std::expected<Burst, IoError> ReadBurst(std::span<std::uint8_t> buffer);

  /// Takes a UDP payload and its ECN bits, 0 to 3; the view is valid during the call.  Returns
  /// whether more is wanted.
  using Reader = std::function<bool(std::span<const std::uint8_t> packet, unsigned ecn)>;

  /// Reads what is there, but at most kMaxReads times, so that a flood starves nobody else; packets
  /// of no bytes count as well.  `buffer`: kReadBufferSize bytes.
  /// Errors: kSocket, if it is not that nothing is there; what came before has been handed over.
  [[nodiscard]] std::expected<void, IoError> Read(std::span<std::uint8_t> buffer,
                                                  const Reader &reader);
  static constexpr int kMaxReads = 32;

  /// Sends UDP payloads.  One system call for up to 64 of them, or one for each where the system
  /// cannot do that, or `use_gso(false)` was called.  A system that refuses to mark packets with
  /// ECN bits gets them without.
  [[nodiscard]] SendOutcome Send(const Burst &burst);
  /// Sends several bursts with as few system calls as it takes, up to the first one that does not
  /// leave or takes more than one call: Send says why, or does it.
  [[nodiscard]] FrontOutcome SendFront(std::span<const Burst> bursts);
  void use_gso(bool on) { extras_.gso = on; }
  /// The most bytes of a burst of such payloads that leave with one system call.
  [[nodiscard]] std::size_t MaxBurst(std::size_t segment) const;

private:
  UdpSocket(int fd, const Endpoint &remote) : fd_(fd), remote_(remote) {}

  int fd_ = -1;
  SendExtras extras_;
  Endpoint local_;
  Endpoint remote_;
};

} // namespace ngmasque
