// One end of an HTTP/3 connection with a QUIC connection of its own: what the client and the
// server's connections have in common.  RFC 9000.
//
// Without sockets and clocks: packets, paths, ECN and the time are arguments, what is to be sent
// goes to a sink.
#pragma once

#include "ngmasque/quic/http3_connection.h"
#include "ngmasque/quic/types.h"
#include "ngmasque/routing/connection_id.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace ngmasque {

/// The length of the connection IDs that an endpoint chooses for itself, in bytes.
inline constexpr std::size_t kLocalIdLength = 17;

class Http3Endpoint : public Http3Connection {
public:
  /// As with Http3Connection::Handler, from which only a few functions may be called.
  class Handler : public Http3Connection::Handler {
  public:
    /// The connection will use this connection ID.  Returns false if it must not, because it
    /// conflicts with one of another connection: another one is drawn.
    virtual bool OnNewLocalId(const ConnectionId &id) = 0;
    /// ... and does not use it any more.  Not called at the end of the connection.
    virtual void OnRetiredLocalId(const ConnectionId &id) = 0;
    /// The peer, a client, has come by another path, which is being validated: it may go on there, or
    /// not, and its packets are no reason to send there.
    virtual void OnProbing(const FourTuple & /*path*/) {}
    /// The peer, a client, has moved to another path by itself, and not because a NAT has given it
    /// another address.  Before anything is told of what it has sent from there.  OnPathChanged
    /// follows when the path is validated, or when the connection is back on one that was before.
    virtual void OnMigrating() {}
    /// Packets leave on another path from now on, which is validated.
    virtual void OnPathChanged(const FourTuple &path) = 0;
    /// The connection is over; nothing else is called any more.
    virtual void OnClosed(const CloseReason &reason) = 0;
  };

  /// How many QUIC packets have come from the peer, those that could not be decrypted left out.
  [[nodiscard]] std::uint64_t packets_received() const;

  /// The path that packets leave on.
  [[nodiscard]] FourTuple path() const;

  /// Has the next packet elicit an acknowledgement, with a PING if there is nothing else.
  void Ping();

  struct Impl; // Of the implementation.

protected:
  Http3Endpoint(Role role, const Http3Features &features, const QueueBounds &bounds);
  ~Http3Endpoint();

  void SetHandler(Handler *handler);

  /// Takes a UDP payload.  `ecn`: 0 to 3.
  void Receive(const FourTuple &path, unsigned ecn, std::span<const std::uint8_t> packet,
               Nanoseconds now);

  /// To be called at Expiry().
  void HandleExpiry(Nanoseconds now);

  /// When HandleExpiry and WritePackets are to be called; kNever once the connection is over.
  [[nodiscard]] Nanoseconds Expiry() const;

  /// Writes what can be sent now, in bursts that leave with one system call each.  To be called
  /// after everything that may have made something to send.
  void WritePackets(Nanoseconds now, const BurstSink &sink);

  /// Closes the connection with an error code of HTTP/3.  The handler is not called any more.
  void Close(std::uint64_t code, Nanoseconds now, const BurstSink &sink);

  /// In the middle of a packet: the handshake is complete.
  virtual void OnHandshakeCompleted() = 0;
  /// The peer allows more streams than before.
  virtual void OnStreamsAvailable() {}
  /// After OnHandshakeCompleted, OnStreamsAvailable and OnNewLocalId: to tell of it what could not be
  /// told from there.
  virtual void Deliver() {}
  /// As in Handler, before anybody else is asked.
  virtual bool OnNewLocalId(const ConnectionId &) { return true; }
  virtual void OnRetiredLocalId(const ConnectionId &) {}
  /// In the middle of a packet, or before one: the server is to be found at these addresses, too, the
  /// one of the family in use first.  The path to go on with, if there is one.
  virtual std::optional<FourTuple> OnServerAddresses(std::span<const Endpoint> /*remotes*/) {
    return {};
  }

  [[nodiscard]] Impl &endpoint() { return *impl_; }
  [[nodiscard]] const Impl &endpoint() const { return *impl_; }

private:
  std::unique_ptr<Impl> impl_;
};

} // namespace ngmasque
