// ClientTunnel: requirements C1 to C15, one test each that names it.  What else there is to it:
// session_client_tunnel_events_test.cc and session_client_tunnel_bounds_test.cc.

#include "session_client_support.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ngmasque {
namespace {

//= draft-00, section 1
//# QUIC long header packets MUST use this mode.
//= draft-00, section 4.3
//# QUIC long header packets MUST NOT be forwarded.
TEST(ClientTunnel, C1LongHeadersAreTunnelled) {
  TestClient client;
  client.Open();
  EXPECT_EQ(client.Send(Long("server-0")), kTunnel);
  client.AddServerId("server-0");
  EXPECT_EQ(client.Send(Long("server-0")), kTunnel);
  client.Respond(1, 200);
  EXPECT_EQ(client.Send(Long("server-0")), kTunnel);
  EXPECT_EQ(client.Send(Bytes{0x80}), kTunnel) << "cut off, and long all the same";
  auto packet = Short("server-0");
  packet[0] = 0xc0;
  EXPECT_EQ(client.Send(packet), kTunnel) << "where short headers have it";
  EXPECT_FALSE(client.IsForwarded(Long("client-0"))) << "nor has one begun to forward by that";
  EXPECT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_FALSE(client.IsForwarded(Long("client-0")));
  packet = Short("client-0");
  EXPECT_TRUE(client.IsForwarded(packet));
  packet[0] = 0xc0;
  EXPECT_FALSE(client.IsForwarded(packet));
}

//= draft-00, section 3
//# Clients that do not receive an echoed Client-Connection-Id or Server-Connection-Id header MUST
//# fall back to using CONNECT-UDP without the extended behavior defined in this document.
TEST(ClientTunnel, C2NotEchoedFallsBackToPlain) {
  TestClient client;
  client.Start("client-0");
  client.AddClientId("client-1");
  client.AddServerId("server-0");
  client.AddClientId("client-2");
  EXPECT_EQ(client.RespondPlain(0), (Texts{"opened", FellBack(Fallback::kNotEchoed),
                                           "release client-1", "release client-2"}));
  EXPECT_TRUE(client.tunnel.open());
  // Connection IDs come and go, and nobody has to be asked.
  EXPECT_EQ(client.AddClientId("client-3"), Texts{"release client-3"});
  EXPECT_EQ(client.AddServerId("server-1"), Texts{});
  EXPECT_EQ(client.RemoveServerId("server-0"), Texts{});
  EXPECT_EQ(client.RemoveClientId("client-0"), Texts{}) << "the request stands for the flow";
  EXPECT_EQ(client.sent.size(), 1u);
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_FALSE(client.IsForwarded(Short("client-0")));
  EXPECT_TRUE(client.ids.Reserve(Id("client-0"))) << "nothing is in its way";
}

//= draft-00, section 4
//# A client sends new CONNECT-UDP requests when it wants to start a new QUIC connection to a
//# target, when it has received a new Server Connection ID for the target, and before it advertises
//# a new Client Connection ID to the target.
TEST(ClientTunnel, C3Requests) {
  TestClient client;
  EXPECT_EQ(client.Start("client-0"), Texts{"send 0 client-connection-id client-0"});
  EXPECT_EQ(client.Respond(0, 200), Texts{"opened"});
  EXPECT_EQ(client.AddServerId("server-0"), Texts{"send 1 server-connection-id server-0"});
  EXPECT_EQ(client.AddClientId("client-1"), Texts{"send 2 client-connection-id client-1"});
  EXPECT_EQ(client.AddServerId("server-1"), Texts{"send 3 server-connection-id server-1"});
  EXPECT_EQ(client.AddServerId("server-0"), Texts{}) << "known";
  EXPECT_EQ(client.AddClientId("client-1"), Texts{}) << "known";
}

//= draft-00, section 4
//# Each request MUST contain a Datagram-Flow-Id header and an authority pseudo-header identifying
//# the target.  All requests for the same QUIC Connection between a client and a target MUST
//# contain the same authority, and SHOULD contain the same Datagram-Flow-Id.
TEST(ClientTunnel, C4SameAuthorityAndFlowId) {
  TestClient client({.authority = {"2001:db8::1", 4433}, .flow = 0});
  client.Open();
  client.AddServerId("server-0");
  client.AddClientId("client-1");
  ASSERT_EQ(client.requests.size(), 3u);
  for (const auto &[number, request] : client.requests) {
    EXPECT_EQ(request.authority, (Authority{"2001:db8::1", 4433})) << number;
    EXPECT_EQ(request.flow, 0u) << number;
  }
  EXPECT_EQ(Of(client.tunnel.dialect().datagram_prefix()), Bytes{0});
}

//= draft-00, section 4
//# Each request MUST also contain exactly one connection ID header, either Client-Connection-Id or
//# Server-Connection-Id.
TEST(ClientTunnel, C5OneConnectionIdEach) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  client.AddClientId("client-1");
  ASSERT_EQ(client.sent.size(), 3u);
  for (const auto &[number, fields] : client.sent) {
    EXPECT_EQ(
      std::ranges::count_if(
        fields, [](const HeaderField &field) { return field.name.ends_with("-connection-id"); }),
      1)
      << number;
  }
}

