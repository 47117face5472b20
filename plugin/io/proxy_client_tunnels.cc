// ProxyClient: its tunnels and their requests.

#include "proxy_client_impl.h"

#include "ngmasque/session/draft00.h"

#include <algorithm>
#include <format>
#include <ranges>

namespace ngmasque {

std::expected<std::shared_ptr<ProxyTunnel::Impl>, IoError>
ProxyClient::Impl::Open(const Authority &target, const ConnectionId &inner_scid,
                        ProxyTunnel::Handler &handler, const ProxyTunnel::Options &options,
                        const std::shared_ptr<ClientTunnel> &sibling) {
  if (!key_) {
    return std::unexpected(IoError::kInternal);
  }
  if (over_ || closed_) {
    return std::unexpected(IoError::kClosed);
  }
  if (draining_) {
    return std::unexpected(IoError::kGoingAway);
  }
  if (tunnels_.size() >= options_.max_tunnels) {
    return std::unexpected(IoError::kTooManyTunnels);
  }
  if (const auto possible = ids_.Check(inner_scid);
      !possible && !(sibling && sibling->HasClientId(inner_scid))) {
    return std::unexpected(IsConflict(possible.error()) ? IoError::kIdConflict
                                                        : IoError::kTooManyTunnels);
  }
  const auto number = next_tunnel_++;
  auto tunnel =
    std::make_shared<ProxyTunnel::Impl>(*this, handler, target, inner_scid, number, options);
  tunnel->sibling = sibling;
  tunnels_.emplace(number, tunnel);
  if (dialect_) {
    tunnel->Begin();
  } else if (!inner_scid.empty()) {
    // Nobody else may take it; there was no conflict a moment ago.
    (void)ids_.Reserve(inner_scid);
  }
  return tunnel;
}

void ProxyClient::Impl::BeginTunnels() {
  // One may be over at once.
  for (const auto &tunnel : Tunnels()) {
    tunnel->Begin();
  }
}

// 404: no such path; 405 and 501: no such method.
bool ProxyClient::Impl::MayFallBack(unsigned status) const {
  return (status == 404 || status == 405 || status == 501) && !accepted_ &&
         options_.dialects.dialect == ProxyDialect::kAuto && !options_.own_dialect &&
         dialect_->name() != kDraft00Name;
}

void ProxyClient::Impl::FallBack() {
  for (const auto &[number, tunnel] : tunnels_) {
    tunnel->session.reset();
  }
  // Their requests have the numbers that those of now will have.
  requests_.clear();
  streams_.clear();
  for (const auto &[stream, key] : std::exchange(by_stream_, {})) {
    abandoned_.push_back(stream);
  }
  dialect_ = MakeDraft00Client(
    {.datagrams = http3_->datagrams(), .settings = http3_->peer_settings()});
  Log(LogLevel::kInfo, std::format("dialect {}, as the proxy does not know the other one",
                                   dialect_->name()));
  room_ = true; // For payloads: those that were sent are lost.
  BeginTunnels();
}

void ProxyClient::Impl::EndTunnels() {
  for (const auto &[number, tunnel] : std::exchange(tunnels_, {})) {
    tunnel->End();
  }
}

void ProxyClient::Impl::Forget(ProxyTunnel::Impl &tunnel) {
  const auto keep = tunnel.shared_from_this();
  tunnels_.erase(tunnel.number);
  tunnel.End();
}

std::vector<std::shared_ptr<ProxyTunnel::Impl>> ProxyClient::Impl::Tunnels() const {
  return std::ranges::to<std::vector>(std::views::values(tunnels_));
}

std::shared_ptr<ProxyTunnel::Impl> ProxyClient::Impl::FindTunnel(TunnelNumber number) const {
  const auto found = tunnels_.find(number);
  return found == tunnels_.end() ? nullptr : found->second;
}

std::uint64_t ProxyClient::Impl::OnDatagram(std::span<const std::uint8_t> datagram) {
  if (!dialect_) {
    Drop(DropReason::kUnknownFlow); // It is of no tunnel yet.
    return 0;
  }
  const auto read = dialect_->OnDatagram(datagram);
  if (read) {
    FindTunnel(read->tunnel->number())->TakePayload(read->payload);
    return 0;
  }
  const auto &[reason, close, text, broken] = read.error();
  Drop(reason);
  if (broken) {
    FindTunnel(broken->number())->Run(broken->OnBadDatagram());
  }
  if (close != 0 && failure_.empty()) {
    failure_ = text;
    failure_code_ = close;
    final_ = true;
  }
  return 0; // The end is ours, for it says more.
}

void ProxyClient::Impl::OnDatagramDropped(DatagramQueue::Key number,
                                          std::span<const std::uint8_t> datagram,
                                          QuicError::Code reason) {
  if (const auto tunnel = FindTunnel(number)) {
    tunnel->QueueDropped(datagram, reason == QuicError::kTooLarge ? DropReason::kTooLarge
                                                                  : DropReason::kQueueFull);
  }
}

void ProxyClient::Impl::OnData(StreamId stream, std::span<const std::uint8_t> data) {
  const auto found = by_stream_.find(stream);
  const auto tunnel = found == by_stream_.end() ? nullptr : FindTunnel(found->second.first);
  if (!tunnel) {
    Drop(DropReason::kUnknownFlow);
    return;
  }
  const auto request = found->second.second;
  // The program may close the tunnel while it has the payload.
  const auto session = tunnel->session;
  room_ = room_ || tunnel->waits_since; // What waits may be forwarded now.
  while (!data.empty() && !session->over()) {
    std::vector<ClientAction> actions;
    const auto payload = session->OnStreamData(request, data, actions);
    if (!actions.empty() || chained_) { // An acknowledgement makes no action, but a LinkId.
      tunnel->Run(std::move(actions));
    }
    if (!payload) {
      Drop(payload.error());
    } else if (*payload && tunnel->client) {
      ++tunnel->statistics.on_stream_rx;
      tunnel->TakePayload(**payload);
    }
  }
}

// What the peer's limit of streams holds back stays in the queue, all tunnels' in the order in which
// it came; to close others is what makes room.
void ProxyClient::Impl::RunRequests() {
  if (in_http3_ || !ready_ || closed_) {
    return;
  }
  for (const auto stream : std::exchange(abandoned_, {})) {
    http3_->CloseStream(stream);
  }
  std::deque<RequestAction> held;
  while (!requests_.empty()) {
    auto action = std::move(requests_.front());
    requests_.pop_front();
    const bool done = std::visit(
      Overloaded{
        [&](const client_action::SendRequest &what) {
          return draining_ ? RejectRequest(action.key)
                           : held.empty() && SubmitRequest(action.key, what.fields);
        },
        [&](const client_action::SendOnStream &what) {
          if (std::ranges::contains(held, action.key, &RequestAction::key)) {
            return false;
          }
          SendMessage(action.key, what.message);
          return true;
        },
        [&](const client_action::CloseRequest &what) {
          CloseRequest(action.key, what.code, held);
          return true;
        },
      },
      action.what);
    if (!done) {
      held.push_back(std::move(action));
    }
  }
  requests_ = std::move(held);
}

bool ProxyClient::Impl::SubmitRequest(RequestKey key, std::vector<HeaderField> fields) {
  if (!options_.authorization.empty()) {
    fields.push_back({.name = "proxy-authorization", .value = options_.authorization});
  }
  const auto stream = http3_->SubmitRequest(fields);
  if (stream) {
    streams_.emplace(key, *stream);
    by_stream_.emplace(*stream, key);
    if (const auto tunnel = FindTunnel(key.first)) {
      tunnel->session->OnSent(key.second, *stream);
      room_ = true; // For payloads that could not be marked, or had no stream.
    }
    return true;
  }
  if (stream.error() == QuicError::kStreamsBlocked) {
    return false;
  }
  if (stream.error() == QuicError::kGoingAway) {
    return RejectRequest(key); // OnGoAway is about to come.
  }
  Log(LogLevel::kWarning, std::format("request cannot be sent: {}", ErrorText(stream.error())));
  RequestFailed(key);
  return true;
}

void ProxyClient::Impl::SendMessage(RequestKey key, std::span<const std::uint8_t> message) {
  const auto stream = streams_.find(key);
  if (stream == streams_.end()) {
    return; // It has ended.
  }
  if (const auto sent = http3_->SendMessage(stream->second, message); !sent) {
    Log(LogLevel::kWarning, std::format("message cannot be sent: {}", ErrorText(sent.error())));
    http3_->CloseStream(stream->second);
    by_stream_.erase(stream->second);
    streams_.erase(stream);
    RequestFailed(key);
  }
}

void ProxyClient::Impl::RequestFailed(RequestKey key, std::uint64_t code) {
  if (const auto tunnel = FindTunnel(key.first)) {
    in_http3_ = true;
    tunnel->Run(tunnel->session->OnRequestClosed(key.second, code));
    in_http3_ = false;
  }
}

// With draft-00 a tunnel asks for each of its connection IDs, and must not any more.  To have it refused
// would not do: a client connection ID that is refused is replaced at once, by one that is refused as
// well, and so forth.
bool ProxyClient::Impl::RejectRequest(RequestKey key) {
  const auto taken = streams_.lower_bound({key.first, 0});
  if (taken != streams_.end() && taken->first.first == key.first) {
    return false;
  }
  RequestFailed(key, kH3RequestRejected);
  return true;
}

void ProxyClient::Impl::CloseRequest(RequestKey key, std::uint64_t code,
                                     std::deque<RequestAction> &held) {
  if (std::erase_if(held, [&key](const RequestAction &action) { return action.key == key; }) != 0) {
    return; // It was never sent.
  }
  if (const auto found = streams_.find(key); found != streams_.end()) {
    if (code != kH3RequestCancelled) {
      Log(LogLevel::kWarning,
          std::format("the proxy has sent what is not valid on stream {}: HTTP/3 error {:#x}",
                      found->second, code));
    }
    http3_->CloseStream(found->second, code);
    by_stream_.erase(found->second);
    streams_.erase(found);
  }
}

void ProxyClient::Impl::OnHeaders(StreamId stream, std::span<const HeaderField> fields) {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end()) {
    return;
  }
  const auto [number, request] = found->second;
  for (const auto &[name, value] : fields) {
    if (name == ":status" || name == "proxy-status") {
      Log(LogLevel::kDebug, std::format("response on stream {}: {}", stream, value));
    }
  }
  if (const auto tunnel = FindTunnel(number)) {
    tunnel->Run(tunnel->session->OnResponse(request, fields));
  }
}

void ProxyClient::Impl::OnStreamClosed(StreamId stream, StreamEnd end, std::uint64_t code) {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end()) {
    return;
  }
  const auto key = found->second;
  Log(LogLevel::kDebug, std::format("request stream {} has ended, code {:#x}", stream, code));
  by_stream_.erase(found);
  streams_.erase(key);
  if (const auto tunnel = FindTunnel(key.first)) {
    //= RFC 9297, section 3.3
    //# If the receive side of a stream carrying capsules is terminated cleanly (for example, in HTTP/3
    //# this is defined as receiving a QUIC STREAM frame with the FIN bit set) and the last capsule on
    //# the stream was truncated, this MUST be treated as if it were a malformed or incomplete message.
    if (end == StreamEnd::kFinished && tunnel->session->dialect().cut_off()) {
      http3_->CloseStream(stream, kH3MessageError);
    }
    tunnel->Run(tunnel->session->OnRequestClosed(key.second, code));
  }
}

void ProxyClient::Impl::Drop(DropReason reason) {
  ++statistics_.dropped[static_cast<std::size_t>(reason)];
}

} // namespace ngmasque
