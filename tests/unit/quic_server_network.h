// An Http3Server and any number of Http3Clients in memory, with a clock of their own and a network
// between them that may lose and reorder packets.
#pragma once

#include "quic_certificate_files.h"
#include "quic_support.h"
#include "quic_tls_support.h"

#include "ngmasque/quic/http3_server.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <vector>

namespace quic_test {

/// What a server's handler of one connection was told.  It is there for longer than the handler.
struct ServerRecord {
  ngmasque::Http3Server::Connection *connection = nullptr; ///< Null once it is over.
  ngmasque::FourTuple path;                                ///< The first one.
  std::map<ngmasque::StreamId, std::vector<ngmasque::HeaderField>> requests;
  std::map<ngmasque::StreamId, Bytes> data;
  std::map<ngmasque::StreamId, std::pair<ngmasque::StreamEnd, std::uint64_t>> ends;
  std::vector<Bytes> datagrams;
  std::vector<ngmasque::ConnectionId> local_ids; ///< From the beginning on, without those retired.
  std::vector<ngmasque::ConnectionId> refused_ids;
  std::vector<ngmasque::FourTuple> paths;
  std::vector<std::size_t> migrations; ///< How many streams had brought data before each of them.
  std::optional<ngmasque::CloseReason> closed;
  std::optional<ngmasque::PeerSettings> settings;
  std::uint64_t datagram_error = 0; ///< What OnDatagram returns.
};

/// The handler of a server.  Handlers of connections are gone when their OnClosed returns.
class ServerApp : public ngmasque::Http3Server::Handler {
public:
  ServerApp();
  ~ServerApp() override;
  ngmasque::Http3Endpoint::Handler *OnConnection(ngmasque::Http3Server::Connection &made) override;

  /// Of the connection of the client that has come from this port of 127.0.0.1: the last such one.
  [[nodiscard]] ServerRecord *From(std::uint16_t port);

  std::list<ServerRecord> records;
  bool take = true; ///< Whether connections get a handler.
  int refuse_ids = 0; ///< How many are still to be refused.
  std::function<void(ngmasque::Http3Server::Connection &)> on_connection; ///< Within OnConnection.
  /// Another handler than one that keeps a record; null: none.
  std::function<ngmasque::Http3Endpoint::Handler *(ngmasque::Http3Server::Connection &)> handle;
  /// Within OnHeaders.  Otherwise the answer is 200, and the stream stays open.
  std::function<void(ServerRecord &, ngmasque::StreamId)> on_headers;
  std::function<void(ServerRecord &, ngmasque::StreamId)> on_closed; ///< Within OnStreamClosed.

private:
  class Peer;
  std::list<std::unique_ptr<Peer>> peers_;
};

class Network {
public:
  struct Options {
    std::uint64_t seed = 1;
    unsigned loss = 0;                       ///< Of a thousand packets.
    ngmasque::Nanoseconds delay = 5'000'000; ///< In one direction.
    ngmasque::Nanoseconds jitter = 0;        ///< Up to so much more.
  };

  /// What is on its way.
  struct Wire {
    bool to_server;
    ngmasque::FourTuple path; ///< As the server sees it.
    unsigned ecn = 0;
    Bytes bytes;
  };

  struct Client {
    Recorder recorder;
    std::unique_ptr<ngmasque::Http3Client> client;
    std::uint16_t port;

    [[nodiscard]] bool ready() const { return recorder.max_datagram.has_value(); }
    ngmasque::Http3Client *operator->() const { return client.get(); }
  };

  explicit Network(ngmasque::Http3Server::Options server = {}) : Network(std::move(server), {}) {}
  Network(ngmasque::Http3Server::Options server, const Options &options);

  /// Begins a connection, from a port of its own.
  Client &Add(ngmasque::Http3Client::Options options = {});
  /// Has one that is ready.
  Client &Connect(ngmasque::Http3Client::Options options = {});
  /// What the server has been told of a client's connection.
  [[nodiscard]] ServerRecord &At(const Client &client);
  /// Closes the client's end.
  void Close(Client &client, std::uint64_t code = ngmasque::kH3NoError);
  /// Closes all connections of the server.
  void CloseServer(std::uint64_t code);
  /// It is gone, and says nothing any more.
  void Vanish(Client &client);
  /// The real first packet of a client that is never heard of again; it is not sent.
  Bytes FirstPacket();
  /// Moves a client to a port that it has not had.
  std::uint16_t Move(Client &client);
  /// Has packets to this port come to the client.
  void Route(std::uint16_t port, Client &client) { ports_[port] = &client; }

  /// Sends a packet to the server, past the clients.  What comes back is in `strays`.
  void Inject(std::uint16_t port, Bytes bytes);

  /// Some round trips of a client that is not one of `clients`, from this port.
  void Talk(RawClient &client, std::uint16_t port);

  /// Lets things happen until `done`, at most so long.  Returns whether it is done.
  bool RunUntil(const std::function<bool()> &done,
                ngmasque::Nanoseconds limit = 20'000'000'000);
  void Run(ngmasque::Nanoseconds time) {
    (void)RunUntil([] { return false; }, time);
  }
  /// Until nothing is left to wait for, and the server knows nobody.
  [[nodiscard]] bool RunOut();

  CertificateFiles files;
  ServerApp app;
  std::unique_ptr<ngmasque::Http3Server> server;
  std::list<Client> clients;
  ngmasque::Nanoseconds now = 1'000'000'000;
  Options options;
  std::mt19937_64 random;
  /// Whether a packet is lost; for whoever wants to see all of them.
  std::function<bool(const Wire &)> lose;
  /// Bursts that the server's socket takes still; to the last one it says false.
  std::size_t room = SIZE_MAX;
  std::vector<Wire> strays; ///< From the server to nobody.

private:
  void Flush();
  void Advance(ngmasque::Nanoseconds end);
  void Deliver(const Wire &wire);
  void Send(bool to_server, const ngmasque::OutgoingBurst &burst);
  ngmasque::BurstSink ServerSink();

  std::uint16_t next_port_ = 1000;
  std::map<std::uint16_t, Client *> ports_;
  std::multimap<ngmasque::Nanoseconds, Wire> wire_;
};

} // namespace quic_test
