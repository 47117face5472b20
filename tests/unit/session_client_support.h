// What the tests of ClientTunnel have in common.
#pragma once

#include "ngmasque/session/client_ids.h"
#include "ngmasque/session/client_tunnel.h"
#include "ngmasque/session/draft00.h"

#include "routing_support.h"

#include <map>
#include <memory>
#include <string>
#include <utility>

namespace ngmasque {

using Texts = std::vector<std::string>;

inline std::string Text(const ConnectionId &id) {
  return {reinterpret_cast<const char *>(id.bytes().data()), id.size()};
}

inline constexpr ClientWay kTunnel = ClientWay::kTunnel;
inline constexpr ClientWay kForward = ClientWay::kForward;
inline constexpr ClientWay kDrop = ClientWay::kDrop;

// A tunnel of dialect draft-00.
struct Draft00Options {
  Authority authority;
  FlowId flow = 0;
  bool forward = true;
  bool datagrams = true;
  bool connection_ids = true;
  bool chained = false;

  std::unique_ptr<ClientDialect> Dialect() const {
    return draft00::MakeClient({.datagrams = datagrams}, flow);
  }
  ClientTunnel::Options Tunnel() const {
    return {.authority = authority,
            .forward = forward,
            .connection_ids = connection_ids,
            .chained = chained};
  }
};

inline Draft00Options TestOptions() { return {.authority = {"target.example", 443}, .flow = 2}; }

// A tunnel whose actions become texts, one each, and a proxy that has read its requests.
class TestClient {
public:
  explicit TestClient(const Draft00Options &options = TestOptions(),
                  const ClientTunnelLimits &limits = {})
    : dialect(options.Dialect()), tunnel(ids, *dialect, options.Tunnel(), limits) {}

  // "send 0 client-connection-id 1234" or "send 0 plain" or "send 0 kPseudoHeader...",
  // "close 0", "release 1234", "discard 1234", "opened", "fell back: REASON", "failed 409",
  // "failed 409 retry".
  Texts Do(const std::vector<ClientAction> &actions) {
    Texts texts;
    for (const auto &action : actions) {
      texts.push_back(std::visit([this](const auto &what) { return Describe(what); }, action));
    }
    return texts;
  }

  Texts Start(std::string_view id) { return Do(tunnel.Start(Id(id))); }
  Texts AddClientId(std::string_view id) { return Do(tunnel.AddClientId(Id(id))); }
  Texts RemoveClientId(std::string_view id) { return Do(tunnel.RemoveClientId(Id(id))); }
  Texts AddServerId(std::string_view id) { return Do(tunnel.AddServerId(Id(id))); }
  Texts RemoveServerId(std::string_view id) { return Do(tunnel.RemoveServerId(Id(id))); }
  Texts Closed(RequestId request) { return Do(tunnel.OnRequestClosed(request)); }

  // The response of a proxy that follows the draft.
  Texts Respond(RequestId request, unsigned status) {
    return Respond(request, ResponseFields(requests.at(request), status));
  }
  Texts Respond(RequestId request, const std::vector<HeaderField> &fields) {
    return Do(tunnel.OnResponse(request, fields));
  }
  // A 2xx of a proxy that knows nothing of connection IDs.
  Texts RespondPlain(RequestId request) {
    return Respond(request, std::vector<HeaderField>{{":status", "200"}});
  }

  // The first request, with client connection ID "client-0", accepted.
  void Open() {
    Start("client-0");
    Respond(0, 200);
  }

  ClientWay Send(const Bytes &packet) { return tunnel.FromInner(packet); }
  bool IsForwarded(const Bytes &packet) const { return ids.FindForwarded(packet).tunnel == &tunnel; }

  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect;
  ClientTunnel tunnel;
  std::map<RequestId, std::vector<HeaderField>> sent; // All of them, as they were sent,
  std::map<RequestId, ConnectUdpRequest> requests;    // and as the proxy reads them.

private:
  std::string Describe(const client_action::SendRequest &send) {
    auto text = "send " + std::to_string(send.request) + ' ';
    const auto request = ParseRequest(send.fields);
    if (!sent.emplace(send.request, send.fields).second) {
      return text + "again";
    }
    if (!request) {
      return text + std::string(ErrorName(request.error()));
    }
    requests.emplace(send.request, *request);
    switch (request->id_header) {
    case IdHeader::kNone: return text + "plain";
    case IdHeader::kClient: return text + "client-connection-id " + Text(request->id);
    case IdHeader::kServer: return text + "server-connection-id " + Text(request->id);
    }
    return text;
  }
  std::string Describe(const client_action::SendOnStream &send) {
    return "message " + std::to_string(send.request);
  }
  std::string Describe(const client_action::CloseRequest &close) {
    return "close " + std::to_string(close.request);
  }
  std::string Describe(const client_action::ReleaseClientId &release) {
    return "release " + Text(release.id);
  }
  std::string Describe(const client_action::DiscardClientId &discard) {
    return "discard " + Text(discard.id);
  }
  std::string Describe(const client_action::Opened &) { return "opened"; }
  std::string Describe(const client_action::FellBack &fell_back) {
    return "fell back: " + std::string(ReasonName(fell_back.reason));
  }
  std::string Describe(const client_action::Failed &failed) {
    return "failed " + std::to_string(failed.refusal.status) + (failed.retry ? " retry" : "");
  }
};

// Its bytes.
inline Bytes Of(const Prefix &prefix) { return {prefix.view().begin(), prefix.view().end()}; }

// The texts of reasons.
inline std::string FellBack(Fallback reason) {
  return "fell back: " + std::string(ReasonName(reason));
}

} // namespace ngmasque
