// What surrounds a Proxy in its tests: sockets, a resolver and streams that only write down what
// they are told.
#pragma once

#include "ngmasque/session/message.h"
#include "ngmasque/session/proxy.h"

#include "routing_support.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace ngmasque {

inline constexpr OuterConnection kAlice{1}, kBob{2};

inline Endpoint At(std::string_view address, std::uint16_t port) {
  return {.address = ParseAddress(address).value(), .port = port};
}

inline ConnectUdpRequest Plain(std::string_view authority, std::optional<FlowId> flow = {}) {
  return {.authority = ParseAuthority(authority).value(), .flow = flow, .id = {}};
}
inline ConnectUdpRequest WithClientId(std::string_view authority, FlowId flow,
                                      std::string_view id) {
  return {.authority = ParseAuthority(authority).value(),
          .flow = flow,
          .id_header = IdHeader::kClient,
          .id = Id(id)};
}
inline ConnectUdpRequest WithServerId(std::string_view authority, FlowId flow,
                                      std::string_view id) {
  return {.authority = ParseAuthority(authority).value(),
          .flow = flow,
          .id_header = IdHeader::kServer,
          .id = Id(id)};
}

// A datagram of dialect draft-00; the flow id is below 64.
inline Bytes Datagram(FlowId flow, std::string_view payload) {
  Bytes bytes{static_cast<std::uint8_t>(flow)};
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

// A payload on the stream.
inline Bytes OnStream(std::string_view payload) {
  Bytes bytes{static_cast<std::uint8_t>(payload.size() >> 8),
              static_cast<std::uint8_t>(payload.size() & 0xff)};
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

inline std::string ToText(std::span<const std::uint8_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

// Where packets go, with numbers instead of handles.
struct ToTarget {
  OuterConnection connection{};
  FlowId flow{};
  SocketId socket{};
  bool operator==(const ToTarget &) const = default;
};
// Of a client's packet that is not forwarded: nothing if it is for the proxy's own QUIC.
using NotForwarded = std::optional<DropReason>;
inline constexpr NotForwarded kForQuic;

struct Received {
  OuterConnection connection{};
  ClientForm form{};
  FlowId flow{};     // For kDatagram.
  StreamId stream{}; // For kStream and kDatagram.
  FourTuple tuple{}; // For kForward.
  bool operator==(const Received &) const = default;
};

inline std::expected<Received, DropReason>
ToReceived(const std::expected<PacketToClient, DropReason> &to) {
  if (!to) {
    return std::unexpected(to.error());
  }
  const auto &connection = *to->tunnel->connection;
  Received received{.connection = connection.id, .form = to->form, .stream = to->stream};
  if (to->form == ClientForm::kDatagram) {
    received.flow = to->tunnel->key;
  } else if (to->form == ClientForm::kForward) {
    received.tuple = connection.path->tuple;
  }
  return received;
}

// Why a payload is not sent, without it being dropped: it is kept, or not complete yet.
inline constexpr std::optional<DropReason> kLater;

class ProxyWorld {
public:
  explicit ProxyWorld(const ProxyOptions &options = {}, TargetPolicy policy = {})
    : proxy(kTestKey, options, std::move(policy)) {
    EXPECT_TRUE(proxy.AddConnection(kAlice, Tuple(1)));
    EXPECT_TRUE(proxy.AddConnection(kBob, Tuple(2)));
  }

  // Does what the proxy wants to be done.  It fails a test by itself if the proxy asks for what
  // makes no sense: a second answer, or a socket that is not there.
  void Do(const ProxyActions &actions) {
    for (const auto &action : actions) {
      std::visit([&](const auto &a) { Do(a); }, action);
    }
  }

  // Each returns the status of the answer, 0 if there is none yet.
  unsigned Request(OuterConnection connection, StreamId stream, const ConnectUdpRequest &request) {
    return Request(connection, stream, RequestFields(request));
  }
  unsigned Request(OuterConnection connection, StreamId stream,
                   const std::vector<HeaderField> &fields) {
    const StreamKey key{.connection = connection, .stream = stream};
    Do(proxy.OnRequest(key, fields, now));
    return Status(connection, stream);
  }
  unsigned Status(OuterConnection connection, StreamId stream) const {
    const auto found = answers.find({.connection = connection, .stream = stream});
    return found == answers.end() ? 0 : found->second.status;
  }

  // A field of an answer, empty if it is not there.
  std::string Field(OuterConnection connection, StreamId stream, std::string_view name) const {
    const auto found = answers.find({.connection = connection, .stream = stream});
    if (found != answers.end()) {
      for (const auto &field : found->second.fields) {
        if (field.name == name) {
          return field.value;
        }
      }
    }
    return {};
  }

  void Close(OuterConnection connection, StreamId stream) {
    Do(proxy.OnStreamClosed({.connection = connection, .stream = stream}, now));
  }
  void Found(LookupId lookup, const std::vector<Endpoint> &addresses) {
    lookups.erase(lookup);
    Do(proxy.OnLookup(lookup, addresses, now));
  }
  void NotFound(LookupId lookup, SessionError error) {
    lookups.erase(lookup);
    Do(proxy.OnLookup(lookup, std::unexpected(error), now));
  }
  void Opened(SocketId socket) {
    opening.erase(socket);
    open.insert(socket);
    ++opened;
    Do(proxy.OnSocket(socket, nullptr, now));
  }
  void NotOpened(SocketId socket, SessionError error) {
    opening.erase(socket);
    Do(proxy.OnSocket(socket, std::unexpected(error), now));
  }

  // The latest one that was asked for.
  LookupId lookup() const { return lookups.rbegin()->first; }
  SocketId socket() const { return targets.rbegin()->first; }

  std::expected<PayloadToTarget, DropReason>
  OnDatagram(OuterConnection connection, std::span<const std::uint8_t> datagram, Timestamp at) {
    ProxyActions actions;
    auto to = proxy.OnDatagram(connection, datagram, at, actions);
    Do(actions);
    return to;
  }

  // Payloads of a datagram, and packets, as text: where they go, or why not.
  std::expected<SocketId, std::optional<DropReason>> Send(OuterConnection connection, FlowId flow,
                                                          std::string_view payload) {
    const auto bytes = Datagram(flow, payload);
    const auto to = OnDatagram(connection, bytes, now);
    if (!to) {
      return std::unexpected(to.error());
    }
    if (!to->tunnel) {
      return std::unexpected(kLater);
    }
    EXPECT_EQ(ToText(to->payload), payload);
    return to->tunnel->socket->id;
  }
  std::expected<Received, DropReason> Receive(SocketId socket, const Bytes &packet) {
    auto bytes = packet;
    return ToReceived(proxy.FromTarget(proxy.Find(socket), {.bytes = bytes}, now));
  }
  std::expected<Received, DropReason> Receive(SocketId socket, const Endpoint &source,
                                              const Bytes &packet) {
    auto bytes = packet;
    return ToReceived(proxy.FromTarget(proxy.Find(socket), source, {.bytes = bytes}, now));
  }
  std::expected<ToTarget, NotForwarded> Forward(const FourTuple &tuple, const Bytes &packet) {
    auto bytes = packet;
    const auto to = proxy.FromClient(proxy.FindPath(tuple), {.bytes = bytes}, now);
    if (!to) {
      return std::unexpected(to.error());
    }
    if (!to->mapping) {
      return std::unexpected(kForQuic);
    }
    const auto &tunnel = *to->mapping->tunnel;
    return ToTarget{tunnel.connection->id, tunnel.key, tunnel.socket->id};
  }

  Proxy proxy;
  Timestamp now = 1;
  bool open_at_once = true; // Whether OpenSocket succeeds by itself.

  std::map<StreamKey, proxy_action::Respond> answers;
  std::map<LookupId, std::string> lookups; // That are not answered or cancelled yet.
  std::map<SocketId, Endpoint> targets;    // Of all sockets that ever were.
  std::set<SocketId> opening, open;
  std::vector<std::pair<SocketId, std::size_t>> grown;
  std::vector<StreamKey> resets;
  std::map<StreamKey, std::uint64_t> reset_codes;
  std::vector<std::pair<StreamKey, Bytes>> messages; // By SendOnStream.
  std::vector<std::pair<SocketId, std::string>> sent; // By SendToTarget.
  std::vector<proxy_action::Ended> ended;
  int opened = 0, closed = 0, cancelled = 0;

private:
  void Do(const proxy_action::Lookup &a) { EXPECT_TRUE(lookups.emplace(a.lookup, a.host).second); }
  void Do(const proxy_action::CancelLookup &a) {
    EXPECT_EQ(lookups.erase(a.lookup), 1u);
    ++cancelled;
  }
  void Do(const proxy_action::OpenSocket &a) {
    EXPECT_TRUE(targets.emplace(a.socket, a.target).second);
    opening.insert(a.socket);
    if (open_at_once) {
      Opened(a.socket);
    }
  }
  void Do(const proxy_action::GrowSocket &a) {
    EXPECT_TRUE(open.contains(a.socket) || opening.contains(a.socket));
    grown.emplace_back(a.socket, a.flows);
  }
  void Do(const proxy_action::CloseSocket &a) {
    if (opening.erase(a.socket) == 0) {
      EXPECT_EQ(open.erase(a.socket), 1u);
      ++closed;
    }
  }
  void Do(const proxy_action::Respond &a) {
    EXPECT_EQ(a.fields.at(0), (HeaderField{":status", std::to_string(a.status)}));
    EXPECT_TRUE(answers.emplace(a.stream, a).second) << "stream " << a.stream.stream;
  }
  void Do(const proxy_action::SendOnStream &a) { messages.emplace_back(a.stream, a.message); }
  void Do(const proxy_action::ResetStream &a) {
    resets.push_back(a.stream);
    reset_codes[a.stream] = a.code;
    EXPECT_EQ(Status(a.stream.connection, a.stream.stream), 200u);
  }
  void Do(const proxy_action::Ended &a) { ended.push_back(a); }
  void Do(const proxy_action::SendToTarget &a) {
    EXPECT_TRUE(open.contains(a.socket));
    sent.emplace_back(a.socket, ToText(a.payload));
  }
};

} // namespace ngmasque
