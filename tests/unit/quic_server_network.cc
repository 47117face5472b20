#include "quic_server_network.h"

#include <algorithm>
#include <utility>

namespace quic_test {

using ngmasque::Nanoseconds;
using ngmasque::StreamId;

class ServerApp::Peer final : public ngmasque::Http3Endpoint::Handler {
public:
  Peer(ServerApp &app, ServerRecord &record) : app_(app), record_(record) {}

  void OnHeaders(StreamId stream, std::span<const ngmasque::HeaderField> fields) override {
    ASSERT_TRUE(record_.requests.emplace(stream, std::vector(fields.begin(), fields.end())).second)
      << "told twice";
    if (app_.on_headers) {
      app_.on_headers(record_, stream);
    } else {
      const ngmasque::HeaderField status[] = {{.name = ":status", .value = "200"}};
      EXPECT_TRUE(record_.connection->Respond(stream, status, false));
    }
  }
  void OnData(StreamId stream, std::span<const std::uint8_t> bytes) override {
    EXPECT_FALSE(bytes.empty());
    EXPECT_TRUE(record_.requests.contains(stream) && !record_.ends.contains(stream));
    auto &data = record_.data[stream];
    data.insert(data.end(), bytes.begin(), bytes.end());
  }
  void OnStreamClosed(StreamId stream, ngmasque::StreamEnd end, std::uint64_t code) override {
    ASSERT_TRUE(record_.ends.emplace(stream, std::pair(end, code)).second) << "told twice";
    if (app_.on_closed) {
      app_.on_closed(record_, stream);
    }
  }
  std::uint64_t OnDatagram(std::span<const std::uint8_t> datagram) override {
    record_.datagrams.emplace_back(datagram.begin(), datagram.end());
    return record_.datagram_error;
  }
  void OnDatagramDropped(ngmasque::DatagramQueue::Key, std::span<const std::uint8_t>,
                         ngmasque::QuicError::Code) override {}
  void OnSettings(const ngmasque::PeerSettings &got) override {
    ASSERT_FALSE(record_.settings.has_value()) << "told twice";
    record_.settings = got;
  }
  void OnWritable() override { ADD_FAILURE() << "a server does not wait for it"; }
  bool OnNewLocalId(const ngmasque::ConnectionId &id) override {
    if (app_.refuse_ids > 0) {
      --app_.refuse_ids;
      record_.refused_ids.push_back(id);
      return false;
    }
    record_.local_ids.push_back(id);
    return true;
  }
  void OnRetiredLocalId(const ngmasque::ConnectionId &id) override {
    EXPECT_EQ(std::erase(record_.local_ids, id), 1u);
  }
  void OnMigrating() override { record_.migrations.push_back(record_.data.size()); }
  void OnPathChanged(const ngmasque::FourTuple &path) override { record_.paths.push_back(path); }
  void OnClosed(const ngmasque::CloseReason &reason) override {
    ASSERT_FALSE(record_.closed.has_value()) << "told twice";
    record_.closed = reason;
    record_.connection = nullptr;
    std::erase_if(app_.peers_, [this](const auto &peer) { return peer.get() == this; });
  }

private:
  ServerApp &app_;
  ServerRecord &record_;
};

ServerApp::ServerApp() = default;
ServerApp::~ServerApp() = default;

ngmasque::Http3Endpoint::Handler *
ServerApp::OnConnection(ngmasque::Http3Server::Connection &made) {
  auto &record = records.emplace_back();
  record.path = made.path();
  if (!take) {
    return nullptr;
  }
  if (handle) {
    return handle(made);
  }
  record.connection = &made;
  record.local_ids = made.local_ids();
  if (on_connection) {
    on_connection(made);
  }
  return peers_.emplace_back(std::make_unique<Peer>(*this, record)).get();
}

ServerRecord *ServerApp::From(std::uint16_t port) {
  const auto found = std::ranges::find_last(records, Local(port),
                                            [](const auto &record) { return record.path.remote; });
  return found.empty() ? nullptr : &*found.begin();
}

Network::Network(ngmasque::Http3Server::Options server_options, const Options &options_in)
  : options(options_in), random(options.seed) {
  server_options.certificate_file = files.file();
  server_options.key_file = files.key;
  server = ngmasque::Http3Server::Create(std::move(server_options), app).value();
}

Network::Client &Network::Add(ngmasque::Http3Client::Options client_options) {
  if (client_options.server_name.empty()) {
    client_options.server_name = "proxy.example";
  }
  auto &client = clients.emplace_back();
  client.port = next_port_++;
  Route(client.port, client);
  client.client = ngmasque::Http3Client::Create(
                    std::move(client_options),
                    {.local = Local(client.port), .remote = Local(443)}, client.recorder, now)
                    .value();
  return client;
}

Network::Client &Network::Connect(ngmasque::Http3Client::Options client_options) {
  auto &client = Add(std::move(client_options));
  // The server has to know that it is.
  EXPECT_TRUE(RunUntil([&] { return client.ready() && app.From(client.port); }));
  return client;
}

ServerRecord &Network::At(const Client &client) {
  auto *record = app.From(client.port);
  EXPECT_NE(record, nullptr);
  static ServerRecord none;
  return record ? *record : none;
}

void Network::Close(Client &client, std::uint64_t code) {
  client->Close(code, now, [this](const auto &burst) {
    Send(true, burst);
    return true;
  });
}

void Network::CloseServer(std::uint64_t code) {
  server->Close(code, now, [this](const auto &burst) {
    Send(false, burst);
    return false;
  });
}

void Network::Vanish(Client &client) {
  std::erase_if(ports_, [&](const auto &port) { return port.second == &client; });
  std::erase_if(clients, [&](const auto &other) { return &other == &client; });
}

Bytes Network::FirstPacket() {
  Bytes first;
  auto &client = Add();
  client->WritePackets(now, [&](const ngmasque::OutgoingBurst &burst) {
    if (first.empty()) {
      const auto packet = burst.data.first(std::min(burst.data.size(), burst.segment));
      first.assign(packet.begin(), packet.end());
    }
    return true;
  });
  Vanish(client);
  return first;
}

std::uint16_t Network::Move(Client &client) {
  const auto port = next_port_++;
  Route(port, client);
  EXPECT_TRUE(client->Migrate(Local(port), now));
  return port;
}

void Network::Inject(std::uint16_t port, Bytes bytes) {
  Deliver({.to_server = true,
           .path = {.local = Local(443), .remote = Local(port)},
           .bytes = std::move(bytes)});
}

void Network::Talk(RawClient &client, std::uint16_t port) {
  for (int i = 0; i < 20; ++i) {
    client.now = now;
    for (auto &packet : client.Write()) {
      Inject(port, std::move(packet));
    }
    Run(2 * options.delay);
    client.now = now;
    for (const auto &wire : std::exchange(strays, {})) {
      if (wire.path.remote.port == port) {
        client.Receive(wire.bytes);
      }
    }
  }
}

void Network::Send(bool to_server, const ngmasque::OutgoingBurst &burst) {
  EXPECT_GT(burst.segment, 0u);
  EXPECT_LE(burst.data.size(), 65507u);
  auto path = burst.path;
  if (to_server) {
    std::swap(path.local, path.remote);
  }
  for (auto rest = burst.data; !rest.empty();) {
    const auto packet = rest.first(std::min(rest.size(), burst.segment));
    rest = rest.subspan(packet.size());
    Wire wire{.to_server = to_server,
              .path = path,
              .ecn = burst.ecn,
              .bytes = Bytes(packet.begin(), packet.end())};
    if ((lose && lose(wire)) || random() % 1000 < options.loss) {
      continue;
    }
    const auto jitter = options.jitter != 0 ? random() % options.jitter : 0;
    wire_.emplace(now + options.delay + jitter, std::move(wire));
  }
}

ngmasque::BurstSink Network::ServerSink() {
  return [this](const ngmasque::OutgoingBurst &burst) {
    EXPECT_GT(room, 0u) << "after false nothing follows";
    Send(false, burst);
    return --room != 0;
  };
}

void Network::Deliver(const Wire &wire) {
  if (wire.to_server) {
    server->Receive(wire.path, wire.ecn, wire.bytes, now, [this](const auto &burst) {
      Send(false, burst);
      return true;
    });
  } else if (const auto found = ports_.find(wire.path.remote.port); found != ports_.end()) {
    (*found->second)->Receive({.local = wire.path.remote, .remote = wire.path.local}, wire.ecn,
                              wire.bytes, now);
  } else {
    strays.push_back(wire);
  }
}

void Network::Flush() {
  if (room != 0 && server->wants_write()) {
    server->WritePackets(now, ServerSink());
  }
  for (const auto &client : clients) {
    client->WritePackets(now, [this](const auto &burst) {
      Send(true, burst);
      return true;
    });
  }
}

void Network::Advance(Nanoseconds end) {
  constexpr Nanoseconds kStep = 10'000;
  auto next = std::min(end, server->Expiry());
  if (!wire_.empty()) {
    next = std::min(next, wire_.begin()->first);
  }
  for (const auto &client : clients) {
    next = std::min(next, client->Expiry());
  }
  now = std::max(next, now + kStep);
  while (!wire_.empty() && wire_.begin()->first <= now) {
    const auto wire = wire_.extract(wire_.begin());
    Deliver(wire.mapped());
  }
  if (server->Expiry() <= now) {
    server->HandleExpiry(now);
  }
  for (const auto &client : clients) {
    if (client->Expiry() <= now) {
      client->HandleExpiry(now);
    }
  }
}

bool Network::RunUntil(const std::function<bool()> &done, Nanoseconds limit) {
  for (const auto end = now + limit;;) {
    Flush();
    if (done()) {
      return true;
    }
    if (now >= end) {
      return false;
    }
    Advance(end);
  }
}

bool Network::RunOut() {
  return RunUntil([this] {
    return server->connections() == 0 && server->Expiry() == ngmasque::kNever &&
           !server->wants_write() && wire_.empty();
  }, 100'000'000'000);
}

} // namespace quic_test
