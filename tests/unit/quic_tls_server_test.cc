// The TLS half of a server.

#include "../../plugin/quic/tls_server.h"

#include "quic_certificate_files.h"

#include "ngmasque/quic/socket_address.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

namespace {

using ngmasque::CloseKind;
using ngmasque::Nanoseconds;
using ngmasque::QuicError;
using ngmasque::TlsServerContext;
using quic_test::Bytes;
using quic_test::CertificateFiles;
using quic_test::Pair;
using quic_test::Server;

constexpr std::uint8_t kNoApplicationProtocol = 120;

std::unique_ptr<TlsServerContext> Context(const CertificateFiles &files) {
  return TlsServerContext::Create(files.file(), files.key).value();
}

// Whether a client that trusts nobody but `trusted` gets through.
bool Connects(const TlsServerContext &context, const CertificateFiles &trusted) {
  Pair pair({.tls = &context}, {.ca_file = trusted.file()});
  EXPECT_TRUE(pair.RunUntil(
    [&] { return pair.recorder.max_datagram.has_value() || pair.recorder.closed.has_value(); }));
  EXPECT_TRUE(!pair.recorder.closed || pair.recorder.closed->kind == CloseKind::kCertificate);
  return !pair.recorder.closed;
}

// A client that is nothing but ngtcp2 and GnuTLS.
class RawClient {
public:
  // No ALPN at all without a `protocol`.
  explicit RawClient(std::optional<std::string> protocol) {
    gnutls_init(&tls_, GNUTLS_CLIENT | GNUTLS_ENABLE_EARLY_DATA | GNUTLS_NO_END_OF_EARLY_DATA);
    gnutls_priority_set_direct(tls_, "NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE",
                               nullptr);
    EXPECT_EQ(ngtcp2_crypto_gnutls_configure_client_session(tls_), 0);
    reference_.user_data = this;
    reference_.get_conn = [](ngtcp2_crypto_conn_ref *reference) {
      return static_cast<RawClient *>(reference->user_data)->conn_;
    };
    gnutls_session_set_ptr(tls_, &reference_);
    gnutls_certificate_allocate_credentials(&credentials_);
    gnutls_credentials_set(tls_, GNUTLS_CRD_CERTIFICATE, credentials_);
    gnutls_server_name_set(tls_, GNUTLS_NAME_DNS, "proxy.example", 13);
    if (protocol) {
      const gnutls_datum_t alpn{.data = reinterpret_cast<unsigned char *>(protocol->data()),
                                .size = static_cast<unsigned>(protocol->size())};
      gnutls_alpn_set_protocols(tls_, &alpn, 1, 0);
    }
    gnutls_handshake_set_hook_function(
      tls_, GNUTLS_HANDSHAKE_NEW_SESSION_TICKET, GNUTLS_HOOK_POST,
      [](gnutls_session_t session, unsigned, unsigned, unsigned, const gnutls_datum_t *) {
        auto &self = *static_cast<RawClient *>(
          static_cast<ngtcp2_crypto_conn_ref *>(gnutls_session_get_ptr(session))->user_data);
        gnutls_datum_t data;
        EXPECT_EQ(gnutls_session_get_data2(session, &data), 0);
        self.ticket.assign(data.data, data.data + data.size);
        gnutls_free(data.data);
        return 0;
      });

    ngtcp2_callbacks callbacks{};
    callbacks.client_initial = ngtcp2_crypto_client_initial_cb;
    callbacks.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
    callbacks.encrypt = ngtcp2_crypto_encrypt_cb;
    callbacks.decrypt = ngtcp2_crypto_decrypt_cb;
    callbacks.hp_mask = ngtcp2_crypto_hp_mask_cb;
    callbacks.recv_retry = ngtcp2_crypto_recv_retry_cb;
    callbacks.update_key = ngtcp2_crypto_update_key_cb;
    callbacks.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
    callbacks.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
    callbacks.version_negotiation = ngtcp2_crypto_version_negotiation_cb;
    callbacks.get_path_challenge_data2 = ngtcp2_crypto_get_path_challenge_data2_cb;
    callbacks.rand = [](std::uint8_t *out, std::size_t size, const ngtcp2_rand_ctx *) {
      gnutls_rnd(GNUTLS_RND_NONCE, out, size);
    };
    callbacks.get_new_connection_id2 = [](ngtcp2_conn *, ngtcp2_cid *cid,
                                          ngtcp2_stateless_reset_token *token, std::size_t size,
                                          void *) {
      cid->datalen = size;
      gnutls_rnd(GNUTLS_RND_NONCE, cid->data, size);
      gnutls_rnd(GNUTLS_RND_NONCE, token->data, sizeof(token->data));
      return 0;
    };
    ngtcp2_settings settings;
    ngtcp2_settings_default(&settings);
    settings.initial_ts = now_;
    ngtcp2_transport_params params;
    ngtcp2_transport_params_default(&params);
    params.initial_max_data = 1 << 20;
    params.initial_max_stream_data_uni = 1 << 16;
    params.initial_max_streams_uni = 3;
    ngtcp2_cid dcid{.datalen = 18, .data = {1}};
    ngtcp2_cid scid{.datalen = 8, .data = {2}};
    const auto path = RawPath();
    EXPECT_EQ(ngtcp2_conn_client_new(&conn_, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                                     &settings, &params, nullptr, this),
              0);
    ngtcp2_conn_set_tls_native_handle(conn_, tls_);
  }
  ~RawClient() {
    ngtcp2_conn_del(conn_);
    gnutls_deinit(tls_);
    gnutls_certificate_free_credentials(credentials_);
  }
  RawClient(const RawClient &) = delete;
  RawClient &operator=(const RawClient &) = delete;

