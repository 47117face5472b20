// One end of rfc9298 that says what it is told to, whether that makes sense or not.
#pragma once

#include "ngmasque/session/rfc9298.h"
#include "ngmasque/session/udp_request.h"
#include "ngmasque/wire/capsule.h"

#include "session_proxy_support.h"

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {

using Texts = std::vector<std::string>;
using Kind = CidCapsuleKind;

inline TargetPolicy OpenPolicy() {
  TargetPolicy::Options options;
  options.allow = {ParseAddressBlock("192.0.2.0/24").value()};
  return TargetPolicy(options);
}

inline Bytes Concat(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const auto &part : parts) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// A capsule, of whatever type; `length` if it is to lie about its length.
inline Bytes RawCapsule(std::uint64_t type, const Bytes &value,
                        std::optional<std::uint64_t> length = {}) {
  Bytes header(kMaxCapsuleHeader);
  header.resize(WriteCapsuleHeader(type, length.value_or(value.size()), header).value());
  return Concat({header, value});
}

// A DATAGRAM capsule.
inline Bytes InCapsule(std::string_view payload) {
  return RawCapsule(kDatagramCapsule, Concat({{0}, ToBytes(payload)}));
}

// A datagram of a stream below 256, with context ID 0.
inline Bytes InDatagram(StreamId stream, std::string_view payload) {
  return Concat({{static_cast<std::uint8_t>(stream / 4), 0}, ToBytes(payload)});
}

inline CidCapsule Register(std::string_view client_id) {
  return {.kind = Kind::kRegisterClientCid, .id = Id(client_id), .virtual_id = {}, .token = {}};
}
inline CidCapsule RegisterTarget(std::string_view target_id,
                                 const std::optional<ResetToken> &token = {}) {
  return {
    .kind = Kind::kRegisterTargetCid, .id = Id(target_id), .virtual_id = {}, .token = token};
}
inline CidCapsule Close(Kind kind, std::string_view id, CidReason reason = {}) {
  return {.kind = kind, .reason = reason, .id = Id(id), .virtual_id = {}, .token = {}};
}
inline CidCapsule Ack(Kind kind, std::string_view id, const ConnectionId &virtual_id = {}) {
  return {.kind = kind, .id = Id(id), .virtual_id = virtual_id, .token = {}};
}
inline CidCapsule Maximum(std::uint64_t maximum) {
  return {.kind = Kind::kMaxConnectionIds,
          .id = {},
          .virtual_id = {},
          .token = {},
          .maximum = maximum};
}

// "ACK_CLIENT_CID client-0 8", the last number being the length of what is virtual; for what refuses
// and closes, the reason; for MAX_CONNECTION_IDS the maximum alone.
inline std::string Describe(const CidCapsule &capsule) {
  constexpr std::array names{"REGISTER_CLIENT_CID", "REGISTER_TARGET_CID", "ACK_CLIENT_CID",
                             "ACK_CLIENT_VCID",     "ACK_TARGET_CID",      "REJECT_CLIENT_CID",
                             "REJECT_TARGET_CID",   "CLOSE_CLIENT_CID",    "CLOSE_TARGET_CID",
                             "MAX_CONNECTION_IDS"};
  std::string text = names.at(std::to_underlying(capsule.kind));
  switch (capsule.kind) {
  case Kind::kMaxConnectionIds: return text + ' ' + std::to_string(capsule.maximum);
  case Kind::kAckClientCid:
  case Kind::kAckClientVcid:
  case Kind::kAckTargetCid:
    return text + ' ' + ToText(capsule.id.bytes()) + ' ' +
           std::to_string(capsule.virtual_id.size());
  default:
    return text + ' ' + ToText(capsule.id.bytes()) + ' ' +
           std::to_string(std::to_underlying(capsule.reason));
  }
}

// The capsules for connection IDs in what was said on a stream.
inline std::vector<CidCapsule> ReadCapsules(std::span<const std::uint8_t> bytes) {
  std::vector<CidCapsule> capsules;
  CapsuleParser parser{rfc9298::MaxLength};
  while (const auto capsule = parser.Next(bytes)) {
    if (const auto type = FindCidCapsule(capsule->type)) {
      capsules.push_back(ParseCidCapsule(*type, capsule->value).value());
    }
  }
  EXPECT_TRUE(parser.AtBoundary());
  return capsules;
}

inline ForwardingOffer Offer(std::vector<Transform> transforms = {Transform::kIdentity}) {
  ForwardingOffer offer{.forwarding = !transforms.empty(),
                        .transforms = std::move(transforms),
                        .key = ScrambleKey{1, 2, 3}};
  return offer;
}

// A client of a proxy, with one request.
class RawClient {
public:
  explicit RawClient(ProxyWorld &proxy, OuterConnection connection_in = kAlice,
                     StreamId stream_in = 0, QuicProxyRevision revision_in = kNewestRevision)
    : world(proxy), connection(connection_in), stream(stream_in), revision(revision_in) {}

  static std::vector<HeaderField> Fields(const ForwardingOffer &offer = Offer(),
                                         bool port_sharing = true) {
    return UdpRequestFields({.target = ParseAuthority("192.0.2.9:443").value(),
                             .forwarding = offer,
                             .port_sharing = port_sharing},
                            UriTemplate::Parse(kDefaultUdpPath).value(), "proxy.example");
  }

  unsigned Open(const ForwardingOffer &offer = Offer(), bool port_sharing = true) {
    return world.Request(connection, stream, Fields(offer, port_sharing));
  }

  // Bytes on its stream; the texts of the payloads among them that are to leave now.
  Texts Send(std::span<const std::uint8_t> bytes) {
    Texts payloads;
    while (!bytes.empty()) {
      ProxyActions actions;
      const auto to = world.proxy.OnStreamData(key(), bytes, world.now, actions);
      world.Do(actions);
      last_error = to ? std::nullopt : std::optional(to.error());
      if (to && to->tunnel) {
        payloads.push_back(ToText(to->payload));
      }
    }
    return payloads;
  }

  // Says it, and what the proxy says to this.
  std::vector<CidCapsule> Ask(const CidCapsule &capsule) {
    (void)Send(WriteCidCapsule(revision, capsule));
    return Heard();
  }
  Texts Say(const CidCapsule &capsule) { return Describe(Ask(capsule)); }
  std::vector<CidCapsule> Heard() {
    Bytes bytes;
    std::erase_if(world.messages, [&](const auto &message) {
      if (message.first != key()) {
        return false;
      }
      bytes.insert(bytes.end(), message.second.begin(), message.second.end());
      return true;
    });
    return ReadCapsules(bytes);
  }
  static Texts Describe(const std::vector<CidCapsule> &capsules) {
    Texts texts;
    for (const auto &capsule : capsules) {
      texts.push_back(ngmasque::Describe(capsule));
    }
    return texts;
  }

  // Registers it and, with kToClient, acknowledges: what is between client and proxy from then on.
  ConnectionId Map(const CidCapsule &registration) {
    const auto answers = Ask(registration);
    if (answers.empty() || answers[0].virtual_id.empty()) {
      ADD_FAILURE() << "not mapped";
      return {};
    }
    if (registration.kind == Kind::kRegisterClientCid) {
      EXPECT_TRUE(Ask({.kind = Kind::kAckClientVcid,
                       .id = registration.id,
                       .virtual_id = answers[0].virtual_id,
                       .token = {}})
                    .empty());
    }
    return answers[0].virtual_id;
  }

  StreamKey key() const { return {.connection = connection, .stream = stream}; }

  // What its stream was reset with; 0: it was not.
  std::uint64_t reset() const {
    const auto found = world.reset_codes.find(key());
    return found == world.reset_codes.end() ? 0 : found->second;
  }

  ProxyWorld &world;
  OuterConnection connection;
  StreamId stream;
  QuicProxyRevision revision;
  std::optional<DropReason> last_error; // Of Send.
};

} // namespace ngmasque
