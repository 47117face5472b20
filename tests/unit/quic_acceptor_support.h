// An Acceptor, packets by bytes, and a client whose packets are real ones.
#pragma once

#include "../../plugin/quic/acceptor.h"

#include "quic_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <variant>

#include <gnutls/crypto.h>

namespace quic_test {

using ngmasque::Acceptor;
using ngmasque::FourTuple;
using ngmasque::Http3Client;
using ngmasque::LocalIds;
using ngmasque::Nanoseconds;
using Kind = Acceptor::AnswerKind;
using Reason = Acceptor::DropReason;

inline constexpr Nanoseconds kSecond = 1'000'000'000;
inline constexpr std::uint8_t kWorker = 9;
inline constexpr std::uint32_t kUnknownVersion = 0xfaceb00c;

inline bool Random(std::span<std::uint8_t> out) {
  return gnutls_rnd(GNUTLS_RND_NONCE, out.data(), out.size()) == 0;
}

inline ngmasque::QuicSecret Secret(std::uint8_t number) {
  ngmasque::QuicSecret secret;
  secret.fill(number);
  return secret;
}

// As the server sees it.
inline FourTuple Path(std::uint16_t client_port = 1000, std::uint8_t client = 1) {
  FourTuple path{.local = Local(443), .remote = Local(client_port)};
  path.remote.address.back() = client;
  return path;
}

// What a packet that begins a connection shows without its keys, and no more.
inline Bytes Initial(const Bytes &token = {}, std::size_t size = 1200, std::uint32_t version = 1,
                     std::size_t dcid = 18) {
  Bytes bytes{static_cast<std::uint8_t>(version == NGTCP2_PROTO_VER_V2 ? 0xd0 : 0xc0)};
  for (int shift = 24; shift >= 0; shift -= 8) {
    bytes.push_back(static_cast<std::uint8_t>(version >> shift));
  }
  bytes.push_back(static_cast<std::uint8_t>(dcid));
  bytes.insert(bytes.end(), dcid, 0xd1);
  bytes.push_back(5);
  bytes.insert(bytes.end(), 5, 0x51);
  bytes.push_back(static_cast<std::uint8_t>(0x40 | token.size() >> 8));
  bytes.push_back(static_cast<std::uint8_t>(token.size()));
  bytes.insert(bytes.end(), token.begin(), token.end());
  const auto rest = size - bytes.size() - 2;
  bytes.push_back(static_cast<std::uint8_t>(0x40 | rest >> 8));
  bytes.push_back(static_cast<std::uint8_t>(rest));
  bytes.resize(size, 0xee);
  return bytes;
}

class AcceptorTest : public testing::Test {
protected:
  explicit AcceptorTest() { Make({}); }

  void Make(Acceptor::Options options) {
    options.worker = kWorker;
    acceptor.emplace(options, ids, Secret(3), Random);
  }

  Acceptor::Result On(const Bytes &packet, std::size_t handshakes = 0,
                      const FourTuple &path = Path()) {
    auto result = acceptor->OnPacket(path, packet, handshakes, buffer, now);
    if (const auto *answer = std::get_if<Acceptor::Answer>(&result)) {
      EXPECT_LT(answer->bytes.size(), packet.size()) << "no answer is larger";
      EXPECT_EQ(answer->bytes.data(), buffer.data());
    }
    return result;
  }

  // The reason why it is dropped.
  std::optional<Reason> Dropped(const Acceptor::Result &result) {
    const auto *drop = std::get_if<Acceptor::Drop>(&result);
    return drop ? std::optional(drop->reason) : std::nullopt;
  }
  std::optional<Kind> Answered(const Acceptor::Result &result) {
    const auto *answer = std::get_if<Acceptor::Answer>(&result);
    return answer ? std::optional(answer->kind) : std::nullopt;
  }
  Bytes AnswerBytes(const Acceptor::Result &result) {
    const auto *answer = std::get_if<Acceptor::Answer>(&result);
    EXPECT_NE(answer, nullptr);
    return answer ? Bytes(answer->bytes.begin(), answer->bytes.end()) : Bytes();
  }
  const Acceptor::Accept *Accepted(const Acceptor::Result &result) {
    return std::get_if<Acceptor::Accept>(&result);
  }

  // A short header for an ID of `worker`.
  Bytes Short(std::size_t size, std::uint8_t worker = kWorker) {
    Bytes packet(size, 0xee);
    packet[0] = 0x40;
    EXPECT_TRUE(ids.Draw(worker, std::span(packet).subspan(1, ids.length())));
    return packet;
  }

  const LocalIds ids{17, {.worker = {.k0 = 1, .k1 = 2}, .reset = Secret(4)}, Random};
  std::optional<Acceptor> acceptor;
  Bytes buffer = Bytes(Acceptor::kMinBuffer);
  Nanoseconds now = 1000 * kSecond;
};

// A client, whose packets are real ones.
struct Client {
  explicit Client(Nanoseconds now) {
    client = Http3Client::Create({.server_name = "proxy.example"}, kPath, recorder, now).value();
  }
  // What it sends now: the first of it.
  Bytes Write(Nanoseconds now) {
    Bytes first;
    client->WritePackets(now, [&](const ngmasque::OutgoingBurst &burst) {
      const auto packet = burst.data.first(std::min(burst.data.size(), burst.segment));
      if (first.empty()) {
        first.assign(packet.begin(), packet.end());
      }
      return true;
    });
    return first;
  }
  void Receive(const Bytes &packet, Nanoseconds now) {
    client->Receive(kPath, 0, packet, now);
    (void)Write(now);
  }

  static inline const FourTuple kPath{.local = Local(1000), .remote = Local(443)};
  Recorder recorder;
  std::unique_ptr<Http3Client> client;
};

} // namespace quic_test
