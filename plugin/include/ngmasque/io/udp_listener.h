// A server's UDP sockets on a libev loop: packets in batches in, bursts out.
#pragma once

#include "ngmasque/io/common.h"
#include "ngmasque/io/error.h"
#include "ngmasque/io/udp_socket.h"
#include "ngmasque/quic/types.h"
#include "ngmasque/routing/types.h"
#include "ngmasque/session/drop_reason.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <vector>

struct ev_loop;

namespace ngmasque {

/// See above.  Everything happens on the thread of the loop.
class UdpListener {
public:
  struct Options {
    /// One socket for each.  The unspecified address is every local one of its family (:: takes no
    /// IPv4), port 0 is one that the system chooses.
    std::vector<Endpoint> addresses{};
    /// UDP sockets that are bound already, such as those that systemd passes on, after those of
    /// `addresses`.  One of IPv6 takes no IPv4 (IPV6_V6ONLY).  From Create on they are the listener's,
    /// which closes them, whatever it returns.
    std::vector<int> sockets{};
    /// What should fit in each socket's buffers, in bytes, as far as the system allows; 0: as much
    /// as it gives by default.
    std::size_t receive_buffer = 0;
    std::size_t send_buffer = 0;
    bool reuse_port = false; ///< Other sockets may be bound to the same addresses: SO_REUSEPORT.
    LogFunction log{};       ///< Null: no log.
  };

  /// The listener must not be destroyed from within.
  class Handler {
  public:
    virtual ~Handler() = default;
    /// A UDP payload, which may be empty, at `now`, which is the same for all of a batch.  `ecn`: 0
    /// to 3.  Payloads that arrived together lie one after the other in memory.  They may be
    /// overwritten, and are there until OnBatchEnd returns.
    virtual void OnPacket(const FourTuple &path, unsigned ecn, std::span<std::uint8_t> packet,
                          Nanoseconds now) = 0;
    /// After the last of a batch, which all came to the same socket.
    virtual void OnBatchEnd(Nanoseconds now) = 0;
    /// What a full socket had kept of a burst is on its way: Send takes another one.
    virtual void OnWritable() = 0;
  };

  /// Packets of both directions.
  struct Statistics {
    struct Way {
      std::uint64_t packets = 0;
      std::uint64_t bytes = 0; ///< Of UDP payloads.
      std::uint64_t calls = 0; ///< System calls, those in vain included.
    };
    Way received;
    Way sent;
    Drops dropped{}; ///< Those of both; kWrongSource are received ones that nobody could answer.
  };

  /// Binds all of the sockets.  `loop` and `handler` have to outlive the listener.
  /// Errors: kArgument, if there is neither an address nor a socket, or a socket is none of those above;
  /// kSocket, with the address as text.
  [[nodiscard]] static std::expected<std::unique_ptr<UdpListener>, IoError>
  Create(struct ev_loop *loop, Options options, Handler &handler);
  ~UdpListener();
  UdpListener(const UdpListener &) = delete;
  UdpListener &operator=(const UdpListener &) = delete;

  /// Where it listens, in the order of Options::addresses and then of Options::sockets, with the ports
  /// that the system chose.
  [[nodiscard]] std::vector<Endpoint> addresses() const;

  /// Sends a burst from `path.local`, on the socket that is bound to it.  False: nothing more
  /// should be sent from there before OnWritable; what a full socket does not take is kept, but of
  /// one burst only, and a further one is dropped (kBlocked).  What cannot be sent for another
  /// reason is dropped: kUnknownSocket if no socket is bound to `path.local`.
  bool Send(const OutgoingBurst &burst);

  /// The same for packets that somebody else accounts for: nothing is kept, and what has not left is
  /// no drop of the listener's.
  [[nodiscard]] SendOutcome Forward(const FourTuple &path, const Burst &packets);

  /// Whether a full socket has something that waits to be sent.
  [[nodiscard]] bool waiting() const;

  [[nodiscard]] const Statistics &statistics() const;

private:
  struct State;
  explicit UdpListener(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

} // namespace ngmasque
