// A client of rfc9298, and a proxy that says what it is told to.
#pragma once

#include "ngmasque/session/client_ids.h"
#include "ngmasque/session/client_tunnel.h"

#include "session_rfc9298_raw.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {

class RawProxy {
public:
  explicit RawProxy(QuicProxyRevision revision_in = kNewestRevision,
                    std::vector<Transform> transforms = {Transform::kIdentity},
                    bool port_sharing = true, bool forward = true, bool chained = false)
    : revision(revision_in),
      dialect(MakeRfc9298Client(
        {.uri = UriTemplate::Parse(
                  "https://proxy.example/.well-known/masque/udp/{target_host}/{target_port}/")
                  .value(),
         .key = {.k0 = 3, .k1 = 4},
         .transforms = std::move(transforms),
         .revision = revision,
         .port_sharing = port_sharing},
        {.datagrams = true,
         .settings = PeerSettings{.datagrams = true, .connect_protocol = true}})),
      tunnel(ids, *dialect,
             {.authority = ParseAuthority("192.0.2.9:443").value(),
              .forward = forward,
              .chained = chained}) {}

  // What the client does, each a text: "REGISTER_CLIENT_CID client-0 0", "opened", "release
  // client-1", "discard client-1", "close 51", "failed 409 retry", "fell back: ...".
  Texts Do(const std::vector<ClientAction> &actions) {
    Texts texts;
    for (const auto &action : actions) {
      std::visit([&](const auto &a) { Do(a, texts); }, action);
    }
    return texts;
  }

  Texts Start(std::string_view id = "client-0") { return Do(tunnel.Start(Id(id))); }
  Texts Respond(const UdpResponse &response) {
    return Do(tunnel.OnResponse(0, UdpResponseFields(response)));
  }
  static UdpResponse Accepting(std::string_view transform = "identity", bool port_sharing = true) {
    return {.status = 200,
            .forwarding = ForwardingAnswer{.forwarding = true,
                                           .transform = std::string(transform),
                                           .key = ScrambleKey{9}},
            .port_sharing = port_sharing,
            .capsule_protocol = true,
            .proxy_status = {}};
  }
  Texts Send(std::span<const std::uint8_t> bytes) {
    std::vector<ClientAction> actions;
    while (!bytes.empty()) {
      const auto payload = tunnel.OnStreamData(0, bytes, actions);
      last_error = payload ? std::nullopt : std::optional(payload.error());
      if (payload && *payload) {
        payloads.push_back(ToText(**payload));
      }
    }
    return Do(actions);
  }
  Texts Say(const CidCapsule &capsule) { return Send(WriteCidCapsule(revision, capsule)); }

  // A tunnel with client-0 that is open and forwards.
  void Open(std::uint64_t maximum = 20) {
    Start();
    Respond(Accepting());
    EXPECT_EQ(Say(Ack(Kind::kAckClientCid, "client-0", Id("virtual0"))),
              Texts{"ACK_CLIENT_VCID client-0 8"});
    if (maximum != 0) {
      EXPECT_TRUE(Say(Maximum(maximum)).empty());
    }
  }

  QuicProxyRevision revision;
  ClientIds ids{kTestKey};
  std::unique_ptr<ClientDialect> dialect;
  ClientTunnel tunnel;
  std::vector<HeaderField> request;
  Texts payloads;
  std::optional<DropReason> last_error; // Of Send.

private:
  void Do(const client_action::SendRequest &a, Texts &texts) {
    request = a.fields;
    texts.emplace_back("request");
    tunnel.OnSent(0, 4);
  }
  void Do(const client_action::SendOnStream &a, Texts &texts) {
    for (const auto &capsule : ReadCapsules(a.message)) {
      texts.push_back(Describe(capsule));
    }
  }
  void Do(const client_action::CloseRequest &a, Texts &texts) {
    texts.push_back("close " + std::to_string(a.code));
  }
  void Do(const client_action::ReleaseClientId &a, Texts &texts) {
    texts.push_back("release " + ToText(a.id.bytes()));
  }
  void Do(const client_action::DiscardClientId &a, Texts &texts) {
    texts.push_back("discard " + ToText(a.id.bytes()));
  }
  void Do(const client_action::Opened &, Texts &texts) { texts.emplace_back("opened"); }
  void Do(const client_action::FellBack &a, Texts &texts) {
    texts.push_back("fell back: " + std::string(ReasonName(a.reason)));
  }
  void Do(const client_action::Failed &a, Texts &texts) {
    texts.push_back("failed " + std::to_string(a.refusal.status) + (a.retry ? " retry" : ""));
  }
};

} // namespace ngmasque
