// Proxy: who may use it, and what is written down of those who may not.

#include "proxy_model.h"

#include "ngmasque/session/draft00.h"
#include "ngmasque/session/rfc9298.h"
#include "ngmasque/session/udp_request.h"

#include "fields.h"

#include <utility>

namespace ngmasque {

namespace {

constexpr std::string_view kProxyAuthorization = "proxy-authorization";
constexpr std::string_view kAuthorization = "authorization";
constexpr unsigned kUnauthorized = 401;

// What is said of who asks: the first line of a field.
std::optional<std::string_view> ValueOf(const FieldLines &lines) {
  return lines.first ? std::optional<std::string_view>(*lines.first) : std::nullopt;
}

// What was asked for, as far as it can be read.
std::optional<Authority> ReadAuthority(std::span<const HeaderField> fields,
                                       const UriTemplate &path_template) {
  if (IsUdpRequest(fields)) {
    auto request = ParseUdpRequest(fields, path_template);
    return request ? std::optional(std::move(request->target)) : std::nullopt;
  }
  const auto authority = FindField(fields, ":authority");
  auto read = authority.first && IsConnectUdp(fields) ? ParseAuthority(*authority.first)
                                                      : std::unexpected(SessionError::kAuthority);
  return read ? std::optional(*std::move(read)) : std::nullopt;
}

} // namespace

std::string_view Proxy::State::ProtocolOf(std::span<const HeaderField> fields) {
  return IsUdpRequest(fields) ? kRfc9298Name : IsConnectUdp(fields) ? kDraft00Name : "";
}

std::expected<Admission, AccessRefusal>
Proxy::State::Decide(const ClientConnection &connection,
                     std::span<const HeaderField> fields) const {
  const auto refuse = [](SessionError error) {
    return std::unexpected(AccessRefusal{.error = error});
  };
  const auto for_proxy = FindField(fields, kProxyAuthorization);
  const auto for_origin = FindField(fields, kAuthorization);
  // They may be of different people, and who has put them together cannot be told.
  if (for_proxy.several || for_origin.several) {
    return refuse(SessionError::kCredentialFields);
  }
  auto decision = options.access({.client = connection.path->tuple.remote,
                                  .certificate = connection.certificate,
                                  .proxy_authorization = ValueOf(for_proxy),
                                  .authorization = ValueOf(for_origin)});
  if (!decision) {
    return decision;
  }
  if (decision->user.size() > ClientKey::kMaxCredentials) {
    return refuse(SessionError::kUserName);
  }
  if (connection.user && *connection.user != decision->user) {
    return refuse(SessionError::kOtherUser);
  }
  return decision;
}

bool Proxy::State::Admit(ClientConnection &connection, Model &model, StreamId stream) {
  if (!options.access) {
    return true;
  }
  auto decision = Decide(connection, request.fields);
  if (!decision) {
    RefuseAccess(decision.error(), model, stream);
    return false;
  }
  if (const auto assigned = Assign(connection, *decision); !assigned) {
    RefuseAccess({.error = assigned.error()}, model, stream);
    return false;
  }
  request.policy = std::move(decision->policy);
  return true;
}

void Proxy::State::Begin(Client &client,
                         std::optional<std::uint64_t> max_bytes_per_second) const {
  // A look-up that still runs keeps it, and what it has used up.
  if (client.connections == 1 && client.lookups == 0) {
    client.bucket = TokenBucket(0, 0);
    SetRate(client, max_bytes_per_second);
  }
}

void Proxy::State::SetRate(Client &client, std::optional<std::uint64_t> own) const {
  client.own_rate = own;
  if (const auto rate = own.value_or(options.max_bytes_per_second_per_client);
      rate != client.bucket.rate()) {
    client.bucket = TokenBucket(rate, options.burst_bytes_per_client);
  }
}

std::expected<void, SessionError> Proxy::State::Assign(ClientConnection &connection,
                                                       const Admission &admission) {
  if (connection.user) {
    return {}; // The same.
  }
  const std::vector<std::uint8_t> bytes(admission.user.begin(), admission.user.end());
  if (const auto key = ClientKey::FromCredentials(bytes)) {
    const auto *before = connection.client;
    if (auto assigned = tunnels.Assign(connection, *key); !assigned) {
      return assigned;
    }
    if (connection.client != before) {
      Begin(*connection.client, admission.max_bytes_per_second);
      StateOf(connection).early.ShareWith(connection.client->waiting);
    }
  }
  connection.user = admission.user;
  connection.grant = admission.grant;
  return {};
}

void Proxy::SetRate(std::uint64_t max_bytes_per_second_per_client) {
  state_->options.max_bytes_per_second_per_client = max_bytes_per_second_per_client;
  state_->tunnels.ForEachClient([&](Client &client) { state_->SetRate(client, client.own_rate); });
}

Proxy::Reviewed Proxy::Review(const ReviewFunction &review, Timestamp now) {
  Reviewed result;
  state_->now = now;
  state_->tunnels.ForEachConnection([&](ClientConnection &connection) {
    if (!connection.user) {
      return; // It has had nothing yet.
    }
    if (const auto admission = review({.user = *connection.user, .grant = connection.grant})) {
      if (!connection.user->empty()) {
        state_->SetRate(*connection.client, admission->max_bytes_per_second);
      }
      return;
    }
    result.revoked.push_back(connection.id);
    while (!connection.tunnels.empty()) {
      state_->Remove(connection.tunnels.begin()->second, EndReason::kRevoked, result.actions);
    }
  });
  return result;
}

void Proxy::State::RefuseAccess(const AccessRefusal &refusal, Model &model,
                                StreamId stream) const {
  auto [error, challenges, retry_after] = refusal;
  auto status = HttpStatus(error);
  std::string_view name;
  if (error == SessionError::kUnauthenticated && challenges.empty()) {
    // An answer that asks for credentials says which (RFC 9110, section 15.5.8).
    status = HttpStatus(SessionError::kNotAllowed);
  } else if (error == SessionError::kUnauthenticated) {
    // Whoever takes the proxy for an origin is answered by one.
    const bool origin = FindField(request.fields, kAuthorization).first &&
                        !FindField(request.fields, kProxyAuthorization).first;
    status = origin ? kUnauthorized : status;
    name = origin ? "www-authenticate" : "proxy-authenticate";
  }
  std::vector<HeaderField> fields{{.name = ":status", .value = std::to_string(status)},
                                  {.name = std::string(kProxyStatusField),
                                   .value = ProxyStatus(error)}};
  if (retry_after) {
    fields.push_back(
      {.name = std::string(kRetryAfterField), .value = std::to_string(*retry_after)});
  }
  if (!name.empty()) {
    for (auto &challenge : challenges) {
      fields.push_back({.name = std::string(name), .value = std::move(challenge)});
    }
  }
  model.Refuse(stream, status, error, std::move(fields), nullptr);
}

TunnelRecord Proxy::State::RecordOf(const ClientConnection &connection) const {
  return {.connection = connection.id,
          .client = connection.path->tuple.remote,
          .user = connection.user.value_or(""),
          .dialect = {},
          .authority = {},
          .target = {},
          .error = {}};
}

TunnelRecord Proxy::State::RecordOf(const Tunnel &tunnel) const {
  auto record = RecordOf(*tunnel.connection);
  record.dialect = tunnel.protocol;
  record.authority = tunnel.authority;
  if (tunnel.socket) {
    record.target = tunnel.socket->target;
  }
  record.number = tunnel.number;
  return record;
}

TunnelRecord Proxy::State::RecordOfRequest(const ClientConnection &connection) const {
  auto record = RecordOf(connection);
  record.dialect = ProtocolOf(request.fields);
  record.authority = ReadAuthority(request.fields, options.path_template);
  return record;
}

} // namespace ngmasque