  // What another client needs to send early data, and has it sent some.
  void Resume(const RawClient &before) {
    ASSERT_EQ(gnutls_session_set_data(tls_, before.ticket.data(), before.ticket.size()), 0);
    Bytes params(256);
    const auto size =
      ngtcp2_conn_encode_0rtt_transport_params2(before.conn_, params.data(), params.size());
    ASSERT_GT(size, 0);
    ASSERT_EQ(ngtcp2_conn_decode_and_set_0rtt_transport_params(conn_, params.data(),
                                                               static_cast<std::size_t>(size)),
              0);
    early_ = true;
  }

  // Some round trips with a server that is made of the first packet.
  void Run(std::unique_ptr<Server> &server, const TlsServerContext &context,
           const quic_test::Certificate &certificate) {
    for (int i = 0; i < 20; ++i) {
      for (const auto &bytes : Write()) {
        const quic_test::Packet packet{
          .path = {.local = quic_test::Local(443), .remote = quic_test::Local(1000)},
          .bytes = bytes};
        if (!server) {
          server =
            std::make_unique<Server>(Server::Options{.tls = &context}, certificate, packet, now_);
        }
        server->Receive(packet, now_);
      }
      for (const auto &packet : server->Write(now_)) {
        const auto path = RawPath();
        const ngtcp2_pkt_info pi{};
        (void)ngtcp2_conn_read_pkt(conn_, &path, &pi, packet.bytes.data(), packet.bytes.size(),
                                   now_);
      }
      now_ += 1'000'000;
    }
  }

  [[nodiscard]] bool completed() const { return ngtcp2_conn_get_handshake_completed2(conn_); }
  Bytes ticket; // The last one that has come.

private:
  ngtcp2_path RawPath() {
    return {.local = {.addr = local_.get(), .addrlen = local_.size()},
            .remote = {.addr = remote_.get(), .addrlen = remote_.size()},
            .user_data = nullptr};
  }

