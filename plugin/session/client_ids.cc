#include "ngmasque/session/client_ids.h"

#include "ngmasque/wire/quic_header.h"

#include <algorithm>

#include <nettle/memops.h>

namespace ngmasque {

// As many lengths as there can be: they are the program's choice.
ClientIds::ClientIds(const HashKey &key, std::size_t max_ids)
  : key_(key), table_(key, {.max_ids = max_ids, .max_lengths = kMaxConnectionIdLength + 1}) {}

bool ClientIds::Reserve(const ConnectionId &id) {
  const auto added = table_.Insert(id, {});
  return added || (added.error() == RoutingError::kEqual && !table_.FindExact(id.bytes())->tunnel);
}

void ClientIds::Release(const ConnectionId &id) {
  if (const auto *owner = table_.FindExact(id.bytes()); owner && !owner->tunnel) {
    table_.Erase(id);
  }
}

std::expected<void, RoutingError> ClientIds::Check(const ConnectionId &id) const {
  return id.empty() ? std::expected<void, RoutingError>() : table_.Check(id);
}

//= draft-00, section 4.4
//# If a client has started using forwarding mode, it MUST be prepared to receive forwarded short
//# header packets on the socket between itself and the proxy for any Client Connection ID that has
//# been accepted by the proxy.
ForwardedPacket ClientIds::FindForwarded(std::span<const std::uint8_t> packet) const {
  const auto form = PeekHeaderForm(packet);
  if (!form || *form != HeaderForm::kShort) {
    return {};
  }
  const auto *const owner = table_.Find(packet.subspan(1));
  if (!owner || !owner->tunnel) {
    return {};
  }
  const auto &mapping = *owner->mapping;
  //= draft-ietf-masque-quic-proxy, section 6.2
  //# Once a client has sent an ACK_CLIENT_VCID capsule to the proxy, it MUST be prepared to receive
  //# forwarded short header packets on the 4-tuple between itself and the proxy for the specified
  //# client VCID.
  if (owner->virtual_length != 0) {
    return {.tunnel = owner->tunnel, .mapping = &mapping, .id_length = owner->virtual_length};
  }
  if (!owner->tunnel->begun_ || mapping.stage != ClientMapping::Stage::kAcknowledged ||
      owner->tunnel->dialect().virtual_ids()) {
    return {};
  }
  return {.tunnel = owner->tunnel, .mapping = &mapping, .id_length = mapping.id.size()};
}

std::uint64_t ClientIds::Hash(const ResetToken &token) const { return SipHash<2, 4>(key_, token); }

void ClientIds::AddToken(const ResetToken &token, const ResetMapping &of) {
  resets_.try_emplace(Hash(token), Reset{.token = token, .of = of});
}

void ClientIds::EraseToken(const ResetToken &token, const ResetMapping &of) {
  const auto known = resets_.find(Hash(token));
  if (known != resets_.end() && known->second.of.tunnel == of.tunnel &&
      known->second.of.mapping == of.mapping) {
    resets_.erase(known);
  }
}

//= RFC 9000, section 10.3.1
//# When comparing a datagram to stateless reset token values, endpoints MUST perform the comparison
//# without leaking information about the value of the token.
//
// The hash says nothing of it to who has not the key, and what follows takes as long for all tokens.
std::optional<ClientIds::ResetMapping>
ClientIds::FindReset(std::span<const std::uint8_t> packet) const {
  if (resets_.empty() || packet.size() < kMinStatelessReset ||
      PeekHeaderForm(packet) != HeaderForm::kShort) {
    return std::nullopt;
  }
  ResetToken token;
  std::ranges::copy(packet.last(token.size()), token.begin());
  const auto known = resets_.find(Hash(token));
  if (known == resets_.end()) {
    return std::nullopt;
  }
  return memeql_sec(token.data(), known->second.token.data(), token.size()) != 0
           ? std::optional(known->second.of)
           : std::nullopt;
}

} // namespace ngmasque
