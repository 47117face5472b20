// What carries the packets of a ProxyClient's outer connection, and those that are forwarded: one
// of them at a time, and others that were in use before.
#pragma once

#include "ngmasque/io/error.h"
#include "ngmasque/io/udp_socket.h"
#include "ngmasque/routing/types.h"

#include <cstdint>
#include <expected>
#include <memory>
#include <span>

#include <ev.h>

namespace ngmasque {

class OuterLink {
public:
  /// Called from the loop alone.  The link may be destroyed from within the last two, and not from
  /// within the first one.
  class Owner {
  public:
    /// A UDP payload has come, which may be written to during the call.  Returns whether more is
    /// wanted.
    virtual bool OnPacket(OuterLink &link, std::span<std::uint8_t> packet, unsigned ecn) = 0;
    /// All that was there has been handed over.  `error`: what the system said then, or 0.
    virtual void OnPacketsDone(OuterLink &link, int error) = 0;
    /// After WaitForRoom: it is worth another try.
    virtual void OnRoom(OuterLink &link) = 0;

  protected:
    ~Owner() = default;
  };

  virtual ~OuterLink() = default;
  OuterLink(const OuterLink &) = delete;
  OuterLink &operator=(const OuterLink &) = delete;

  [[nodiscard]] const Endpoint &local() const { return path_.local; }
  [[nodiscard]] const Endpoint &remote() const { return path_.remote; }

  /// Sends UDP payloads, as UdpSocket::Send does.
  [[nodiscard]] virtual SendOutcome Send(const Burst &burst) = 0;

  /// After a Send that had no room for all: OnRoom follows, once.
  virtual void WaitForRoom() = 0;
  [[nodiscard]] virtual bool waits_for_room() const = 0;

  /// Nothing is called any more.  What is sent still leaves.
  virtual void Stop() = 0;

  /// The last packet has been sent.
  virtual void End() {}

protected:
  explicit OuterLink(const FourTuple &path) : path_(path) {}

private:
  FourTuple path_;
};

/// A UDP socket.
class UdpLink final : public OuterLink {
public:
  /// A socket with a port that the system chooses, to `remote`.  `buffer`: for what it reads, of
  /// kReadBufferSize bytes; loop, buffer and owner have to outlive it.
  /// Error: kSocket.
  [[nodiscard]] static std::expected<std::unique_ptr<UdpLink>, IoError>
  Open(struct ev_loop *loop, const Endpoint &remote, bool gso, std::span<std::uint8_t> buffer,
       Owner &owner);
  ~UdpLink() override { Stop(); }

  [[nodiscard]] SendOutcome Send(const Burst &burst) override { return udp_.Send(burst); }
  void WaitForRoom() override { ev_io_start(loop_, &writable_); }
  [[nodiscard]] bool waits_for_room() const override { return ev_is_active(&writable_); }
  void Stop() override;

private:
  UdpLink(struct ev_loop *loop, UdpSocket udp, std::span<std::uint8_t> buffer, Owner &owner);
  void Read();

  struct ev_loop *loop_;
  UdpSocket udp_;
  std::span<std::uint8_t> buffer_;
  Owner &owner_;
  ev_io readable_{};
  ev_io writable_{};
};

} // namespace ngmasque
