#include "inner_ids.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace ngmasque::programs {

namespace {

constexpr std::size_t kMinInitial = 1200; // RFC 9000, section 14.1.

// Its long packet type, which every version has of its own.
struct Version {
  std::uint32_t number;
  std::uint8_t initial;
};
constexpr Version kVersions[] = {{0x00000001, 0x00},  // RFC 9000, section 17.2.2
                                 {0x6b3343cf, 0x10}}; // RFC 9369, section 3.2

bool IsInitial(InnerIds::Packet packet, const LongHeader &header) {
  const auto version = std::ranges::find(kVersions, header.version, &Version::number);
  return version != std::end(kVersions) && (packet[0] & 0x30) == version->initial;
}

// RFC 9000, section 17.2: of versions 1 and 2.
bool IsPossible(InnerIds::Packet id) { return id.size() <= ConnectionId::kInlineSize; }

// Of a packet with a short header.
bool IsFor(InnerIds::Packet packet, const ConnectionId &id) {
  const auto rest = packet.subspan(1);
  return rest.size() >= id.size() &&
         std::ranges::equal(rest.first(id.size()), id.bytes());
}

} // namespace

bool InnerIds::BeginsConnection(Packet packet) {
  const auto header = ParseLongHeader(packet);
  return header && packet.size() >= kMinInitial && IsInitial(packet, *header) &&
         IsPossible(header->scid) && IsPossible(header->dcid);
}

InnerIds::Connection *InnerIds::Find(Packet client_id) {
  const auto found = std::ranges::find_if(connections_, [&](const Connection &connection) {
    return std::ranges::equal(connection.client.bytes(), client_id);
  });
  return found == connections_.end() ? nullptr : &*found;
}

void InnerIds::Begin(const ConnectionId &client, std::uint64_t now, News &news) {
  // Packets could be for either of two that are in conflict.
  if (!MayAsk(client.bytes()) ||
      std::ranges::any_of(connections_, [&](const Connection &connection) {
        return Compare(connection.client.bytes(), client.bytes()) != Relation::kUnrelated;
      })) {
    return;
  }
  if (connections_.size() == kMaxConnections) {
    const auto oldest = std::ranges::min_element(connections_, {}, &Connection::used);
    news.old_client_id = oldest->client;
    if (oldest->told) {
      news.old_server_id = oldest->server;
    }
    connections_.erase(oldest);
  }
  news.client_id = client;
  connections_.push_back({.client = client, .server = {}, .used = now});
}

InnerIds::News InnerIds::FromClient(Packet packet, std::uint64_t now) {
  News news;
  const auto form = PeekHeaderForm(packet);
  if (form == HeaderForm::kLong) {
    const auto header = ParseLongHeader(packet);
    if (!header || !IsPossible(header->scid) || !IsPossible(header->dcid)) {
      return news;
    }
    if (!Find(header->scid) && BeginsConnection(packet)) {
      Begin(*ConnectionId::From(header->scid), now, news);
    }
    if (auto *connection = Find(header->scid)) {
      connection->used = now;
      if (!std::ranges::equal(connection->server.bytes(), header->dcid)) {
        if (std::exchange(connection->told, false)) {
          news.old_server_id = connection->server;
        }
        connection->server = *ConnectionId::From(header->dcid);
      }
    }
    return news;
  }
  if (form != HeaderForm::kShort) {
    return news;
  }
  // RFC 9000, section 7.2: what the server has chosen is in the client's long headers from its
  // first answer on, and in short headers until there is another one.  The client's own first
  // choice, and what somebody else has put into a packet for it, is never in both.
  const auto connection = std::ranges::find_if(connections_, [&](const Connection &one) {
    return !one.server.empty() && IsFor(packet, one.server) &&
           std::ranges::contains(one.shown, one.server);
  });
  if (connection == connections_.end()) {
    unseen_to_target_ += !connections_.empty();
    return news;
  }
  connection->used = now;
  if (!std::exchange(connection->told, true)) {
    news.server_id = connection->server;
  }
  return news;
}

void InnerIds::FromTarget(Packet packet) {
  const auto form = PeekHeaderForm(packet);
  if (form == HeaderForm::kLong) {
    const auto header = ParseLongHeader(packet);
    // A version negotiation packet repeats the client's own choice: RFC 8999, section 6.
    if (!header || header->version == kVersionNegotiation || !IsPossible(header->scid)) {
      return;
    }
    auto *connection = Find(header->dcid);
    const auto id = *ConnectionId::From(header->scid);
    if (!connection || std::ranges::contains(connection->shown, id)) {
      return;
    }
    if (connection->shown.size() == kMaxShown) {
      connection->shown.erase(connection->shown.begin());
    }
    connection->shown.push_back(id);
  } else if (form == HeaderForm::kShort && !connections_.empty()) {
    unseen_to_client_ += std::ranges::none_of(
      connections_, [&](const Connection &one) { return IsFor(packet, one.client); });
  }
}

std::vector<ConnectionId> InnerIds::client_ids() const {
  auto latest = connections_;
  std::ranges::sort(latest, std::greater<>(), &Connection::used);
  std::vector<ConnectionId> ids;
  for (const auto &connection : latest) {
    ids.push_back(connection.client);
  }
  return ids;
}

void InnerIds::OnNewTunnel() {
  for (auto &connection : connections_) {
    connection.told = false;
  }
}

} // namespace ngmasque::programs
