#include "ngmasque/io/proxy_tunnel.h"

#include "proxy_client_impl.h"
#include "proxy_tunnel_impl.h"

#include <format>
#include <ranges>
#include <utility>

namespace ngmasque {

namespace {

// What whoever reads it can do.
std::string_view Advice(unsigned status) {
  switch (status) {
  case 401:
  case 407: return ": it wants credentials, or others than these";
  case 403: return ": its policy does not allow this target, or this client";
  case 404:
  case 405:
  case 501: return ": it is no proxy for UDP there, or speaks another dialect";
  case 429: return ": this client has as much as it may have at a time";
  case 502: return ": it finds no way to the target";
  case 503: return ": it is at one of its limits, or about to end; try again later";
  case 504: return ": it has no answer from name servers about the target";
  default: return "";
  }
}

std::string EndText(const client_action::Failed &failed) {
  const auto &[status, proxy_status, retry_after, code, conflict] = failed.refusal;
  if (status != 0) {
    const auto answer = proxy_status.empty()
                          ? std::format("the proxy has answered {}", status)
                          : std::format("the proxy has answered {} ({})", status, proxy_status);
    const auto wait = retry_after ? std::format("; it may work in {} s", *retry_after) : "";
    return std::format("{}{}{}", answer, Advice(status), wait);
  }
  // A proxy answers when it has a socket, and what the network says of the target comes later.  The
  // reset may overtake the answer, and then takes its place.
  if (code == kH3ConnectError) {
    return "the target refuses packets, or the proxy cannot reach it";
  }
  if (code == kH3RequestRejected && !failed.opened) {
    return "the proxy takes no more tunnels: it is going away";
  }
  const std::string_view what =
    failed.opened ? "the proxy has ended the tunnel" : "the proxy has not answered the request";
  if (conflict) {
    return std::format("{}: its last connection ID is in conflict", what);
  }
  // In order, or without a word.
  if (code == 0 || code == kH3NoError) {
    return std::string(what);
  }
  return std::format("{}: HTTP/3 error {:#x}", what, code);
}

template <typename Action>
concept ToProxy = requires(Action action) { action.request; };

TunnelEnd::Kind EndKind(const client_action::Failed &failed) {
  if (failed.refusal.status != 0) {
    return TunnelEnd::Kind::kRefused;
  }
  if (failed.opened) {
    return TunnelEnd::Kind::kEnded;
  }
  return failed.refusal.code == kH3RequestRejected ? TunnelEnd::Kind::kRejected
                                                   : TunnelEnd::Kind::kNoAnswer;
}

} // namespace

ProxyTunnelStatistics &ProxyTunnelStatistics::operator+=(const ProxyTunnelStatistics &other) {
  tunnelled_tx += other.tunnelled_tx;
  tunnelled_rx += other.tunnelled_rx;
  forwarded_tx += other.forwarded_tx;
  forwarded_rx += other.forwarded_rx;
  on_stream_tx += other.on_stream_tx;
  on_stream_rx += other.on_stream_rx;
  for (auto &&[sum, count] : std::views::zip(dropped, other.dropped)) {
    sum += count;
  }
  for (auto &&[sum, count] : std::views::zip(fallbacks, other.fallbacks)) {
    sum += count;
  }
  return *this;
}

ProxyTunnel::ProxyTunnel(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

ProxyTunnel::~ProxyTunnel() { impl_->Close(); }

void ProxyTunnel::AddClientId(const ConnectionId &id) {
  impl_->Tell([id](ClientTunnel &session) { return session.AddClientId(id); });
}

void ProxyTunnel::RemoveClientId(const ConnectionId &id) {
  impl_->Tell([id](ClientTunnel &session) { return session.RemoveClientId(id); });
}

void ProxyTunnel::AddServerId(const ConnectionId &id, const std::optional<ResetToken> &token) {
  impl_->Tell([id, token](ClientTunnel &session) { return session.AddServerId(id, token); });
}

void ProxyTunnel::RemoveServerId(const ConnectionId &id) {
  impl_->Tell([id](ClientTunnel &session) { return session.RemoveServerId(id); });
}

SendStatus ProxyTunnel::Send(std::span<const std::uint8_t> packet, unsigned ecn) {
  return impl_->Send(packet, ecn);
}

std::span<const std::uint8_t> ProxyTunnel::SendBurst(std::span<const std::uint8_t> packets,
                                                     std::size_t segment, unsigned ecn) {
  return impl_->SendBurst(packets, segment, ecn);
}

std::size_t ProxyTunnel::max_payload() const { return impl_->MaxPayload(); }

void ProxyTunnel::Close() { impl_->Close(); }

bool ProxyTunnel::over() const { return !impl_->client; }

const Authority &ProxyTunnel::target() const { return impl_->target; }

const ProxyTunnelStatistics &ProxyTunnel::statistics() const { return impl_->statistics; }

void ProxyTunnel::Impl::Tell(IdEvent event) {
  if (session) {
    Run(event(*session));
  } else if (client) {
    early.push_back(std::move(event));
  }
}

std::size_t ProxyTunnel::Impl::MaxPayload() const { return client ? client->MaxPayload(*this) : 0; }

void ProxyTunnel::Impl::Begin() {
  client->ids_.Release(first_id);
  session = std::make_shared<ClientTunnel>(
    client->ids_, *client->dialect_,
    ClientTunnel::Options{.authority = target,
                          .forward = options.forward && !client->behind_.full,
                          .connection_ids = options.connection_ids,
                          .chained = client->chained_,
                          .number = number,
                          .sibling = sibling.lock().get()},
    options.limits);
  Run(session->Start(first_id));
  for (auto &event : std::exchange(early, {})) {
    Tell(std::move(event));
  }
}

void ProxyTunnel::Impl::Run(std::vector<ClientAction> actions) {
  auto &owner = *client;
  bool falls_back = false;
  for (auto &any : actions) {
    std::visit(
      Overloaded{
        [&](ToProxy auto &action) {
          owner.requests_.push_back({.key = {number, action.request}, .what = std::move(action)});
        },
        [&](client_action::FellBack &action) {
          const auto reason = static_cast<std::size_t>(action.reason);
          ++statistics.fallbacks[reason];
          owner.Log(owner.fallback_lines_[reason], LogLevel::kWarning,
                    std::format("{}: {}", AuthorityText(target), ReasonName(action.reason)));
        },
        [&](client_action::Failed &action) {
          falls_back = !action.opened && owner.MayFallBack(action.refusal.status);
          if (falls_back) {
            return;
          }
          owner.Tell({.tunnel = shared_from_this(),
                      .what = TunnelEnd{.kind = EndKind(action),
                                        .status = action.refusal.status,
                                        .retry = action.retry,
                                        .retry_after = action.refusal.retry_after,
                                        .text = EndText(action)}});
        },
        [&](client_action::Opened &action) {
          owner.accepted_ = true;
          owner.Tell({.tunnel = shared_from_this(), .what = action});
        },
        [&](auto &action) {
          owner.Tell({.tunnel = shared_from_this(), .what = std::move(action)});
        },
      },
      any);
  }
  if (falls_back) {
    owner.FallBack();
  } else if (session->over()) {
    owner.Forget(*this);
  }
  if (client) {
    client->TellLinkIds(*this);
  }
  owner.RunRequests();
  owner.Wake();
}

void ProxyTunnel::Impl::Close() {
  handler = nullptr;
  if (session) {
    Run(session->Close());
  } else if (client) {
    client->Forget(*this);
  }
}

void ProxyTunnel::Impl::End() {
  if (!session) {
    client->ids_.Release(first_id);
  }
  session.reset();
  early.clear();
  client->TellLinkIds(*this);
  client = nullptr;
}

} // namespace ngmasque
