// A ProxyClient with several tunnels.
#pragma once

#include "quic_proxy_support.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <format>
#include <memory>
#include <string>
#include <vector>

namespace quic_test {

class ProxyTunnelsTest : public ProxyClientTest {
protected:
  struct Flow {
    TunnelRecorder recorder;
    std::unique_ptr<ngmasque::ProxyTunnel> tunnel;
  };

  ~ProxyTunnelsTest() override { flows.clear(); }

  static std::string Host(std::size_t index) { return std::format("target-{}.example", index); }

  std::expected<std::unique_ptr<ngmasque::ProxyTunnel>, ngmasque::IoError>
  Try(const ngmasque::ConnectionId &id, TunnelRecorder &recorder) {
    return client->Open({.host = Host(flows.size()), .port = 443}, id, recorder);
  }

  // The next one has the connection ID Id(0x11), Id(0x12) ..., and each its own target.
  Flow &Add() {
    const auto number = static_cast<std::uint8_t>(flows.size());
    auto &flow = flows.emplace_back();
    auto made = client->Open({.host = Host(number), .port = 443},
                             Id(static_cast<std::uint8_t>(0x11 + number)), flow.recorder);
    EXPECT_TRUE(made);
    if (made) {
      flow.tunnel = std::move(*made);
    }
    return flow;
  }

  void Add(std::size_t count) {
    while (count-- != 0) {
      Add();
    }
  }

  bool RunUntilAllOpened() {
    return RunUntil([this] {
      return std::ranges::all_of(flows,
                                 [](const Flow &flow) { return flow.recorder.opened == 1; });
    });
  }

  void BeginWithTunnels(std::size_t count, Server::Options server = {}) {
    Begin(server);
    Add(count);
    ASSERT_TRUE(RunUntilAllOpened());
  }

  // The requests' flow ids, in order.
  std::vector<std::string> FlowIds() const {
    std::vector<std::string> ids;
    for (const auto &[stream, fields] : proxy->server->requests) {
      ids.push_back(Field(fields, "datagram-flow-id"));
    }
    return ids;
  }

  std::deque<Flow> flows;
};

} // namespace quic_test
