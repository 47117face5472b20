#include "peer_tunnel.h"

#include "carrier.h"

#include <ngmasque/wire/quic_header.h>

#include <algorithm>
#include <chrono>
#include <format>
#include <utility>

namespace ngmasque::programs {

using namespace std::chrono_literals;

PeerTunnel::PeerTunnel(Carrier &carrier, Authority target, Owner &owner)
  : carrier_(carrier),
    target_(std::move(target)),
    owner_(owner),
    pauses_(1s, 30s),
    used_(carrier.Now()) {
  ev_timer_init(
    &hold_timer_,
    [](struct ev_loop *, ev_timer *timer, int) {
      static_cast<PeerTunnel *>(timer->data)->SendHeld();
    },
    kMaxHoldSeconds, 0.);
  hold_timer_.data = this;
  carrier_.Add(*this);
}

PeerTunnel::~PeerTunnel() {
  ev_timer_stop(carrier_.loop(), &hold_timer_);
  Drop();
  earlier_.not_sent += waiting_.Take().size();
  carrier_.Remove(*this);
}

// What needs no word of its own goes on together.
void PeerTunnel::Send(const Burst &packets) {
  const auto &[data, segment, ecn] = packets;
  std::size_t sent = 0, at = 0;
  do {
    const auto packet = data.subspan(at, std::min(segment, data.size() - at));
    const auto news = Learn(packet);
    if (packet.empty() || news != InnerIds::News{} || !tunnel_ || tunnel_->over() ||
        used_ < not_before_) {
      Submit({.data = data.subspan(sent, at - sent), .segment = segment, .ecn = ecn});
      SendOne(packet, ecn, news);
      sent = at + packet.size();
    }
    at += packet.size();
  } while (at < data.size());
  Submit({.data = data.subspan(sent), .segment = segment, .ecn = ecn});
}

InnerIds::News PeerTunnel::Learn(std::span<const std::uint8_t> packet) {
  used_ = carrier_.Now();
  if (mode_ == Mode::kUndecided) {
    Decide(packet);
  }
  return mode_ == Mode::kQuic ? ids_.FromClient(packet, used_) : InnerIds::News{};
}

void PeerTunnel::SendOne(std::span<const std::uint8_t> packet, unsigned ecn,
                         const InnerIds::News &news) {
  if (used_ < not_before_) {
    ++earlier_.not_sent;
    return;
  }
  if (tunnel_ && tunnel_->over()) {
    Drop(); // InnerIds has forgotten what it began with, before the proxy had answered.
  }
  if (!tunnel_) {
    if (!waiting_.PushLatest(packet, ecn)) {
      ++earlier_.not_sent; // An older one, or this one if it is too large to wait.
    }
    Open();
    return;
  }
  if (quic_) {
    Tell(news);
  }
  SubmitOne(packet, ecn);
}

// A peer that does not speak QUIC, or speaks it with connection IDs that no proxy takes,
// needs a tunnel without them.
void PeerTunnel::Decide(std::span<const std::uint8_t> packet) {
  mode_ = Mode::kQuic;
  begins_quic_ = InnerIds::BeginsConnection(packet);
  if (!carrier_.forward() || !begins_quic_ ||
      !InnerIds::MayAsk(ParseLongHeader(packet)->scid)) {
    BecomePlain();
  }
}

void PeerTunnel::BecomePlain() {
  mode_ = Mode::kPlain;
  ++earlier_.plain;
  quic_ = false;
}

void PeerTunnel::OnCarrierReady() {
  if (!tunnel_ && !waiting_.empty()) {
    Open();
  }
}

void PeerTunnel::Open() {
  auto *const client = carrier_.client();
  if (!client) {
    return; // OnCarrierReady.
  }
  const auto ids = ids_.client_ids();
  empty_id_ = !ids.empty() && ids.front().empty();
  if (mode_ == Mode::kQuic && empty_id_ && !carrier_.takes_empty_ids()) {
    BecomePlain();
  }
  quic_ = mode_ == Mode::kQuic && carrier_.MayShowIds() && !ids.empty();
  answered_ = false;
  too_long_ = 0;
  auto opened =
    client->Open(target_, quic_ ? ids.front() : ConnectionId(), *this, {.connection_ids = quic_});
  if (!opened && opened.error() == IoError::kIdConflict) {
    // Somebody else's here begins like that one; the peer cannot be made to choose another one.
    BecomePlain();
    opened = client->Open(target_, {}, *this, {.connection_ids = false});
  }
  if (!opened) {
    carrier_.OnNotOpened(*this, opened.error());
    return;
  }
  tunnel_ = *std::move(opened);
  ++earlier_.tunnels;
  ids_.OnNewTunnel();
  for (std::size_t i = 1; quic_ && i < ids.size(); ++i) {
    tunnel_->AddClientId(ids[i]);
  }
  SendWaiting();
}

void PeerTunnel::Tell(const InnerIds::News &news) {
  if (news.client_id) {
    //= draft-00, section 4.2
    //# Prior to informing the target of a new chosen client connection ID, the client MUST send a
    //# CONNECT-UDP request with the Client-Connection-Id header to the proxy, and only inform the
    //# target of the new client connection ID once a 2xx (Successful) response is received.
    //
    // The first one of the tunnel is not among them, as the proxy has it before any packet.  If
    // there is no answer in time, what it was about is tunnelled: the target's answers come to the
    // tunnel's own socket at the proxy, whatever their connection IDs are.
    held_ids_.push_back(*news.client_id);
    if (!ev_is_active(&hold_timer_)) {
      ev_now_update(carrier_.loop());
      ev_timer_set(&hold_timer_, kMaxHoldSeconds, 0.);
      ev_timer_start(carrier_.loop(), &hold_timer_);
    }
    tunnel_->AddClientId(*news.client_id);
  }
  if (news.old_client_id) {
    std::erase(held_ids_, *news.old_client_id);
    tunnel_->RemoveClientId(*news.old_client_id);
  }
  if (news.old_server_id) {
    tunnel_->RemoveServerId(*news.old_server_id);
  }
  if (news.server_id) {
    tunnel_->AddServerId(*news.server_id);
  }
}

void PeerTunnel::Submit(const Burst &packets) {
  auto rest = packets.data;
  if (!rest.empty() && held_ids_.empty() && waiting_.empty()) {
    rest = tunnel_->SendBurst(rest, packets.segment, packets.ecn);
    CheckLength(packets.segment);
  }
  while (!rest.empty()) {
    const auto packet = rest.first(std::min(packets.segment, rest.size()));
    SubmitOne(packet, packets.ecn);
    rest = rest.subspan(packet.size());
  }
}

void PeerTunnel::SubmitOne(std::span<const std::uint8_t> packet, unsigned ecn) {
  if (!held_ids_.empty()) {
    const auto header = ParseLongHeader(packet);
    if (header && std::ranges::any_of(held_ids_, [&](const ConnectionId &id) {
          return std::ranges::equal(id.bytes(), header->scid);
        })) {
      earlier_.not_sent += !held_.Push(packet, ecn);
      return;
    }
  }
  if (waiting_.empty()) {
    switch (tunnel_->Send(packet, ecn)) {
    case SendStatus::kSent: return;
    case SendStatus::kDropped: CheckLength(packet.size()); return; // It is in its statistics.
    case SendStatus::kBlocked: break;
    }
  }
  earlier_.not_sent += !waiting_.Push(packet, ecn);
}

void PeerTunnel::SendWaiting() {
  while (tunnel_ && !waiting_.empty()) {
    const auto &[packet, ecn] = waiting_.front();
    const auto sent = tunnel_->Send(packet, ecn);
    if (sent == SendStatus::kBlocked) {
      return;
    }
    if (sent == SendStatus::kDropped) {
      CheckLength(packet.size());
    }
    waiting_.Pop();
  }
}

void PeerTunnel::CheckLength(std::size_t size) {
  const auto dropped = tunnel_->statistics().of(DropReason::kTooLarge);
  if (std::exchange(too_long_, dropped) != dropped) {
    carrier_.OnTooLong(*this, size, tunnel_->max_payload(), begins_quic_);
  }
}

void PeerTunnel::Release(const ConnectionId &id) {
  if (std::erase(held_ids_, id) != 0 && held_ids_.empty()) {
    SendHeld();
  }
}

void PeerTunnel::SendHeld() {
  ev_timer_stop(carrier_.loop(), &hold_timer_);
  held_ids_.clear();
  for (const auto &[packet, ecn] : held_.Take()) {
    if (tunnel_) {
      SubmitOne(packet, ecn);
    } else {
      ++earlier_.not_sent;
    }
  }
}

void PeerTunnel::OnOpened() { carrier_.OnTunnelOpened(); }

void PeerTunnel::OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) {
  used_ = carrier_.Now();
  pauses_.Reset();
  answered_ = true;
  if (quic_) {
    ids_.FromTarget(packet);
  }
  owner_.OnTargetPacket(*this, packet, ecn);
}

