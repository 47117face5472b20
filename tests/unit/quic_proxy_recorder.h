// A handler of a tunnel.
#pragma once

#include "quic_support.h"

#include "ngmasque/io/proxy_tunnel.h"

#include <chrono>
#include <functional>
#include <span>
#include <vector>

namespace quic_test {

/// What a tunnel told.
struct TunnelRecorder : ngmasque::ProxyTunnel::Handler {
  void OnOpened() override {
    ++opened;
    Call(on_opened);
  }
  void OnPacket(std::span<const std::uint8_t> packet, unsigned) override {
    packets.emplace_back(packet.begin(), packet.end());
    Call(on_packet);
  }
  void OnPacketsDone() override { ++packets_done; }
  std::chrono::nanoseconds ProbeTimeout() const override { return probe_timeout; }
  void OnReleaseClientId(const ngmasque::ConnectionId &id) override { released.push_back(id); }
  void OnDiscardClientId(const ngmasque::ConnectionId &id) override { discarded.push_back(id); }
  void OnWritable() override { ++writable; }
  void OnEnded(const ngmasque::TunnelEnd &end) override {
    ended.push_back(end);
    Call(on_ended);
  }

  int opened = 0;
  std::vector<Bytes> packets;
  int packets_done = 0;
  int writable = 0;
  std::vector<ngmasque::ConnectionId> released;
  std::vector<ngmasque::ConnectionId> discarded;
  std::vector<ngmasque::TunnelEnd> ended;
  std::chrono::milliseconds probe_timeout{1'000};
  // What is done from within.
  std::function<void()> on_opened, on_packet, on_ended;

private:
  static void Call(const std::function<void()> &hook) {
    if (hook) {
      hook();
    }
  }
};

} // namespace quic_test
