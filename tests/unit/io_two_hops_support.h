// A ProxyClient behind another ProxyClient, two ConnectUdpProxies, and a target.
#pragma once

#include "io_loop_support.h"
#include "quic_certificate_files.h"
#include "quic_proxy_support.h"

#include "ngmasque/io/connect_udp_proxy.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>

namespace ngmasque::two_hops_test {

using quic_test::Bytes;
using quic_test::Id;
using quic_test::Local;
using quic_test::Long;
using quic_test::Short;

inline constexpr std::uint8_t kClientId = 0x60, kServerId = 0x55;

// A target that answers each packet with one for the client.
class Target {
public:
  explicit Target(struct ev_loop *loop) : loop_(loop) {
    SocketAddress address(Local(0));
    fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t size = address.size();
    EXPECT_EQ(::bind(fd_, address.get(), size), 0);
    EXPECT_EQ(::getsockname(fd_, address.get(), &size), 0);
    at = *ToEndpoint(address.get());
    ev_io_init(
      &readable_, [](struct ev_loop *, ev_io *io, int) { static_cast<Target *>(io->data)->Read(); },
      fd_, EV_READ);
    readable_.data = this;
    const int on = 1;
    EXPECT_EQ(::setsockopt(fd_, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on)), 0);
    ev_io_start(loop_, &readable_);
  }
  ~Target() {
    ev_io_stop(loop_, &readable_);
    ::close(fd_);
  }
  Target(const Target &) = delete;
  Target &operator=(const Target &) = delete;

  Endpoint at;
  Bytes last;
  int last_ecn = 0; // Of the IP header.
  int ecn = 0;      // Of what it answers.

private:
  void Read() {
    std::array<std::uint8_t, 2048> buffer;
    alignas(cmsghdr) std::array<std::uint8_t, 64> control;
    SocketAddress from(Local(0));
    for (;;) {
      iovec vector{.iov_base = buffer.data(), .iov_len = buffer.size()};
      msghdr message{};
      message.msg_name = from.get();
      message.msg_namelen = from.size();
      message.msg_iov = &vector;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const auto got = ::recvmsg(fd_, &message, 0);
      if (got < 0) {
        return;
      }
      last.assign(buffer.begin(), buffer.begin() + got);
      if (const auto *tos = CMSG_FIRSTHDR(&message); tos && tos->cmsg_type == IP_TOS) {
        last_ecn = *CMSG_DATA(tos) & 3;
      }
      EXPECT_EQ(::setsockopt(fd_, IPPROTO_IP, IP_TOS, &ecn, sizeof(ecn)), 0);
      const auto answer = Short(kClientId);
      std::ignore =
        ::sendto(fd_, answer.data(), answer.size(), 0, from.get(), message.msg_namelen);
    }
  }

  struct ev_loop *loop_;
  int fd_ = -1;
  ev_io readable_{};
};

struct Recorder : quic_test::TunnelRecorder {
  void OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) override {
    last_ecn = ecn;
    TunnelRecorder::OnPacket(packet, ecn);
  }
  unsigned last_ecn = 0;
};

struct Watcher : ProxyClient::Handler {
  void OnReady() override { ready = true; }
  void OnClosed(std::string_view text) override { closed = text; }
  bool ready = false;
  std::string closed;
};

using Dialects = std::pair<ProxyDialect, ProxyDialect>;

class TwoHops : public testing::TestWithParam<Dialects> {
protected:
  ~TwoHops() override {
    tunnel.reset();
    client.reset();
    via.reset();
  }

  std::unique_ptr<ConnectUdpProxy> MakeProxy(std::string_view allowed = "127.0.0.0/8") {
    ConnectUdpProxy::Options options;
    options.listener.addresses = {Local(0), Local(0)};
    options.server.certificate_file = certificate.file();
    options.server.key_file = certificate.key;
    options.proxy.policy.allow.push_back(*ParseAddressBlock(allowed));
    return ConnectUdpProxy::Create(loop, options).value();
  }
  ProxyClient::Options To(const ConnectUdpProxy &proxy, ProxyDialect dialect) {
    return {.host = "127.0.0.1",
            .port = std::to_string(proxy.addresses().front().port),
            .idle_timeout = idle_timeout,
            .dialects = {.dialect = dialect}};
  }
  void Start() {
    via = std::make_unique<ProxyClient>(loop, To(*first, GetParam().first), via_watcher);
    ASSERT_TRUE(via->Start());
    auto options = To(*second, GetParam().second);
    options.via = via.get();
    options.server_migration = follows;
    options.via_tunnel = via_tunnel;
    client = std::make_unique<ProxyClient>(loop, options, watcher);
    ASSERT_TRUE(client->Start());
    OpenTunnel();
  }
  void OpenTunnel() {
    tunnel = client
               ->Open({.host = "127.0.0.1", .port = target.at.port}, Id(kClientId), recorder)
               .value();
    tunnel->AddServerId(Id(kServerId));
  }

  bool RunUntil(const std::function<bool()> &done) { return loop.RunUntil(done); }
  // There and back, as one of `counted` says.
  template <typename Counted> bool Passes(const Counted &counted) {
    const auto before = counted();
    return RunUntil([&] {
      std::ignore = tunnel->Send(Short(kServerId), 0);
      const auto now = counted();
      return now.first > before.first && now.second > before.second;
    });
  }
  bool Forwards() {
    return Passes([this] {
      const auto &s = tunnel->statistics();
      return std::pair(s.forwarded_tx.packets, s.forwarded_rx.packets);
    });
  }
  // By the first one: more than what the connection to the second one has there.
  bool ForwardsTwice() {
    return RunUntil([&] {
      const auto before = via_forwarded();
      const auto inner = tunnel->statistics();
      const auto come = recorder.packets.size() + 20;
      EXPECT_TRUE(RunUntil([&] {
        std::ignore = tunnel->Send(Short(kServerId), 0);
        return recorder.packets.size() >= come;
      }));
      const auto &now = tunnel->statistics();
      const auto tx = now.forwarded_tx.packets - inner.forwarded_tx.packets;
      const auto rx = now.forwarded_rx.packets - inner.forwarded_rx.packets;
      return tx >= 20 && rx >= 20 && via_forwarded().first >= before.first + tx &&
             via_forwarded().second >= before.second + rx;
    });
  }
  std::pair<std::uint64_t, std::uint64_t> via_forwarded() const {
    const auto s = client->via_statistics().value();
    return {s.forwarded_tx.packets, s.forwarded_rx.packets};
  }

  Loop loop;
  quic_test::CertificateFiles certificate;
  Target target{loop};
  std::unique_ptr<ConnectUdpProxy> first = MakeProxy(), second = MakeProxy();
  std::chrono::milliseconds idle_timeout{30'000};
  ProxyTunnel::Options via_tunnel{};
  bool follows = true;
  Watcher via_watcher, watcher;
  Recorder recorder;
  std::unique_ptr<ProxyClient> via, client;
  std::unique_ptr<ProxyTunnel> tunnel;
};

inline constexpr auto k00 = ProxyDialect::kDraft00, k9298 = ProxyDialect::kRfc9298;
inline const auto kDialects =
  testing::Values(Dialects{k00, k00}, Dialects{k9298, k9298}, Dialects{k9298, k00},
                  Dialects{k00, k9298});

inline std::string NameOf(const testing::TestParamInfo<Dialects> &info) {
  const auto name = [](ProxyDialect dialect) { return dialect == k00 ? "draft00" : "rfc9298"; };
  return std::string(name(info.param.first)) + "_" + name(info.param.second);
}

} // namespace ngmasque::two_hops_test
