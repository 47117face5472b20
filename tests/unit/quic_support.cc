#include "quic_support.h"

#include <algorithm>
#include <ctime>
#include <fstream>
#include <utility>

#include <gnutls/x509.h>
#include <unistd.h>

namespace quic_test {

Certificate::Certificate() {
  gnutls_x509_privkey_t key;
  gnutls_x509_privkey_init(&key);
  EXPECT_EQ(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                         GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
            0);
  gnutls_x509_crt_t certificate;
  gnutls_x509_crt_init(&certificate);
  constexpr std::string_view kName = "proxy.example";
  constexpr int kDay = 24 * 60 * 60;
  const unsigned char serial = 1;
  gnutls_x509_crt_set_version(certificate, 3);
  gnutls_x509_crt_set_serial(certificate, &serial, sizeof(serial));
  gnutls_x509_crt_set_activation_time(certificate, std::time(nullptr) - kDay);
  gnutls_x509_crt_set_expiration_time(certificate, std::time(nullptr) + kDay);
  gnutls_x509_crt_set_key(certificate, key);
  // Each issuer has a name of its own.
  static int count = 0;
  const auto issuer = "issuer " + std::to_string(++count);
  gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, issuer.data(),
                                static_cast<unsigned>(issuer.size()));
  gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, kName.data(), kName.size(),
                                       GNUTLS_FSAN_SET);
  gnutls_x509_crt_set_basic_constraints(certificate, 1, -1);
  EXPECT_EQ(gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0), 0);

  gnutls_certificate_allocate_credentials(&credentials_);
  EXPECT_EQ(gnutls_certificate_set_x509_key(credentials_, &certificate, 1, key), 0);
  gnutls_datum_t pem;
  EXPECT_EQ(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), 0);
  file_ = std::filesystem::temp_directory_path() /
          ("ngmasque-quic-test-" + std::to_string(::getpid()) + "-" + std::to_string(count));
  std::ofstream(file_).write(reinterpret_cast<const char *>(pem.data), pem.size);
  gnutls_free(pem.data);
  gnutls_x509_crt_deinit(certificate);
  gnutls_x509_privkey_deinit(key);
}

Certificate::~Certificate() {
  gnutls_certificate_free_credentials(credentials_);
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
}

ngmasque::Endpoint Local(std::uint16_t port) {
  ngmasque::Endpoint endpoint;
  endpoint.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  endpoint.port = port;
  return endpoint;
}

std::vector<ngmasque::HeaderField> Request() {
  return {{.name = ":method", .value = "CONNECT-UDP"},
          {.name = ":authority", .value = "target.example:443"},
          {.name = "datagram-flow-id", .value = "0"},
          {.name = "client-connection-id", .value = ":MTIzNDU2Nzg=:"}};
}

Pair::Pair(Server::Options server_options, ngmasque::Http3Client::Options options)
  : server_options_(server_options) {
  if (options.server_name.empty()) {
    options.server_name = "proxy.example";
  }
  if (options.ca_file == "own") {
    options.ca_file = certificate.file();
  }
  auto made = ngmasque::Http3Client::Create(
    std::move(options), {.local = Local(1000), .remote = Local(443)}, recorder, now);
  if (made) {
    client = std::move(*made);
  } else {
    failure = made.error();
  }
}

// A round trip of all that is to be sent now.
void Pair::Step() {
  constexpr ngmasque::Nanoseconds kDelay = 1'000'000;
  std::vector<Packet> packets;
  client->WritePackets(now, [&](const ngmasque::OutgoingBurst &burst) {
    EXPECT_LE(burst.data.size(), 65507u);
    for (auto rest = burst.data; !rest.empty();) {
      const auto packet = rest.first(std::min(rest.size(), burst.segment));
      rest = rest.subspan(packet.size());
      largest_packet = std::max(largest_packet, packet.size());
      client_packets.push_back(packet.size());
      if (packet.size() > path_limit || dead.contains(burst.path.remote.port)) {
        continue;
      }
      packets.push_back({.path = {.local = burst.path.remote, .remote = burst.path.local},
                         .ecn = burst.ecn,
                         .bytes = Bytes(packet.begin(), packet.end())});
    }
    return true;
  });
  now += kDelay;
  for (const auto &packet : packets) {
    if (!server) {
      server = std::make_unique<Server>(server_options_, certificate, packet, now);
    }
    server->Receive(packet, now);
  }
  if (!server) {
    return;
  }
  const auto answers = server->Write(now);
  now += kDelay;
  for (const auto &packet : answers) {
    client->Receive(packet.path, packet.ecn, packet.bytes, now);
  }
}

bool Pair::RunUntil(const std::function<bool()> &done) {
  if (!client) {
    return false;
  }
  constexpr ngmasque::Nanoseconds kLimit = 10'000'000'000;
  for (const auto end = now + kLimit; now < end;) {
    if (done()) {
      return true;
    }
    Step();
    const auto next = std::min(client->Expiry(), server ? server->Expiry() : ngmasque::kNever);
    if (next != ngmasque::kNever) {
      now = std::max(now, std::min(next, end));
    }
    if (client->Expiry() <= now) {
      client->HandleExpiry(now);
    }
    if (server && server->Expiry() <= now) {
      server->HandleExpiry(now);
    }
  }
  return done();
}

void Pair::Settle() {
  for (int i = 0; i < 20; ++i) {
    Step();
    if (client->Expiry() <= now) {
      client->HandleExpiry(now);
    }
    if (server && server->Expiry() <= now) {
      server->HandleExpiry(now);
    }
  }
}

} // namespace quic_test