//= draft-00, section 4.1
//# The first request the clients makes MUST contain the authority pseudo-header, the
//# Datagram-Flow-Id header, and the Client-Connection-Id header.
TEST(ClientTunnel, C6FirstRequestHasTheClientId) {
  TestClient client;
  EXPECT_EQ(client.AddClientId("client-1"), Texts{}) << "held back";
  EXPECT_EQ(client.AddServerId("server-0"), Texts{}) << "held back";
  EXPECT_EQ(client.Start("client-0"), Texts{"send 2 client-connection-id client-0"});
  ASSERT_EQ(client.sent.size(), 1u);
  EXPECT_EQ(client.sent.at(2), (std::vector<HeaderField>{{":method", "CONNECT-UDP"},
                                                         {":authority", "target.example:443"},
                                                         {"client-connection-id", ":Y2xpZW50LTA=:"},
                                                         {"datagram-flow-id", "2"}}));
}

//= draft-00, section 4.1
//# The client can start sending packets tunnelled within DATAGRAM frames as soon as this first
//# CONNECT-UDP request for the datagram flow ID has been sent, even in the same QUIC packet to the
//# proxy.
TEST(ClientTunnel, C7PacketsBeforeTheResponse) {
  TestClient client;
  EXPECT_EQ(client.Send(Long("initial")), kDrop) << "nobody would know whose it is";
  client.Start("client-0");
  EXPECT_EQ(client.Send(Long("initial")), kTunnel);
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_EQ(client.Send({}), kTunnel) << "no packet of QUIC";
  EXPECT_FALSE(client.tunnel.open());
}

//= draft-00, section 4.1
//# In order to avoid conflicts, clients SHOULD select Client Connection IDs of at least 8 bytes in
//# length with unpredictable values.  A client also SHOULD NOT select a Client Connection ID that
//# matches the ID used for the QUIC connection to the proxy, as this inherently creates a conflict.
TEST(ClientTunnel, C8NotInConflictWithTheOuterConnection) {
  static_assert(kMinClientIdLength == 8);
  for (const auto *const outer : {"outer-id", "outer", "outer-id-longer", ""}) {
    TestClient client;
    ASSERT_TRUE(client.ids.Reserve(Id(outer)));
    EXPECT_EQ(client.Start("outer-id"), Texts{"failed 0 retry"}) << "no such request is sent";
    EXPECT_EQ(client.Send(Long("initial")), kDrop);
  }
  TestClient client;
  ASSERT_TRUE(client.ids.Reserve(Id("outer-id")));
  client.Open();
  const Texts discarded{"discard outer", FellBack(Fallback::kClientIdRefused)};
  EXPECT_EQ(client.AddClientId("outer"), discarded);
  client.ids.Release(Id("outer-id"));
  EXPECT_EQ(client.AddClientId("outer"), Texts{"send 1 client-connection-id outer"});
  // From the other side, be it accepted or not.
  EXPECT_FALSE(client.ids.Reserve(Id("outer-id")));
  EXPECT_FALSE(client.ids.Reserve(Id("client-0")));
  EXPECT_FALSE(client.ids.Reserve(Id("client-")));
  EXPECT_TRUE(client.ids.Reserve(Id("another")));
  EXPECT_TRUE(client.ids.Reserve(Id("another"))) << "known";
  client.RemoveClientId("outer");
  EXPECT_TRUE(client.ids.Reserve(Id("outer-id")));
}

