// Packets that leave with one system call.
#pragma once

#include <ngmasque/io/udp_listener.h>
#include <ngmasque/io/udp_socket.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ngmasque::programs {

class PeerTunnel;

/// Some in a row that are of one size, but for the last, and have the same ECN bits.
class PacketRun {
public:
  /// More do not leave with one call.
  static constexpr std::size_t kMaxPackets = kMaxSegmentsPerCall;
  static constexpr std::size_t kMaxBytes = kReadBufferSize;

  /// Copies a packet to its end, behind `head`.  False: it does not go with the others, or is
  /// empty.
  [[nodiscard]] bool Add(std::span<const std::uint8_t> packet, unsigned ecn,
                         std::span<const std::uint8_t> head = {});

  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  [[nodiscard]] Burst burst() const { return {.data = bytes_, .segment = segment_, .ecn = ecn_}; }
  void Clear() { bytes_.clear(); }

private:
  std::vector<std::uint8_t> bytes_; // kMaxBytes
  std::size_t segment_ = 1;
  std::size_t packets_ = 0;
  unsigned ecn_ = 0;
};

/// Those of local peers that have come together, and go through one tunnel.
class TunnelRun {
public:
  /// Whose they are; null between batches.
  [[nodiscard]] PeerTunnel *tunnel() const { return tunnel_; }
  /// False: it does not go with those that are there, or there are none.
  [[nodiscard]] bool Add(std::span<const std::uint8_t> packet, unsigned ecn) {
    return tunnel_ && packets_.Add(packet, ecn);
  }
  /// The first one for a tunnel, after Flush.  Null: it has none, and is lost.
  void Begin(PeerTunnel *tunnel, std::span<const std::uint8_t> packet, unsigned ecn);
  /// Hands over what is there.  To be called when a batch ends, and before a tunnel can be destroyed.
  void Flush();

private:
  PacketRun packets_;
  PeerTunnel *tunnel_ = nullptr;
};

/// Sends them from a listener, and empties the run.  What a full socket does not take is lost, as in
/// any network.
void SendRun(UdpListener &listener, const FourTuple &path, PacketRun &run);

} // namespace ngmasque::programs
