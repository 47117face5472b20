// The model of ClientTunnel: actions, packets, and what always holds.

#include "session_client_model.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ngmasque {

namespace {

// Whether the packet with `rest` after its first byte may have this connection ID.
bool Begins(const ConnectionId &id, const Bytes &rest) {
  return id.size() <= rest.size() &&
         std::ranges::equal(id.bytes(), std::span(rest).first(id.size()));
}

} // namespace

// Whether an accepted connection ID is that of the packet.
bool ClientModel::HasAccepted(IdHeader kind, const Bytes &rest) const {
  return std::ranges::any_of(open_, [&](const auto &entry) {
    const auto &request = entry.second;
    return request.kind == kind && request.accepted && !request.id.empty() &&
           Begins(request.id, rest);
  });
}

void ClientModel::Apply(const std::vector<ClientAction> &actions) {
  ASSERT_TRUE(!over_ || actions.empty()) << "after the end nothing happens";
  for (const auto &action : actions) {
    ASSERT_FALSE(over_) << "the end is the last action";
    std::visit([this](const auto &what) { Take(what); }, action);
  }
}

void ClientModel::Take(const client_action::SendRequest &send) {
  const auto request = ParseRequest(send.fields);
  ASSERT_TRUE(request) << ErrorName(request.error());
  ASSERT_TRUE(sent_.insert(send.request).second) << "sent already";
  ASSERT_EQ(request->authority, options_.authority);
  ASSERT_EQ(request->flow, options_.datagrams ? std::optional(options_.flow) : std::nullopt);
  ASSERT_TRUE(starting_ || (opened_ && !plain_)) << "held back until then";
  if (starting_) {
    first_ = send.request;
  }
  if (request->id_header == IdHeader::kServer) {
    ASSERT_TRUE(options_.forward && !stopped_ && !request->id.empty());
    ASSERT_FALSE(refused_.contains(request->id)) << "must not be asked for again";
  }
  next_ = std::max(next_, send.request + 1);
  open_.emplace(send.request, Request{.kind = request->id_header, .id = request->id});
  ASSERT_LE(open_.size(), limits_.max_mappings + 1);
}

void ClientModel::Take(const client_action::SendOnStream &) { FAIL() << "there are no messages"; }

void ClientModel::Take(const client_action::CloseRequest &close) {
  ASSERT_EQ(open_.erase(close.request), 1u) << "once, and not what has ended by itself";
  ++tally_.closed;
}

void ClientModel::Take(const client_action::ReleaseClientId &release) {
  ASSERT_EQ(held_.erase(release.id), 1u);
  ASSERT_TRUE(plain_ ||
              (accepting_ && accepting_->kind == IdHeader::kClient && accepting_->id == release.id))
    << "only its own 2xx allows that";
  ++tally_.released;
}

void ClientModel::Take(const client_action::DiscardClientId &discard) {
  ASSERT_EQ(held_.erase(discard.id), 1u);
  ++tally_.discarded;
}

void ClientModel::Take(const client_action::Opened &) {
  ASSERT_TRUE(opening_ && !opened_);
  opened_ = true;
  ++tally_.opened;
}

void ClientModel::Take(const client_action::FellBack &fell_back) {
  ++tally_.fell_back[fell_back.reason];
  if (fell_back.reason == Fallback::kNotEchoed) {
    ASSERT_TRUE(opening_ && plain_);
  }
}

void ClientModel::Take(const client_action::Failed &failed) {
  over_ = true;
  ++tally_.failed;
  tally_.retried += failed.retry;
  ASSERT_TRUE(held_.empty()) << "each is told what becomes of it";
  ASSERT_TRUE(!failed.retry || !opened_);
}

void ClientModel::Invariants() {
  ASSERT_EQ(tunnel_.open(), opened_ && !over_);
  if (over_) {
    ASSERT_TRUE(open_.empty());
    held_.clear();
  } else if (opened_) {
    for (const auto &id : held_) {
      ASSERT_TRUE(HasOpen(IdHeader::kClient, id)) << "held back for ever";
    }
  }
}

void ClientModel::Packets(const ConnectionId &id, const Bytes &rest) {
  const auto is_forwarded = begun_ && !over_ && !plain_ && HasAccepted(IdHeader::kClient, rest);
  ASSERT_EQ(ids_.FindForwarded(Short(rest)).tunnel == &tunnel_, is_forwarded);
  ASSERT_FALSE(ids_.FindForwarded(Long(id.bytes())).tunnel == &tunnel_);
  ASSERT_FALSE(
    is_forwarded &&
    std::ranges::any_of(outer_, [&](const ConnectionId &outer) { return Begins(outer, rest); }))
    << "it is the outer connection's";
  tally_.received += is_forwarded;

  const auto alive = started_ && !over_;
  ASSERT_EQ(tunnel_.FromInner(Long(id.bytes())), alive ? kTunnel : kDrop);
  ASSERT_EQ(tunnel_.FromInner({}), alive ? kTunnel : kDrop);
  const auto way = tunnel_.FromInner(Short(rest));
  const auto accepted = HasAccepted(IdHeader::kServer, rest);
  ASSERT_EQ(way, !alive ? kDrop : accepted ? kForward : kTunnel);
  ASSERT_FALSE(way == kForward && refused_.contains(id));
  begun_ = begun_ || way == kForward;
  tally_.forwarded += way == kForward;
  tally_.tunnelled += way == kTunnel;
}

} // namespace ngmasque