//= draft-00, section 4.1
//# If the server rejects the first request that uses a specific datagram flow ID, the client MUST
//# retire that datagram flow ID.  If the rejection indicated a conflict due to the Client
//# Connection ID, the client MUST select a new Connection ID before sending a new request, and
//# generate a new packet.
TEST(ClientTunnel, C9FirstRequestRejected) {
  for (const auto &[status, text] : {std::pair{409u, "failed 409 retry"},
                                     {400u, "failed 400"},
                                     {403u, "failed 403"},
                                     {302u, "failed 302"},
                                     {503u, "failed 503"}}) {
    TestClient client;
    client.Start("client-0");
    client.AddClientId("client-1");
    EXPECT_EQ(client.Respond(0, status), (Texts{"close 0", "discard client-1", text}));
    EXPECT_FALSE(client.tunnel.open());
    // The flow id is not used again, nor is anything else.
    EXPECT_EQ(client.Start("client-2"), Texts{});
    EXPECT_EQ(client.AddClientId("client-2"), Texts{});
    EXPECT_EQ(client.AddServerId("server-0"), Texts{});
    EXPECT_EQ(client.Send(Long("initial")), kDrop);
    EXPECT_EQ(client.Send(Short("server-0")), kDrop);
  }
}

//= draft-00, section 4.2
//# Prior to informing the target of a new chosen client connection ID, the client MUST send a
//# CONNECT-UDP request with the Client-Connection-Id header to the proxy, and only inform the
//# target of the new client connection ID once a 2xx (Successful) response is received.
TEST(ClientTunnel, C10NewClientIdsAreHeldBack) {
  TestClient client;
  client.Start("client-0");
  EXPECT_EQ(client.AddClientId("client-1"), Texts{});
  EXPECT_EQ(client.Respond(0, 200), (Texts{"opened", "send 1 client-connection-id client-1"}));
  EXPECT_EQ(client.AddClientId("client-2"), Texts{"send 2 client-connection-id client-2"});
  EXPECT_EQ(client.Respond(2, 204), Texts{"release client-2"}) << "each for itself";
  EXPECT_EQ(client.Respond(1, 409),
            (Texts{"close 1", "discard client-1", FellBack(Fallback::kClientIdRefused)}));
  EXPECT_TRUE(client.tunnel.open());
}

//= draft-00, section 4.3
//# The client MUST wait for a successful (2xx) response before using forwarded mode.  Prior to
//# receiving the server response, the client MUST send short header packets tunnelled in DATAGRAM
//# frames.
TEST(ClientTunnel, C11ForwardsAfterTheResponse) {
  TestClient client;
  client.Open();
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  client.AddServerId("server-0");
  client.AddServerId("server-1");
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_EQ(client.Respond(1, 200), Texts{});
  EXPECT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_EQ(client.Send(Short("server-1")), kTunnel) << "that very one";
  client.Respond(2, 200);
  EXPECT_EQ(client.Send(Short("server-1")), kForward);
}

//= draft-00, section 4.3
//# If the client's request that included the Server-Connection-Id is rejected, for example with a
//# 409 (Conflict) response, it MUST NOT forward packets to the requested Server Connection ID, but
//# only use tunnelled mode.
//= draft-00, section 4.3
//# For any response code other than a 2xx success, the client MUST NOT retry a request for the same
//# Server Connection ID.  For errors other than 409 (Conflict), clients SHOULD stop sending
//# requests for other Server Connection IDs in the future.
TEST(ClientTunnel, C12Rejected) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  EXPECT_EQ(client.Respond(1, 409), (Texts{"close 1", FellBack(Fallback::kServerIdConflict)}));
  EXPECT_EQ(client.AddServerId("server-0"), Texts{}) << "never again";
  client.RemoveServerId("server-0");
  EXPECT_EQ(client.AddServerId("server-0"), Texts{}) << "nor when it has been away";
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);

  // After 409 others are asked for.
  EXPECT_EQ(client.AddServerId("server-1"), Texts{"send 2 server-connection-id server-1"});
  client.AddServerId("server-2");
  client.AddServerId("server-3");
  client.Respond(2, 200);
  EXPECT_EQ(client.Respond(3, 403), (Texts{"close 3", FellBack(Fallback::kForwardingRefused)}));
  EXPECT_EQ(client.AddServerId("server-2"), Texts{});
  EXPECT_EQ(client.AddServerId("server-4"), Texts{}) << "nor any other";
  // What was asked for before that is not undone.
  EXPECT_EQ(client.Respond(4, 200), Texts{});
  EXPECT_EQ(client.Send(Short("server-1")), kForward);
  EXPECT_EQ(client.Send(Short("server-2")), kTunnel);
  EXPECT_EQ(client.Send(Short("server-3")), kForward);
  EXPECT_EQ(client.Send(Short("server-4")), kTunnel);
  EXPECT_EQ(client.AddClientId("client-1"), Texts{"send 5 client-connection-id client-1"})
    << "only server connection IDs are meant";
}

