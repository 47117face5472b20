// An Http3Client and an HTTP/3 server in memory, with a clock of their own and the network between
// them.
#pragma once

#include "../../plugin/quic/tls_server.h"

#include "ngmasque/quic/http3_client.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <gnutls/gnutls.h>
#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

namespace quic_test {

using Bytes = std::vector<std::uint8_t>;

/// What waits at a client.
inline constexpr ngmasque::Http3Connection::QueueBounds kBounds;

/// Of an end that has none, of either kind.
inline constexpr ngmasque::Http3Features kNoDatagrams{.datagrams = false, .draft_datagrams = false};

/// A certificate for `proxy.example` that is its own issuer, and its key.
class Certificate {
public:
  Certificate();
  ~Certificate();
  Certificate(const Certificate &) = delete;
  Certificate &operator=(const Certificate &) = delete;
  [[nodiscard]] gnutls_certificate_credentials_t credentials() const { return credentials_; }
  /// The certificate as a PEM file, deleted with this object.
  [[nodiscard]] const std::filesystem::path &file() const { return file_; }

private:
  gnutls_certificate_credentials_t credentials_ = nullptr;
  std::filesystem::path file_;
};

struct Packet {
  ngmasque::FourTuple path; ///< As the receiver sees it.
  unsigned ecn = 0;
  Bytes bytes;
};

/// The server: ngtcp2 and nghttp3 at their plainest.  It notes what comes and does what it is told.
class Server {
public:
  struct Options {
    std::uint64_t max_datagram_frame = 65535; ///< 0: no datagrams.
    std::uint64_t max_udp_payload = 1350;
    ngmasque::Http3Features settings{}; ///< What it announces.
    bool hold_settings = false;         ///< Until SendSettings.
    std::uint64_t max_streams = 100;
    bool disable_migration = false;
    std::uint64_t stream_window = 1 << 20;
    std::optional<ngmasque::Endpoint> preferred{}; ///< Its preferred address.
    /// That of the library, otherwise GnuTLS at its plainest.
    const ngmasque::TlsServerContext *tls = nullptr;
    bool ask_certificate = false; ///< Of the client; any will do, and none, too.
  };

  Server(Options options, const Certificate &certificate, const Packet &initial,
         ngmasque::Nanoseconds now);
  ~Server();
  Server(const Server &) = delete;
  Server &operator=(const Server &) = delete;

  void Receive(const Packet &packet, ngmasque::Nanoseconds now);
  [[nodiscard]] std::vector<Packet> Write(ngmasque::Nanoseconds now);
  void HandleExpiry(ngmasque::Nanoseconds now);
  [[nodiscard]] ngmasque::Nanoseconds Expiry() const;

  void Respond(std::int64_t stream, const std::vector<ngmasque::HeaderField> &fields,
               bool interim = false);
  void SendBody(std::int64_t stream, Bytes bytes);
  void SendDatagram(Bytes bytes) { datagrams_out_.push_back(std::move(bytes)); }
  void Reset(std::int64_t stream, std::uint64_t code);
  void StopReading(std::int64_t stream, std::uint64_t code);
  void EndBody(std::int64_t stream);
  void GoAway();
  void SendSettings();
  /// If there is a context in the options.
  [[nodiscard]] ngmasque::TlsServerSession &tls_session() { return *session_; }
  void Close(std::uint64_t code, std::string reason);
  /// Has the client go to another address.  0, or an error of ngtcp2.
  [[nodiscard]] int Announce(const ngmasque::Endpoint &address);
  /// The path in use.
  [[nodiscard]] ngmasque::FourTuple used() const;
  /// The client's certificate in DER; empty if it has shown none.
  [[nodiscard]] Bytes client_certificate() const;

  // What has come.
  std::map<std::int64_t, std::vector<ngmasque::HeaderField>> requests;
  std::map<std::int64_t, Bytes> bodies;
  std::set<std::int64_t> stalled; // Streams whose flow control credit is not renewed.
  std::map<std::int64_t, std::uint64_t> closed;  ///< Streams, with their codes.
  std::map<std::int64_t, std::uint64_t> stopped; ///< STOP_SENDING, with their codes.
  std::vector<Bytes> datagrams;
  std::vector<std::string> order;          ///< "request" and "datagram", as they came.
  std::optional<std::uint64_t> close_code; ///< The client's, of HTTP/3 if it is one.
  std::uint8_t tls_alert = 0;              ///< That the handshake has failed with.
  std::optional<ngmasque::PeerSettings> client_settings;
  ngmasque::FourTuple path; ///< That of the last packet.

private:
  struct Body {
    std::deque<Bytes> pieces;
    std::size_t given = 0;
    bool end = false;
  };
  friend struct ServerCallbacks;
  void OpenPlainSession(const Certificate &certificate);

