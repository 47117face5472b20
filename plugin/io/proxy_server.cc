// ProxyServer: what Proxy says is done, and what happens is told to it.

#include "ngmasque/io/proxy_server.h"

#include "proxy_server_state.h"
#include "socket_error.h"

#include <cerrno>
#include <cstring>
#include <format>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

namespace ngmasque {

namespace {

// What may wait at a socket to be read: for each of its flows about as much as a system gives a
// socket by default, and at most so much for all of them.
constexpr std::size_t kReceiveBytesPerFlow = std::size_t{128} << 10;
constexpr std::size_t kMaxReceiveBytes = std::size_t{4} << 20;

// Besides the sockets to the targets: listeners, look-ups, logs.
constexpr std::size_t kOtherDescriptors = 256;

// What becomes of a tunnel.
std::string ToText(const TunnelRecord &ended) {
  auto text = std::format("tunnel {} of connection {} to {}: {} after {} ms", ended.number,
                          std::to_underlying(ended.connection),
                          AuthorityText(ended.authority.value_or(Authority{})),
                          ReasonName(ended.reason), ended.duration / 1'000'000);
  constexpr std::string_view names[kWays] = {"tunnelled to target", "tunnelled to client",
                                             "forwarded to target", "forwarded to client"};
  for (std::size_t way = 0; way < kWays; ++way) {
    const auto &[passed, dropped] = ended.statistics.ways[way];
    text += std::format(", {} {} packets of {} bytes", names[way], passed.packets, passed.bytes);
    for (std::size_t drop = 0; drop < kDropReasons; ++drop) {
      if (dropped[drop] > 0) {
        text += std::format(" ({} dropped: {})", dropped[drop], ReasonName(DropReason(drop)));
      }
    }
  }
  return text;
}

} // namespace

ProxyServer::State::State(struct ev_loop *l, Options options, const HashKey &key)
  : loop(l),
    log(std::move(options.log)),
    record(std::move(options.record)),
    proxy(key, options.proxy, TargetPolicy(std::move(options.policy))) {}

ProxyServer::State::~State() {
  for (auto &[id, target] : targets) {
    ev_io_stop(loop, &target->watcher);
  }
}

void ProxyServer::State::Log(LogLevel level, std::string_view line) const {
  if (log) {
    log(level, line);
  }
}

ProxyServer::Client *ProxyServer::State::Find(OuterConnection connection) const {
  const auto *known = proxy.Find(connection);
  return known ? &ClientOf(*known) : nullptr;
}

void ProxyServer::State::Perform(ProxyActions actions) {
  std::ranges::move(actions, std::back_inserter(todo));
  // An action may have its result at once, which gives further actions: they wait for their turn.
  if (std::exchange(performing, true)) {
    return;
  }
  while (!todo.empty()) {
    const auto action = std::move(todo.front());
    todo.pop_front();
    std::visit(Overloaded{
                 [&](const proxy_action::Lookup &a) { Lookup(a); },
                 [&](const proxy_action::CancelLookup &) {}, // c-ares cannot take one back.
                 [&](const proxy_action::OpenSocket &a) { Open(a); },
                 [&](const proxy_action::GrowSocket &a) { Grow(a); },
                 [&](const proxy_action::CloseSocket &a) { Close(a.socket); },
                 [&](const proxy_action::Respond &a) {
                   const auto line = std::format("connection {} stream {}: {}",
                                                 std::to_underlying(a.stream.connection),
                                                 a.stream.stream, a.status);
                   if (a.refused) {
                     Log(refused_lines, LogLevel::kInfo, "{}", line);
                   } else { // Of these a client has only so many.
                     Log(LogLevel::kInfo, line);
                   }
                   if (auto *client = Find(a.stream.connection)) {
                     client->Respond(a.stream.stream, a.status, a.fields);
                   }
                   if (a.refused) {
                     Record(*a.refused);
                   }
                 },
                 [&](const proxy_action::SendOnStream &a) {
                   // Without it, the two sides would not know the same of the tunnel any more.
                   if (auto *client = Find(a.stream.connection);
                       client && !client->SendMessage(a.stream.stream, a.message)) {
                     client->ResetStream(a.stream.stream, kH3InternalError);
                     Perform(proxy.OnStreamClosed(a.stream, SteadyNow()));
                   }
                 },
                 [&](const proxy_action::ResetStream &a) {
                   Log(reset_lines, LogLevel::kWarning, "connection {} stream {}: reset, code {:#x}",
                       std::to_underlying(a.stream.connection), a.stream.stream, a.code);
                   if (auto *client = Find(a.stream.connection)) {
                     client->ResetStream(a.stream.stream, a.code);
                   }
                 },
                 [&](const proxy_action::SendToTarget &a) {
                   if (const auto target = targets.find(a.socket); target != targets.end()) {
                     std::ignore = SendToTarget(*target->second, OnePacket(a.payload));
                   }
                 },
                 [&](const proxy_action::Ended &a) {
                   Log(LogLevel::kInfo, ToText(a));
                   if (!a.error) {
                     Record(a);
                   }
                 },
               },
               action);
  }
  performing = false;
  if (!reading) {
    closed.clear();
  }
}

void ProxyServer::State::Lookup(const proxy_action::Lookup &action) {
  resolver->Lookup(action.host, [this, id = action.lookup, host = action.host](
                                  const Resolver::Result &result) {
    EndBatch();
    if (!result) {
      Log(lookup_lines, LogLevel::kWarning, "{}: {}", host, ErrorName(result.error()));
    }
    Perform(proxy.OnLookup(id, result, SteadyNow()));
  });
}

void ProxyServer::State::Open(const proxy_action::OpenSocket &action) {
  const auto *handle = proxy.Find(action.socket);
  if (!handle) {
    return; // Closed since it was asked for.
  }
  auto socket = UdpSocket::Connect(action.target);
  if (!socket) {
    Log(open_lines, LogLevel::kWarning, "server-facing socket {}: {}",
        std::to_underlying(action.socket), std::strerror(socket.error().system));
    Perform(proxy.OnSocket(action.socket, std::unexpected(ToSessionError(socket.error().system)),
                           SteadyNow()));
    return;
  }
  auto target = std::make_unique<Target>(Target{.state = this,
                                                .id = action.socket,
                                                .handle = handle,
                                                .socket = std::move(*socket)});
  ev_io_init(&target->watcher, OnReadable, target->socket.fd(), EV_READ);
  auto *user_data = target->watcher.data = target.get();
  ev_io_start(loop, &target->watcher);
  targets.emplace(action.socket, std::move(target));
  Perform(proxy.OnSocket(action.socket, user_data, SteadyNow()));
}

void ProxyServer::State::Grow(const proxy_action::GrowSocket &action) {
  if (const auto found = targets.find(action.socket); found != targets.end()) {
    found->second->socket.GrowReceiveBuffer(
      std::min(action.flows * kReceiveBytesPerFlow, kMaxReceiveBytes));
  }
}

void ProxyServer::State::Close(SocketId id) {
  const auto found = targets.find(id);
  if (found == targets.end()) {
    return;
  }
  ev_io_stop(loop, &found->second->watcher);
  // Its own read loop may be running, or a send to it.
  closed.push_back(std::move(found->second));
  targets.erase(found);
}

void ProxyServer::State::OnReadable(struct ev_loop *, ev_io *watcher, int) {
  auto &target = *static_cast<Target *>(watcher->data);
  auto &state = *target.state;
  state.reading = true;
  state.Read(target);
  state.reading = false;
  state.closed.clear();
}

void ProxyServer::State::Read(Target &target) {
  // Once, before others get their turn; the loop calls again if more is there.
  const auto bursts = reader.Read(target.socket.fd(), true);
  if (!bursts) {
    if (bursts.error().system != EAGAIN) {
      OnSocketError(target, bursts.error().system);
    }
    return;
  }
  for (const auto &burst : *bursts) {
    if (!ev_is_active(&target.watcher)) {
      return; // Closed.
    }
    ToClients(target.handle, burst);
  }
}

void ProxyServer::State::OnSocketError(const Target &target, int error) {
  if (ToDropReason(error) == DropReason::kUnreachable) {
    Log(unreachable_lines, LogLevel::kWarning, "server-facing socket {}: target is unreachable",
        std::to_underlying(target.id));
    failed.insert(target.id);
    if (!in_batch) {
      ActOnFailed();
    }
  }
}

void ProxyServer::State::ActOnFailed() {
  while (!failed.empty()) {
    Perform(proxy.OnSocketFailed(failed.extract(failed.begin()).value(), SteadyNow()));
  }
}

ProxyServer::ProxyServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
ProxyServer::~ProxyServer() = default;

std::unique_ptr<ProxyServer> ProxyServer::Create(struct ev_loop *loop, Options options) {
  const auto key = DrawHashKey();
  if (!key) {
    return nullptr;
  }
  const auto wanted = options.proxy.routing.max_sockets + kOtherDescriptors;
  auto state = std::make_unique<State>(loop, std::move(options), *key);
  if (const auto allowed = RaiseDescriptorLimit(wanted); allowed < wanted) {
    state->Log(LogLevel::kWarning,
               std::format("{} descriptors are allowed: requests that need more sockets to targets "
                           "will be answered with 503",
                           allowed));
  }
  state->resolver = Resolver::Create(loop);
  if (!state->resolver) {
    return nullptr;
  }
  return std::unique_ptr<ProxyServer>(new ProxyServer(std::move(state)));
}

void ProxyServer::SetPolicy(TargetPolicy::Options policy) {
  state_->proxy.SetPolicy(TargetPolicy(std::move(policy)));
}

void ProxyServer::SetRate(std::uint64_t max_bytes_per_second_per_client) {
  state_->proxy.SetRate(max_bytes_per_second_per_client);
}

std::vector<OuterConnection> ProxyServer::Review(const ReviewFunction &review) {
  state_->EndBatch();
  auto [actions, revoked] = state_->proxy.Review(review, SteadyNow());
  state_->Perform(std::move(actions));
  return revoked;
}

std::expected<std::shared_ptr<ByteBudget>, SessionError>
ProxyServer::AddConnection(OuterConnection connection, const FourTuple &tuple, Client &client,
                           const std::optional<ClientKey> &whose) {
  state_->EndBatch();
  return state_->proxy.AddConnection(connection, tuple, &client, whose)
    .transform([&] { return state_->proxy.Find(connection)->client->waiting; });
}

void ProxyServer::SetDatagrams(OuterConnection connection, bool datagrams, bool rfc9297) {
  state_->proxy.SetDatagrams(connection, datagrams, rfc9297);
}

void ProxyServer::SetCertificate(OuterConnection connection, std::string_view name) {
  state_->proxy.SetCertificate(connection, name);
}

void ProxyServer::RemoveConnection(OuterConnection connection) {
  state_->EndBatch();
  state_->held.erase(connection);
  state_->Perform(state_->proxy.RemoveConnection(connection, SteadyNow()));
}

void ProxyServer::MoveConnection(OuterConnection connection, const FourTuple &tuple) {
  state_->EndBatch();
  auto moved = state_->proxy.MoveConnection(connection, tuple, SteadyNow());
  if (!moved.reserved.empty()) {
    state_->Log(state_->moved_lines, LogLevel::kWarning,
                "connection {}: {} of its connection IDs belong to another client's target on the "
                "new path",
                std::to_underlying(connection), moved.reserved.size());
  }
  state_->Perform(std::move(moved.actions));
  state_->ForwardHeld(connection);
}

void ProxyServer::OnMigrating(OuterConnection connection) {
  state_->EndBatch();
  state_->ForwardHeld(connection, true);
  state_->Perform(state_->proxy.OnMigrating(connection, SteadyNow()));
}

void ProxyServer::Expect(OuterConnection connection, const FourTuple &tuple) {
  state_->EndBatch();
  state_->proxy.Expect(connection, tuple);
}

bool ProxyServer::Reserve(OuterConnection connection, const ConnectionId &id) {
  return state_->proxy.Reserve(connection, id);
}

void ProxyServer::Unreserve(OuterConnection connection, const ConnectionId &id) {
  state_->proxy.Unreserve(connection, id);
}

void ProxyServer::OnRequest(const StreamKey &stream, std::span<const HeaderField> fields) {
  state_->EndBatch();
  const auto *known = state_->proxy.Find(stream.connection);
  const auto waiting = known ? known->client->waiting : nullptr;
  auto actions = state_->proxy.OnRequest(stream, fields, SteadyNow());
  if (known && known->client->waiting != waiting) {
    State::ClientOf(*known).ShareWith(known->client->waiting);
  }
  state_->Perform(std::move(actions));
}

void ProxyServer::OnStreamClosed(const StreamKey &stream, bool finished) {
  state_->EndBatch();
  state_->Perform(state_->proxy.OnStreamClosed(stream, SteadyNow(), finished));
}

bool ProxyServer::IsOver(std::span<const std::uint8_t> bytes) const {
  return state_->proxy.IsOver(bytes);
}

std::size_t ProxyServer::tunnels() const { return state_->proxy.tunnels(); }

ProxyCounters ProxyServer::counters() const { return state_->proxy.counters(); }

} // namespace ngmasque
