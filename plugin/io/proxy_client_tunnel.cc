// ProxyClient: the tunnel and its requests.

#include "proxy_client_impl.h"

#include "ngmasque/wire/structured_field.h"

#include <algorithm>
#include <format>

namespace ngmasque {

std::expected<void, ProxyClientError>
ProxyClient::Impl::OpenTunnel(const Authority &target, const ConnectionId &inner_scid) {
  if (!ready_ || closed_) {
    return std::unexpected(ProxyClientError::kNotReady);
  }
  if (next_flow_ > static_cast<FlowId>(sf::kMaxInteger)) {
    return std::unexpected(ProxyClientError::kFlowIds);
  }
  CloseTunnel();

  auto tunnel =
    std::make_unique<ClientTunnel>(*key_,
                                   ClientTunnel::Options{.authority = target,
                                                         .flow = next_flow_,
                                                         .forward = options_.forward,
                                                         .datagrams = http3_->datagrams()},
                                   options_.limits);
  for (const auto &id : local_ids_) {
    // None of them is in the way of another, and no client connection ID is there yet.
    (void)tunnel->AddOuterId(id);
    if (!inner_scid.empty() && Compare(id.bytes(), inner_scid.bytes()) != Relation::kUnrelated) {
      return std::unexpected(ProxyClientError::kIdConflict);
    }
  }
  tunnel_ = std::move(tunnel);
  //= draft-00, section 4.1
  //# The first time that a client uses a proxy for a given QUIC connection, it selects a new
  //# datagram flow ID with an even-numbered value [H3DGRAM].
  next_flow_ += 2;
  Run(tunnel_->Start(inner_scid));
  return {};
}

void ProxyClient::Impl::CloseTunnel() {
  if (!tunnel_) {
    return;
  }
  Run(tunnel_->Close());
  tunnel_.reset();
  std::erase_if(events_, [](const Event &event) {
    return !std::holds_alternative<Ready>(event) && !std::holds_alternative<Writable>(event) &&
           !std::holds_alternative<Closed>(event);
  });
}

void ProxyClient::Impl::Run(std::vector<ClientAction> actions) {
  for (auto &any : actions) {
    std::visit(Overloaded{
                 [&](client_action::SendRequest &action) {
                   requests_.push_back({.key = {tunnel_->flow(), action.request},
                                        .fields = std::move(action.fields)});
                 },
                 [&](client_action::CloseRequest &action) {
                   requests_.push_back({.key = {tunnel_->flow(), action.request}, .fields = {}});
                 },
                 [&](client_action::FellBack &action) {
                   ++statistics_.fallbacks[static_cast<std::size_t>(action.reason)];
                   Log(fallback_lines_[static_cast<std::size_t>(action.reason)], LogLevel::kWarning,
                       ReasonName(action.reason));
                 },
                 [&](auto &action) { Tell(std::move(action)); },
               },
               any);
  }
  RunRequests();
  Wake();
}

// What the peer's limit of streams holds back stays in the queue; to close others is what makes
// room.
void ProxyClient::Impl::RunRequests() {
  if (in_http3_ || !ready_ || closed_) {
    return;
  }
  bool blocked = false;
  for (auto &action : std::exchange(requests_, {})) {
    if (action.fields.empty()) {
      CloseRequest(action.key);
    } else if (blocked || !SubmitRequest(action.key, action.fields)) {
      blocked = true;
      requests_.push_back(std::move(action));
    }
  }
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
  if (tunnel_ && tunnel_->flow() == key.first) {
    // What comes of it is put at the end of the queue, and done with the next Flush.
    in_http3_ = true;
    Run(tunnel_->OnRequestClosed(key.second));
    in_http3_ = false;
  }
  return true;
}

//= draft-00, section 5.1
//# A client that no longer wants a given Connection ID to be forwarded by the proxy, for either
//# direction, MUST cancel its CONNECT-UDP HTTP/3 request by closing the corresponding stream.
void ProxyClient::Impl::CloseRequest(RequestKey key) {
  if (const auto unsent = std::ranges::find(requests_, key, &RequestAction::key);
      unsent != requests_.end()) {
    requests_.erase(unsent);
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
  if (tunnel_ && tunnel_->flow() == key.first) {
    Run(tunnel_->OnResponse(key.second, fields));
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
  if (tunnel_ && tunnel_->flow() == key.first) {
    Run(tunnel_->OnRequestClosed(key.second, code));
  }
}

} // namespace ngmasque