  Options options_;
  gnutls_session_t tls_ = nullptr; // Of this, or that of session_.
  std::unique_ptr<ngmasque::TlsServerSession> session_;
  ngtcp2_crypto_conn_ref reference_{};
  ngtcp2_conn *conn_ = nullptr;
  nghttp3_conn *h3_ = nullptr;
  std::int64_t control_stream_ = -1;
  std::map<std::int64_t, Body> bodies_out_;
  std::deque<Bytes> datagrams_out_;
  std::optional<Packet> close_packet_;
};

/// What an Http3Client told.
struct Recorder : ngmasque::Http3Client::Handler {
  void OnReady(std::size_t max) override { max_datagram = max; }
  void OnHeaders(ngmasque::StreamId stream,
                 std::span<const ngmasque::HeaderField> fields) override {
    responses[stream].assign(fields.begin(), fields.end());
  }
  void OnData(ngmasque::StreamId, std::span<const std::uint8_t> bytes) override {
    data.insert(data.end(), bytes.begin(), bytes.end());
  }
  void OnStreamClosed(ngmasque::StreamId stream, ngmasque::StreamEnd end,
                      std::uint64_t code) override {
    ASSERT_FALSE(ends.contains(stream)) << "told twice";
    ends[stream] = {end, code};
  }
  std::uint64_t OnDatagram(std::span<const std::uint8_t> datagram) override {
    datagrams.emplace_back(datagram.begin(), datagram.end());
    return 0;
  }
  void OnDatagramDropped(ngmasque::DatagramQueue::Key tunnel, std::span<const std::uint8_t>,
                         ngmasque::QuicError::Code reason) override {
    dropped.emplace_back(tunnel, reason);
  }
  void OnWritable() override { ++writable; }
  void OnStreamsAvailable() override { ++streams_available; }
  void OnGoAway() override { ++go_away; }
  void OnSettings(const ngmasque::PeerSettings &got) override {
    ASSERT_FALSE(settings.has_value()) << "told twice";
    settings = got;
  }
  bool OnNewLocalId(const ngmasque::ConnectionId &id) override {
    if (refuse_ids > 0) {
      --refuse_ids;
      refused_ids.push_back(id);
      return false;
    }
    local_ids.push_back(id);
    return true;
  }
  void OnRetiredLocalId(const ngmasque::ConnectionId &id) override { retired_ids.push_back(id); }
  void OnPathChanged(const ngmasque::FourTuple &path) override { paths.push_back(path); }
  std::optional<ngmasque::Endpoint> OnServerAddress(const ngmasque::Endpoint &remote) override {
    addresses.push_back(remote);
    const auto from = sockets.find(remote.port);
    return from == sockets.end() ? std::nullopt : std::optional(from->second);
  }
  void OnClosed(const ngmasque::CloseReason &reason) override {
    ASSERT_FALSE(closed.has_value()) << "told twice";
    closed = reason;
  }

  std::optional<std::size_t> max_datagram;
  std::map<ngmasque::StreamId, std::vector<ngmasque::HeaderField>> responses;
  Bytes data; ///< Of all streams.
  std::map<ngmasque::StreamId, std::pair<ngmasque::StreamEnd, std::uint64_t>> ends;
  std::vector<Bytes> datagrams;
  std::vector<std::pair<ngmasque::DatagramQueue::Key, ngmasque::QuicError::Code>> dropped;
  int writable = 0;
  int streams_available = 0;
  int go_away = 0;
  std::optional<ngmasque::PeerSettings> settings;
  int refuse_ids = 0;
  std::vector<ngmasque::ConnectionId> refused_ids;
  std::vector<ngmasque::ConnectionId> local_ids;
  std::vector<ngmasque::ConnectionId> retired_ids;
  std::vector<ngmasque::FourTuple> paths;
  std::vector<ngmasque::Endpoint> addresses; ///< Of the server, where it was asked to go.
  /// Where it goes there from, by the server's port; it does not go to others.
  std::map<std::uint16_t, ngmasque::Endpoint> sockets;
  std::optional<ngmasque::CloseReason> closed;
};

/// The two ends.  Packets take a millisecond; only those of the client that are too large are lost.
class Pair {
public:
  explicit Pair(Server::Options server = {}, ngmasque::Http3Client::Options client = {});

  /// Lets things happen until `done`, or nothing is left to happen within ten seconds of the
  /// simulated clock.  Returns whether it is done.
  bool RunUntil(const std::function<bool()> &done);
  /// Some round trips.
  void Settle();
  bool Connect() {
    return RunUntil([this] { return recorder.max_datagram.has_value(); });
  }

  Certificate certificate;
  Recorder recorder;
  std::unique_ptr<ngmasque::Http3Client> client;
  std::unique_ptr<Server> server; ///< From the first packet on.
  ngmasque::Nanoseconds now = 1'000'000'000;
  std::size_t path_limit = SIZE_MAX;       ///< Of what the path to the server takes, in bytes.
  std::set<std::uint16_t> dead{};          ///< Ports of the server that nothing gets to.
  std::size_t largest_packet = 0;          ///< Of the client, in bytes.
  std::vector<std::size_t> client_packets; ///< Their sizes.
  std::optional<ngmasque::QuicError> failure;

private:
  void Step();
  Server::Options server_options_;
};

/// 127.0.0.1 with a port.
[[nodiscard]] ngmasque::Endpoint Local(std::uint16_t port);

/// The fields of a request for a target.
[[nodiscard]] std::vector<ngmasque::HeaderField> Request();

} // namespace quic_test