void PeerTunnel::OnEnded(const TunnelEnd &end) {
  const bool was_quic = std::exchange(quic_, false);
  Drop();
  if (end.kind == TunnelEnd::Kind::kConnection) {
    return; // What the peer sends next opens another one, when there is a connection.
  }
  if (end.kind == TunnelEnd::Kind::kRejected) {
    OnCarrierReady(); // Or the carrier has another connection soon.
    return;
  }
  // Up to draft-ietf-masque-quic-proxy-06 a proxy does not say why it refuses a connection ID.
  const bool perhaps_empty_id = empty_id_ && !answered_ && end.status == 0;
  if (was_quic && (end.retry || perhaps_empty_id)) {
    // A QUIC client would have to begin anew with another connection ID.
    if (empty_id_ && end.retry) {
      carrier_.OnEmptyIdRefused();
    }
    BecomePlain();
    OnCarrierReady();
    return;
  }
  earlier_.not_sent += waiting_.Take().size();
  // A proxy that counts attempts counts those that come too early, too.
  const auto asked = std::min(std::chrono::seconds(end.retry_after.value_or(0)), kMaxRetryAfter);
  const auto pause = std::max<Backoff::Pause>(pauses_.Next(carrier_.Random()), asked);
  not_before_ = carrier_.Now() + static_cast<std::uint64_t>(pause.count());
  carrier_.OnTunnelEnded(*this, end);
}

void PeerTunnel::Drop() {
  if (tunnel_) {
    earlier_.traffic += tunnel_->statistics();
    tunnel_.reset();
  }
  held_ids_.clear();
  ev_timer_stop(carrier_.loop(), &hold_timer_);
  earlier_.not_sent += held_.Take().size();
}

TargetStatistics PeerTunnel::statistics() const {
  auto sum = earlier_;
  if (tunnel_) {
    sum.traffic += tunnel_->statistics();
    sum.open = 1;
  }
  sum.unseen_to_target = ids_.unseen_to_target();
  sum.unseen_to_client = ids_.unseen_to_client();
  return sum;
}

} // namespace ngmasque::programs
