// ProxyClient: its tunnels and their requests.

#include "proxy_client_impl.h"

#include "ngmasque/wire/datagram.h"
#include "ngmasque/wire/structured_field.h"

#include <algorithm>
#include <format>
#include <ranges>

namespace ngmasque {

std::expected<std::shared_ptr<ProxyTunnel::Impl>, ProxyClientError>
ProxyClient::Impl::Open(const Authority &target, const ConnectionId &inner_scid,
                        ProxyTunnel::Handler &handler, const ProxyTunnel::Options &options) {
  if (!key_) {
    return std::unexpected(ProxyClientError::kInternal);
  }
  if (over_ || closed_) {
    return std::unexpected(ProxyClientError::kClosed);
  }
  if (tunnels_.size() >= options_.max_tunnels) {
    return std::unexpected(ProxyClientError::kTooManyTunnels);
  }
  if (next_flow_ > static_cast<FlowId>(sf::kMaxInteger)) {
    return std::unexpected(ProxyClientError::kFlowIds);
  }
  if (const auto possible = ids_.Check(inner_scid); !possible) {
    return std::unexpected(IsConflict(possible.error()) ? ProxyClientError::kIdConflict
                                                        : ProxyClientError::kTooManyTunnels);
  }
  //= draft-00, section 4.1
  //# The first time that a client uses a proxy for a given QUIC connection, it selects a new
  //# datagram flow ID with an even-numbered value [H3DGRAM].
  const auto flow = std::exchange(next_flow_, next_flow_ + 2);
  auto tunnel =
    std::make_shared<ProxyTunnel::Impl>(*this, handler, target, inner_scid, flow, options);
  tunnels_.emplace(flow, tunnel);
  if (ready_) {
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

void ProxyClient::Impl::EndTunnels() {
  for (const auto &[flow, tunnel] : std::exchange(tunnels_, {})) {
    tunnel->End();
  }
}

void ProxyClient::Impl::Forget(ProxyTunnel::Impl &tunnel) {
  const auto keep = tunnel.shared_from_this();
  tunnels_.erase(tunnel.flow);
  tunnel.End();
}

std::vector<std::shared_ptr<ProxyTunnel::Impl>> ProxyClient::Impl::Tunnels() const {
  return std::ranges::to<std::vector>(std::views::values(tunnels_));
}

std::shared_ptr<ProxyTunnel::Impl> ProxyClient::Impl::FindTunnel(FlowId flow) const {
  const auto found = tunnels_.find(flow);
  return found == tunnels_.end() ? nullptr : found->second;
}

void ProxyClient::Impl::OnDatagram(std::span<const std::uint8_t> datagram) {
  const auto parsed = ParseFlowDatagram(datagram);
  if (!parsed) {
    Drop(DropReason::kMalformed);
    if (parsed.error() == WireError::kTruncated && failure_.empty()) {
      // draft-schinazi-quic-h3-datagram-05: too short for its flow id is a connection error.
      failure_ = "the proxy has sent a datagram without flow id";
      failure_code_ = kH3GeneralProtocolError;
      final_ = true;
    }
    return;
  }
  if (const auto tunnel = FindTunnel(parsed->flow_id)) {
    tunnel->TakePayload(parsed->payload);
  } else {
    Drop(DropReason::kUnknownFlow);
  }
}

void ProxyClient::Impl::OnPayload(StreamId stream, std::span<const std::uint8_t> payload) {
  const auto found = by_stream_.find(stream);
  const auto tunnel = found == by_stream_.end() ? nullptr : FindTunnel(found->second.first);
  if (tunnel) {
    ++tunnel->statistics.on_stream_rx;
    tunnel->TakePayload(payload);
  } else {
    Drop(DropReason::kUnknownFlow);
  }
}

// What the peer's limit of streams holds back stays in the queue, all tunnels' in the order in which
// it came; to close others is what makes room.
void ProxyClient::Impl::RunRequests() {
  if (in_http3_ || !ready_ || closed_) {
    return;
  }
  std::deque<RequestAction> held;
  while (!requests_.empty()) {
    auto action = std::move(requests_.front());
    requests_.pop_front();
    if (action.fields.empty()) {
      CloseRequest(action.key, held);
    } else if (!held.empty() || !SubmitRequest(action.key, action.fields)) {
      held.push_back(std::move(action));
    }
  }
  requests_ = std::move(held);
}

bool ProxyClient::Impl::SubmitRequest(RequestKey key, const std::vector<HeaderField> &fields) {
  const auto stream = http3_->SubmitRequest(fields);
  if (stream) {
    streams_.emplace(key, *stream);
    by_stream_.emplace(*stream, key);
    return true;
  }
  if (stream.error() == Http3Error::kStreamsBlocked) {
    return false;
  }
  Log(LogLevel::kWarning, std::format("request cannot be sent: {}", ErrorName(stream.error())));
  if (const auto tunnel = FindTunnel(key.first)) {
    // What comes of it is put at the end of the queue that is being done.
    in_http3_ = true;
    tunnel->Run(tunnel->session->OnRequestClosed(key.second));
    in_http3_ = false;
  }
  return true;
}

//= draft-00, section 5.1
//# A client that no longer wants a given Connection ID to be forwarded by the proxy, for either
//# direction, MUST cancel its CONNECT-UDP HTTP/3 request by closing the corresponding stream.
void ProxyClient::Impl::CloseRequest(RequestKey key, std::deque<RequestAction> &held) {
  if (const auto unsent = std::ranges::find(held, key, &RequestAction::key);
      unsent != held.end()) {
    held.erase(unsent);
    return;
  }
  const bool malformed = malformed_.erase(key) != 0;
  if (const auto found = streams_.find(key); found != streams_.end()) {
    http3_->CloseStream(found->second, malformed ? kH3MessageError : kH3RequestCancelled);
    by_stream_.erase(found->second);
    streams_.erase(found);
  }
}

void ProxyClient::Impl::OnResponse(StreamId stream, std::span<const HeaderField> fields) {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end()) {
    return;
  }
  const auto key = found->second;
  const auto response = ParseResponse(fields);
  if (!response) {
    Log(response_lines_, LogLevel::kWarning,
        std::format("malformed response: {}", ErrorName(response.error())));
    malformed_.insert(key);
  } else {
    Log(LogLevel::kDebug, std::format("response {} {}", response->status, response->proxy_status));
  }
  if (const auto tunnel = FindTunnel(key.first)) {
    tunnel->Run(tunnel->session->OnResponse(key.second, fields));
  }
}

void ProxyClient::Impl::OnStreamClosed(StreamId stream, StreamEnd, std::uint64_t code) {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end()) {
    return;
  }
  const auto key = found->second;
  Log(LogLevel::kDebug, std::format("request stream {} has ended, code {:#x}", stream, code));
  by_stream_.erase(found);
  streams_.erase(key);
  malformed_.erase(key);
  if (const auto tunnel = FindTunnel(key.first)) {
    tunnel->Run(tunnel->session->OnRequestClosed(key.second, code));
  }
}

void ProxyClient::Impl::Drop(DropReason reason) {
  ++statistics_.dropped[static_cast<std::size_t>(reason)];
}

} // namespace ngmasque
