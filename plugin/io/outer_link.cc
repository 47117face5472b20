#include "outer_link.h"

#include <utility>

namespace ngmasque {

std::expected<std::unique_ptr<UdpLink>, IoError>
UdpLink::Open(struct ev_loop *loop, const Endpoint &remote, bool gso, std::span<std::uint8_t> buffer,
              Owner &owner) {
  auto udp = UdpSocket::Connect(remote);
  if (!udp) {
    return std::unexpected(udp.error());
  }
  udp->use_gso(gso);
  return std::unique_ptr<UdpLink>(new UdpLink(loop, std::move(*udp), buffer, owner));
}

UdpLink::UdpLink(struct ev_loop *loop, UdpSocket udp, std::span<std::uint8_t> buffer, Owner &owner)
  : OuterLink({.local = udp.local(), .remote = udp.remote()}),
    loop_(loop),
    udp_(std::move(udp)),
    buffer_(buffer),
    owner_(owner) {
  ev_io_init(
    &readable_,
    [](struct ev_loop *, ev_io *watcher, int) { static_cast<UdpLink *>(watcher->data)->Read(); },
    udp_.fd(), EV_READ);
  ev_io_init(
    &writable_,
    [](struct ev_loop *, ev_io *watcher, int) {
      auto &self = *static_cast<UdpLink *>(watcher->data);
      ev_io_stop(self.loop_, watcher);
      self.owner_.OnRoom(self);
    },
    udp_.fd(), EV_WRITE);
  readable_.data = writable_.data = this;
  ev_io_start(loop_, &readable_);
}

void UdpLink::Read() {
  const auto read = udp_.Read(buffer_, [this](std::span<const std::uint8_t> packet, unsigned ecn) {
    // It lies in the buffer.
    const auto at = static_cast<std::size_t>(packet.data() - buffer_.data());
    return owner_.OnPacket(*this, buffer_.subspan(at, packet.size()), ecn);
  });
  owner_.OnPacketsDone(*this, read ? 0 : read.error().system);
}

void UdpLink::Stop() {
  ev_io_stop(loop_, &readable_);
  ev_io_stop(loop_, &writable_);
}

} // namespace ngmasque