  std::vector<Bytes> Write() {
    std::int64_t stream = -1;
    if (std::exchange(early_, false)) {
      EXPECT_EQ(ngtcp2_conn_open_bidi_stream(conn_, &stream, nullptr), 0);
    }
    std::vector<Bytes> packets;
    for (;;) {
      Bytes bytes(1200);
      const ngtcp2_vec vec{.base = frame_.data(), .len = frame_.size()};
      ngtcp2_ssize taken = -1;
      ngtcp2_pkt_info pi{};
      ngtcp2_path_storage path;
      ngtcp2_path_storage_zero(&path);
      const auto written = ngtcp2_conn_writev_stream(
        conn_, &path.path, &pi, bytes.data(), bytes.size(), &taken, NGTCP2_WRITE_STREAM_FLAG_NONE,
        stream, &vec, stream < 0 ? 0 : 1, now_);
      if (written <= 0) {
        return packets;
      }
      if (taken > 0) {
        stream = -1;
      }
      bytes.resize(static_cast<std::size_t>(written));
      packets.push_back(std::move(bytes));
    }
  }

  ngmasque::SocketAddress local_{quic_test::Local(1000)};
  ngmasque::SocketAddress remote_{quic_test::Local(443)};
  Nanoseconds now_ = 1'000'000'000;
  gnutls_session_t tls_ = nullptr;
  gnutls_certificate_credentials_t credentials_ = nullptr;
  ngtcp2_crypto_conn_ref reference_{};
  ngtcp2_conn *conn_ = nullptr;
  bool early_ = false;
  std::array<std::uint8_t, 2> frame_{0x21, 0}; // An empty one of a type that HTTP/3 reserves.
};

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
    client.Run(server, *context, files);
    EXPECT_FALSE(client.completed());
    EXPECT_EQ(server->tls_alert, kNoApplicationProtocol) << protocol.value_or("none");
  }
  RawClient client("h3");
  std::unique_ptr<Server> server;
  client.Run(server, *context, files);
  EXPECT_TRUE(client.completed());
}

TEST(TlsServer, ATicketBringsEarlyData) {
  const CertificateFiles files;
  const auto context = Context(files);
  RawClient first("h3");
  std::unique_ptr<Server> server;
  first.Run(server, *context, files);
  ASSERT_TRUE(first.completed());
  EXPECT_TRUE(first.ticket.empty());
  ASSERT_TRUE(server->tls_session().SendTicket());
  first.Run(server, *context, files);
  ASSERT_FALSE(first.ticket.empty());

  // Certificates come and go, tickets stay good.
  const CertificateFiles later;
  ASSERT_TRUE(context->Replace(later.file(), later.key));
  RawClient second("h3");
  second.Resume(first);
  std::unique_ptr<Server> other;
  second.Run(other, *context, files);
  EXPECT_TRUE(second.completed());
  EXPECT_TRUE(Resumed(*other));
  EXPECT_TRUE(EarlyData(*other));

  // Another server cannot open it.
  const auto stranger = Context(files);
  RawClient third("h3");
  third.Resume(first);
  std::unique_ptr<Server> strangers;
  third.Run(strangers, *stranger, files);
  EXPECT_TRUE(third.completed());
  EXPECT_FALSE(Resumed(*strangers));
  EXPECT_FALSE(EarlyData(*strangers));
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
  ASSERT_TRUE(context->Replace(after.file(), after.key));
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
    const auto replaced = context->Replace(certificate, key);
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
  const auto none = TlsServerContext::Create("/nonexistent/certificate", files.key);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error(), QuicError::kTls);
  const auto no_log = TlsServerContext::Create(files.file(), files.key, "/nonexistent/keys");
  ASSERT_FALSE(no_log);
  EXPECT_EQ(no_log.error(), QuicError::kQlog);
}

TEST(TlsServer, KeysAreLogged) {
  const CertificateFiles files;
  const std::filesystem::path log = files.file().string() + ".keys";
  const auto context = TlsServerContext::Create(files.file(), files.key, log).value();
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
