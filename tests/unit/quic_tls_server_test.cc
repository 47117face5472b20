// The TLS half of a server.

#include "../../plugin/quic/tls_server.h"

#include "quic_certificate_files.h"
#include "quic_tls_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include <gnutls/gnutls.h>

namespace {

using ngmasque::CertificateAndKey;
using ngmasque::CloseKind;
using ngmasque::QuicError;
using ngmasque::TlsServerContext;
using quic_test::Bytes;
using quic_test::CertificateFiles;
using quic_test::Pair;
using quic_test::RawClient;
using quic_test::Server;

constexpr std::uint8_t kNoApplicationProtocol = 120;

CertificateAndKey Pem(const CertificateFiles &files) {
  return {.certificate_file = files.file(), .key_file = files.key};
}

std::unique_ptr<TlsServerContext> Context(const CertificateFiles &files) {
  return TlsServerContext::Create({.certificates = {Pem(files)}}).value();
}

// Whether a client that trusts nobody but `trusted` gets through.
bool Connects(const TlsServerContext &context, const CertificateFiles &trusted) {
  Pair pair({.tls = &context}, {.ca_file = trusted.file()});
  EXPECT_TRUE(pair.RunUntil(
    [&] { return pair.recorder.max_datagram.has_value() || pair.recorder.closed.has_value(); }));
  EXPECT_TRUE(!pair.recorder.closed || pair.recorder.closed->kind == CloseKind::kCertificate);
  return !pair.recorder.closed;
}

// Some round trips with a server that is made of the first packet.
void Talk(RawClient &client, std::unique_ptr<Server> &server, const TlsServerContext &context,
         const quic_test::Certificate &certificate) {
  for (int i = 0; i < 20; ++i) {
    for (const auto &bytes : client.Write()) {
      const quic_test::Packet packet{
        .path = {.local = quic_test::Local(443), .remote = quic_test::Local(1000)},
        .bytes = bytes};
      if (!server) {
        server = std::make_unique<Server>(Server::Options{.tls = &context}, certificate, packet,
                                          client.now);
      }
      server->Receive(packet, client.now);
    }
    for (const auto &packet : server->Write(client.now)) {
      client.Receive(packet.bytes);
    }
    client.now += 1'000'000;
  }
}

bool Resumed(Server &server) {
  return gnutls_session_is_resumed(server.tls_session().session()) != 0;
}

// Whether it was taken.
bool EarlyData(Server &server) {
  return (gnutls_session_get_flags(server.tls_session().session()) & GNUTLS_SFLAGS_EARLY_DATA) !=
         0;
}

TEST(TlsServer, ClientsGetItsCertificate) {
  const CertificateFiles files;
  const CertificateFiles others;
  const auto context = Context(files);
  EXPECT_TRUE(Connects(*context, files));
  EXPECT_FALSE(Connects(*context, others));
}

TEST(TlsServer, NoOtherProtocolIsTaken) {
  const CertificateFiles files;
  const auto context = Context(files);
  for (const auto &protocol : {std::optional<std::string>("h2"), std::optional<std::string>()}) {
    RawClient client(protocol);
    std::unique_ptr<Server> server;
    Talk(client, server, *context, files);
    EXPECT_FALSE(client.completed());
    EXPECT_EQ(server->tls_alert, kNoApplicationProtocol) << protocol.value_or("none");
  }
  RawClient client("h3");
  std::unique_ptr<Server> server;
  Talk(client, server, *context, files);
  EXPECT_TRUE(client.completed());
}

TEST(TlsServer, ATicketBringsEarlyData) {
  const CertificateFiles files;
  const auto context = Context(files);
  RawClient first("h3");
  std::unique_ptr<Server> server;
  Talk(first, server, *context, files);
  ASSERT_TRUE(first.completed());
  EXPECT_TRUE(first.ticket.empty());
  ASSERT_TRUE(server->tls_session().SendTicket());
  Talk(first, server, *context, files);
  ASSERT_FALSE(first.ticket.empty());

  // Certificates come and go, tickets stay good.
  const CertificateFiles later;
  ASSERT_TRUE(context->Replace(std::array{Pem(later)}));
  RawClient second("h3");
  second.Resume(first);
  std::unique_ptr<Server> other;
  Talk(second, other, *context, files);
  EXPECT_TRUE(second.completed());
  EXPECT_TRUE(Resumed(*other));
  EXPECT_TRUE(EarlyData(*other));

  // Another server cannot open it.
  const auto stranger = Context(files);
  RawClient third("h3");
  third.Resume(first);
  std::unique_ptr<Server> strangers;
  Talk(third, strangers, *stranger, files);
  EXPECT_TRUE(third.completed());
  EXPECT_FALSE(Resumed(*strangers));
  EXPECT_FALSE(EarlyData(*strangers));
}

// A server that is started again.
TEST(TlsServer, TheSameKeyOpensTickets) {
  const CertificateFiles files;
  const auto with_key = [&files](std::uint8_t byte) {
    ngmasque::TicketKey key;
    key.fill(byte);
    return TlsServerContext::Create({.certificates = {Pem(files)}, .ticket_key = key}).value();
  };
  auto context = with_key(1);
  RawClient first("h3");
  std::unique_ptr<Server> server;
  Talk(first, server, *context, files);
  ASSERT_TRUE(server->tls_session().SendTicket());
  Talk(first, server, *context, files);
  ASSERT_FALSE(first.ticket.empty());

  for (const std::uint8_t byte : {1, 2}) {
    context = with_key(byte);
    RawClient second("h3");
    second.Resume(first);
    std::unique_ptr<Server> other;
    Talk(second, other, *context, files);
    EXPECT_TRUE(second.completed());
    EXPECT_EQ(Resumed(*other), byte == 1);
    EXPECT_EQ(second.resumed(), byte == 1);
    // It cannot know whether that is a replay.
    EXPECT_FALSE(EarlyData(*other));
  }
}

TEST(TlsServer, ReplaceIsForNewConnections) {
  const CertificateFiles before;
  const CertificateFiles after;
  auto context = Context(before);

  // A session that is there already, but has not sent its certificate.
  Pair pair({.tls = context.get()}, {.ca_file = before.file()});
  quic_test::Packet initial;
  pair.client->WritePackets(pair.now, [&](const ngmasque::OutgoingBurst &burst) {
    const auto packet = burst.data.first(std::min(burst.data.size(), burst.segment));
    initial = {.path = {.local = burst.path.remote, .remote = burst.path.local},
               .bytes = Bytes(packet.begin(), packet.end())};
    return true;
  });
  pair.server = std::make_unique<Server>(Server::Options{.tls = context.get()}, pair.certificate,
                                         initial, pair.now);
  ASSERT_TRUE(context->Replace(std::array{Pem(after)}));
  EXPECT_TRUE(Connects(*context, after));
  EXPECT_FALSE(Connects(*context, before));

  // It outlives the context.
  context.reset();
  pair.server->Receive(initial, pair.now);
  EXPECT_TRUE(pair.Connect());
}

TEST(TlsServer, WhatCannotBeLoadedReplacesNothing) {
  const CertificateFiles files;
  const CertificateFiles others;
  const auto context = Context(files);
  const auto broken = files.file().string() + ".broken";
  // Not even PEM: with one that is in PEM and broken inside, GnuTLS 3.7 forgets some memory.
  std::ofstream(broken) << "no certificate\n";
  const auto refused = [&](const std::filesystem::path &certificate,
                           const std::filesystem::path &key) {
    const auto replaced = context->Replace(std::array{CertificateAndKey{certificate, key}});
    return !replaced && replaced.error() == QuicError::kTls && !replaced.error().text.empty();
  };
  EXPECT_TRUE(refused(broken, files.key));
  EXPECT_TRUE(refused(files.file(), broken));
  EXPECT_TRUE(refused(broken + ".none", files.key));
  EXPECT_TRUE(refused(others.file(), files.key)) << "they do not belong together";
  std::filesystem::remove(broken);
  EXPECT_TRUE(Connects(*context, files));
}

TEST(TlsServer, WithoutCertificateThereIsNone) {
  const CertificateFiles files;
  const auto none = TlsServerContext::Create({.certificates = {{"/nonexistent/certificate", files.key}}});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error(), QuicError::kTls);
  const auto no_log = TlsServerContext::Create({.certificates = {Pem(files)}, .key_log_file = "/nonexistent/keys"});
  ASSERT_FALSE(no_log);
  EXPECT_EQ(no_log.error(), QuicError::kQlog);
}

TEST(TlsServer, KeysAreLogged) {
  const CertificateFiles files;
  const std::filesystem::path log = files.file().string() + ".keys";
  const auto context = TlsServerContext::Create({.certificates = {Pem(files)}, .key_log_file = log}).value();
  ASSERT_TRUE(Connects(*context, files));
  std::ifstream in(log);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::filesystem::remove(log);
  for (const auto *label : {"CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "SERVER_HANDSHAKE_TRAFFIC_SECRET ",
                            "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "}) {
    EXPECT_NE(text.find(label), std::string::npos) << label;
  }
}

} // namespace