// Each response that is not a 2xx is one that nothing follows.
TEST(ClientTunnel, C12EveryStatus) {
  for (const unsigned status : {300u, 308u, 400u, 404u, 410u, 429u, 500u, 503u, 599u}) {
    TestClient client;
    client.Open();
    client.AddServerId("server-0");
    EXPECT_EQ(client.Respond(1, status),
              (Texts{"close 1", FellBack(Fallback::kForwardingRefused)}));
    EXPECT_EQ(client.AddServerId("server-1"), Texts{}) << status;
  }
}

//= draft-00, section 4.3
//# When forwarding, the client sends a QUIC packet with the target server's Connection ID in the
//# QUIC short header
TEST(ClientTunnel, C13ForwardedAreThoseWithTheServerId) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  client.Respond(1, 200);
  auto packet = Short("server-0 and more");
  const auto before = packet;
  EXPECT_EQ(client.Send(packet), kForward);
  EXPECT_EQ(packet, before) << "it goes as it is";
  for (const std::uint8_t first : {0x00, 0x40, 0x7f}) {
    packet[0] = first; // The invariants of QUIC know only the form of the header.
    EXPECT_EQ(client.Send(packet), kForward) << int{first};
  }
  EXPECT_EQ(client.Send(Short("server-1 and more")), kTunnel);
  EXPECT_EQ(client.Send(Short("server-")), kTunnel) << "too short for it";
  EXPECT_EQ(client.Send(Short("client-0")), kTunnel);
}

//= draft-00, section 4.4
//# If a client has started using forwarding mode, it MUST be prepared to receive forwarded short
//# header packets on the socket between itself and the proxy for any Client Connection ID that has
//# been accepted by the proxy.
TEST(ClientTunnel, C14ReceivesForwarded) {
  TestClient client;
  ASSERT_TRUE(client.ids.Reserve(Id("outer-id")));
  client.Open();
  client.AddServerId("server-0");
  client.Respond(1, 200);
  client.AddClientId("client-1-longer");
  client.AddClientId("client-2");
  client.Respond(2, 200);
  EXPECT_FALSE(client.IsForwarded(Short("client-0"))) << "no proxy may do so yet";
  ASSERT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_TRUE(client.IsForwarded(Short("client-0")));
  EXPECT_TRUE(client.IsForwarded(Short("client-0 and more")));
  EXPECT_TRUE(client.IsForwarded(Short("client-1-longer and more")));
  EXPECT_FALSE(client.IsForwarded(Short("client-2"))) << "not accepted yet";
  client.Respond(3, 200);
  EXPECT_TRUE(client.IsForwarded(Short("client-2")));
  // What is not forwarded belongs to the outer connection.
  EXPECT_FALSE(client.IsForwarded(Short("outer-id")));
  EXPECT_FALSE(client.IsForwarded(Short("client-1")));
  EXPECT_FALSE(client.IsForwarded(Short("server-0")));
  EXPECT_FALSE(client.IsForwarded(Long("client-0")));
  EXPECT_FALSE(client.IsForwarded(Bytes{}));
  EXPECT_FALSE(client.IsForwarded(Bytes{0x40}));
  // To the end, for the proxy may not know yet that this client has stopped.
  client.RemoveServerId("server-0");
  EXPECT_TRUE(client.IsForwarded(Short("client-0")));
  client.RemoveClientId("client-0");
  EXPECT_FALSE(client.IsForwarded(Short("client-0")));
  EXPECT_TRUE(client.IsForwarded(Short("client-2")));
}

//= draft-00, section 5.1
//# A client that no longer wants a given Connection ID to be forwarded by the proxy, for either
//# direction, MUST cancel its CONNECT-UDP HTTP/3 request by closing the corresponding stream.
TEST(ClientTunnel, C15ClosesTheStream) {
  TestClient client;
  client.Open();
  client.AddServerId("server-0");
  client.AddClientId("client-1");
  client.Respond(1, 200);
  client.Respond(2, 200);
  EXPECT_EQ(client.RemoveServerId("server-0"), Texts{"close 1"});
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_EQ(client.RemoveServerId("server-0"), Texts{});
  EXPECT_EQ(client.RemoveClientId("client-0"), Texts{"close 0"});
  EXPECT_EQ(client.RemoveClientId("client-0"), Texts{});
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel) << "there is another client connection ID";
  client.AddServerId("server-1");
  EXPECT_EQ(client.Do(client.tunnel.Close()), (Texts{"close 2", "close 3"}));
  EXPECT_EQ(client.Do(client.tunnel.Close()), Texts{});
  EXPECT_EQ(client.Send(Short("server-1")), kDrop);
  EXPECT_FALSE(client.tunnel.open());
}

} // namespace
} // namespace ngmasque
