// A client and a proxy that speak rfc9298 with each other, without a network.
#pragma once

#include "ngmasque/session/client_ids.h"
#include "ngmasque/session/client_tunnel.h"
#include "ngmasque/session/rfc9298.h"

#include "session_proxy_support.h"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {

inline constexpr std::string_view kProxyUri =
  "https://proxy.example/.well-known/masque/udp/{target_host}/{target_port}/";

inline Rfc9298ClientOptions ModernOptions() {
  return {.uri = UriTemplate::Parse(kProxyUri).value(), .key = {.k0 = 7, .k1 = 8}};
}

/// Alice's end of her connection, with one tunnel.
class ModernClient {
public:
  ModernClient(ProxyWorld &proxy, const Rfc9298ClientOptions &options,
               ClientTunnel::Options tunnel_options = {}, StreamId stream_in = 8,
               OuterConnection connection_in = kAlice)
    : world(proxy), connection(connection_in), stream(stream_in),
      dialect(MakeRfc9298Client(
        options, {.datagrams = true,
                  .settings = PeerSettings{.datagrams = true, .connect_protocol = true}})),
      tunnel(ids, *dialect, WithTarget(std::move(tunnel_options))) {}

  /// Does what the client wants, and what the proxy answers, until nobody has anything to say.
  void Talk(std::vector<ClientAction> actions) {
    Do(actions);
    while ((!answered && Answer()) || !to_proxy.empty() || !world.messages.empty()) {
      for (auto &bytes : std::exchange(to_proxy, {})) {
        ToProxy(bytes);
      }
      for (const auto &[key, bytes] : std::exchange(world.messages, {})) {
        EXPECT_EQ(key, (StreamKey{connection, stream}));
        ToClient(bytes);
      }
    }
  }

  /// Bytes on the stream, as one of the two would send them.
  void ToProxy(std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
      ProxyActions answers;
      (void)world.proxy.OnStreamData({connection, stream}, bytes, world.now, answers);
      world.Do(answers);
    }
  }
  void ToClient(std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
      std::vector<ClientAction> answers;
      (void)tunnel.OnStreamData(0, bytes, answers);
      Do(answers);
    }
  }

  /// A packet of the inner connection through the proxy in forwarded mode: what the target gets.
  std::string Up(std::string_view packet) {
    const auto bytes = Short(packet);
    if (tunnel.FromInner(bytes) != ClientWay::kForward) {
      return "tunnelled";
    }
    Bytes room(bytes.size() + ClientTunnel::kMaxGrowth);
    const auto written = tunnel.ToProxy(bytes, room);
    on_link.assign(written.begin(), written.end());
    auto copy = on_link;
    const auto to = world.proxy.FromClient(world.proxy.FindPath(tuple), {.bytes = copy}, world.now);
    return to && to->mapping ? ToText(std::span(to->packet.bytes).subspan(1)) : "lost";
  }

  /// One of the target's: what the inner connection gets.
  std::string Down(std::string_view packet) {
    auto bytes = Short(packet);
    const auto to = world.proxy.FromTarget(world.proxy.Find(world.socket()), {.bytes = bytes},
                                           world.now);
    if (!to) {
      return std::string(ReasonName(to.error()));
    }
    if (to->form != ClientForm::kForward) {
      return "tunnelled";
    }
    on_link.assign(to->packet.bytes.begin(), to->packet.bytes.end());
    return FromLink(on_link);
  }

  /// The same of one that was on the link.
  std::string FromLink(Bytes packet) const {
    const auto found = ids.FindForwarded(packet);
    if (found.tunnel != &tunnel) {
      return "lost";
    }
    const auto inner = tunnel.FromProxy(found, packet);
    return inner ? ToText(inner->subspan(1)) : "malformed";
  }

  /// The client moves, and the proxy follows.
  void Move(const FourTuple &to) {
    world.Do(world.proxy.OnMigrating(connection, world.now));
    Talk(tunnel.OnMigrated());
    world.Do(world.proxy.MoveConnection(connection, to, world.now).actions);
    tuple = to;
  }

  ProxyWorld &world;
  OuterConnection connection;
  StreamId stream;
  FourTuple tuple = Tuple(1);
  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect;
  ClientTunnel tunnel;
  std::vector<HeaderField> request;
  std::vector<std::string> said; // Of what it has done: "released id", "opened", ...
  std::vector<Bytes> to_proxy;   // On the stream.
  Bytes on_link;                 // The last forwarded packet, as it was between client and proxy.
  bool answered = false;

private:
  static ClientTunnel::Options WithTarget(ClientTunnel::Options options) {
    options.authority = ParseAuthority("192.0.2.9:443").value();
    return options;
  }

  bool Answer() {
    const auto found = world.answers.find({.connection = connection, .stream = stream});
    if (found == world.answers.end()) {
      return false;
    }
    answered = true;
    Do(tunnel.OnResponse(0, found->second.fields));
    return true;
  }

  void Do(const std::vector<ClientAction> &actions) {
    for (const auto &action : actions) {
      std::visit([this](const auto &a) { Do(a); }, action);
    }
  }
  void Do(const client_action::SendRequest &a) {
    request = a.fields;
    world.Request(connection, stream, a.fields);
    tunnel.OnSent(0, stream);
  }
  void Do(const client_action::SendOnStream &a) { to_proxy.push_back(a.message); }
  void Do(const client_action::CloseRequest &a) {
    said.push_back("close " + std::to_string(a.code));
    world.Close(connection, stream);
  }
  void Do(const client_action::ReleaseClientId &a) {
    said.push_back("release " + ToText(a.id.bytes()));
  }
  void Do(const client_action::DiscardClientId &a) {
    said.push_back("discard " + ToText(a.id.bytes()));
  }
  void Do(const client_action::Opened &) { said.emplace_back("opened"); }
  void Do(const client_action::FellBack &a) { said.emplace_back(ReasonName(a.reason)); }
  void Do(const client_action::Failed &a) {
    said.push_back("failed " + std::to_string(a.refusal.status));
  }
};

} // namespace ngmasque
