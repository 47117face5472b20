// The checklist of the draft's authors: the rows that are about the client, each by its name there.

#include "session_client_support.h"

#include "ngmasque/wire/datagram.h"
#include "ngmasque/wire/stream_length.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace ngmasque {
namespace {

using Fields = std::vector<HeaderField>;

// A connection with two connection IDs on both sides: requests 0 and 3 for those of the client, 1
// and 2 for those of the server.
void Everything(TestClient &client) {
  client.Start("client-0");
  client.Respond(0, 200);
  client.AddServerId("server-0");
  client.AddServerId("server-1");
  client.AddClientId("client-1");
}

std::vector<std::string> Names(const Fields &fields) {
  std::vector<std::string> names;
  std::ranges::transform(fields, std::back_inserter(names), &HeaderField::name);
  return names;
}

std::string ValueOf(const Fields &fields, std::string_view name) {
  const auto found = std::ranges::find(fields, name, &HeaderField::name);
  return found == fields.end() ? "absent" : found->value;
}

TEST(ClientChecklist, connect_udp_authority) {
  const std::pair<Authority, std::string> cases[] = {
    {{"target.example", 443}, "target.example:443"},
    {{"192.0.2.1", 1}, "192.0.2.1:1"},
    {{"2001:db8::1", 443}, "[2001:db8::1]:443"}};
  for (const auto &[authority, text] : cases) {
    TestClient client({.authority = authority});
    client.Start("client-0");
    EXPECT_EQ(ValueOf(client.sent.at(0), ":method"), "CONNECT-UDP");
    EXPECT_EQ(ValueOf(client.sent.at(0), ":authority"), text) << "always with its port";
  }
}

TEST(ClientChecklist, connect_udp_no_scheme_path) {
  TestClient client;
  Everything(client);
  ASSERT_EQ(client.sent.size(), 4u);
  for (const auto &[number, fields] : client.sent) {
    EXPECT_EQ(ValueOf(fields, ":scheme"), "absent");
    EXPECT_EQ(ValueOf(fields, ":path"), "absent");
  }
}

TEST(ClientChecklist, connect_udp_no_content_length) {
  TestClient client;
  Everything(client);
  ASSERT_EQ(client.sent.size(), 4u);
  for (const auto &[number, fields] : client.sent) {
    EXPECT_EQ(ValueOf(fields, "content-length"), "absent");
    EXPECT_EQ(ValueOf(fields, "transfer-encoding"), "absent");
  }
}

TEST(ClientChecklist, connect_udp_reject_content_length) {
  for (const auto *const name : {"content-length", "transfer-encoding"}) {
    TestClient client;
    client.Start("client-0");
    auto response = ResponseFields(client.requests.at(0), 200);
    response.push_back({name, "0"});
    EXPECT_EQ(client.Respond(0, response), (Texts{"close 0", "failed 0"})) << name;
  }
}

TEST(ClientChecklist, connect_udp_flow_id_echo) {
  const auto respond = [](std::string_view flow) {
    TestClient client;
    client.Start("client-0");
    auto response = ResponseFields(client.requests.at(0), 200);
    EXPECT_EQ(response.back(), (HeaderField{"datagram-flow-id", "2"}));
    response.back().value = flow;
    return client.Respond(0, response);
  };
  EXPECT_EQ(respond("2"), Texts{"opened"});
  EXPECT_EQ(respond("2;parameter"), Texts{"opened"});
  EXPECT_EQ(respond("3"), (Texts{"opened", FellBack(Fallback::kNotEchoed)}));
}

TEST(ClientChecklist, connect_udp_authority_same) {
  TestClient client;
  Everything(client);
  ASSERT_EQ(client.sent.size(), 4u);
  for (const auto &[number, fields] : client.sent) {
    EXPECT_EQ(ValueOf(fields, ":authority"), "target.example:443") << number;
  }
}

TEST(ClientChecklist, connect_udp_datagram_flow_id_match) {
  TestClient client({.authority = {"target.example", 443}, .flow = 8});
  Everything(client);
  ASSERT_EQ(client.sent.size(), 4u);
  for (const auto &[number, fields] : client.sent) {
    EXPECT_EQ(ValueOf(fields, "datagram-flow-id"), "8") << number;
  }
}

TEST(ClientChecklist, connect_udp_quic_cids) {
  TestClient client;
  Everything(client);
  const auto is_id = [](const std::string &name) { return name.ends_with("-connection-id"); };
  ASSERT_EQ(client.sent.size(), 4u);
  for (const auto &[number, fields] : client.sent) {
    EXPECT_EQ(std::ranges::count_if(Names(fields), is_id), 1) << number;
  }
  EXPECT_EQ(ValueOf(client.sent.at(1), "server-connection-id"), ":c2VydmVyLTA=:");
  EXPECT_EQ(ValueOf(client.sent.at(3), "client-connection-id"), ":Y2xpZW50LTE=:");
}

TEST(ClientChecklist, connect_udp_quic_client_cid) {
  TestClient client;
  client.AddServerId("server-0");
  EXPECT_EQ(client.Start("client-0"), Texts{"send 1 client-connection-id client-0"});
}

TEST(ClientChecklist, connect_udp_early_data) {
  TestClient client;
  client.Start("client-0");
  EXPECT_EQ(client.Send(Long("initial")), kTunnel);
  EXPECT_EQ(client.Send(Long("initial")), kTunnel) << "as many as there are";
}

TEST(ClientChecklist, connect_udp_rejected_flow_id) {
  TestClient client;
  client.Start("client-0");
  EXPECT_EQ(client.Respond(0, 403), (Texts{"close 0", "failed 403"}));
  EXPECT_EQ(client.Start("client-0"), Texts{}) << "its flow id is not used again";
  EXPECT_EQ(client.AddClientId("client-1"), Texts{});
  EXPECT_EQ(client.Send(Long("initial")), kDrop);
}

TEST(ClientChecklist, connect_udp_rejected_conn_id) {
  TestClient first;
  first.Start("client-0");
  EXPECT_EQ(first.Respond(0, 409), (Texts{"close 0", "failed 409 retry"}));
  EXPECT_EQ(first.Send(Long("initial")), kDrop) << "not the old Initial";
  // The new inner connection, with all that has to be new.
  TestClient second({.authority = {"target.example", 443}, .flow = 4});
  EXPECT_EQ(second.Start("client-1"), Texts{"send 0 client-connection-id client-1"});
  EXPECT_EQ(second.requests.at(0).flow, 4u);
  EXPECT_EQ(second.Respond(0, 200), Texts{"opened"});
}

TEST(ClientChecklist, connect_udp_new_client_cid) {
  TestClient client;
  client.Open();
  EXPECT_EQ(client.AddClientId("client-1"), Texts{"send 1 client-connection-id client-1"});
  EXPECT_EQ(client.Respond(1, 200), Texts{"release client-1"});
}

TEST(ClientChecklist, connect_udp_forwarded_mode) {
  TestClient client;
  client.Open();
  EXPECT_EQ(client.AddServerId("server-0"), Texts{"send 1 server-connection-id server-0"});
  client.Respond(1, 200);
  EXPECT_EQ(client.Send(Short("server-0")), kForward);
}

TEST(ClientChecklist, connect_udp_forwarded_sh) {
  TestClient client;
  Everything(client);
  client.Respond(1, 200);
  EXPECT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_EQ(client.Send(Long("server-0")), kTunnel);
}

TEST(ClientChecklist, connect_udp_forwarded_sh_wait) {
  TestClient client;
  Everything(client);
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  client.Respond(1, 200);
  EXPECT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_EQ(client.Send(Short("server-1")), kTunnel);
}

TEST(ClientChecklist, connect_udp_forwarded_rejected) {
  TestClient client;
  Everything(client);
  client.Respond(1, 409);
  EXPECT_EQ(client.Send(Short("server-0")), kTunnel);
  EXPECT_EQ(client.AddServerId("server-0"), Texts{}) << "not again";
  EXPECT_EQ(client.AddServerId("server-2"), Texts{"send 4 server-connection-id server-2"});
}

TEST(ClientChecklist, connect_udp_forwarded_stop) {
  TestClient client;
  Everything(client);
  client.Respond(1, 403);
  client.Respond(2, 403);
  EXPECT_EQ(client.AddServerId("server-2"), Texts{}) << "no others either";
  EXPECT_EQ(client.Send(Short("server-2")), kTunnel);
}

TEST(ClientChecklist, connect_udp_forwarded_receive) {
  TestClient client;
  Everything(client);
  client.Respond(1, 200);
  client.Respond(3, 200);
  ASSERT_EQ(client.Send(Short("server-0")), kForward);
  EXPECT_TRUE(client.IsForwarded(Short("client-0")));
  EXPECT_TRUE(client.IsForwarded(Short("client-1"))) << "any that was accepted";
}

// Without datagrams the payloads follow the request on its stream, each after its length.
TEST(ClientChecklist, connect_udp_lv) {
  TestClient client({.authority = {"target.example", 443}, .flow = 2, .datagrams = false});
  client.Start("client-0");
  EXPECT_EQ(Names(client.sent.at(0)), (std::vector<std::string>{":method", ":authority"}));
  const auto packet = Long("initial");
  ASSERT_EQ(client.Send(packet), kTunnel);
  EXPECT_EQ(client.tunnel.dialect().payload_request(), 0u);
  auto stream = Of(client.tunnel.dialect().StreamPrefix(packet.size()).value());
  EXPECT_EQ(stream, (Bytes{static_cast<std::uint8_t>(packet.size() >> 8),
                           static_cast<std::uint8_t>(packet.size())}));
  stream.insert(stream.end(), packet.begin(), packet.end());
  std::span<const std::uint8_t> input = stream;
  std::vector<ClientAction> actions;
  const auto payload = client.tunnel.OnStreamData(0, input, actions).value().value();
  EXPECT_EQ(Bytes(payload.begin(), payload.end()), packet);
  EXPECT_TRUE(input.empty() && actions.empty());
}

TEST(ClientChecklist, connect_udp_datagram) {
  TestClient client;
  client.Start("client-0");
  const auto packet = Long("initial");
  ASSERT_EQ(client.Send(packet), kTunnel);
  auto frame = Of(client.tunnel.dialect().datagram_prefix());
  frame.insert(frame.end(), packet.begin(), packet.end());
  const auto at_proxy = draft00::ReadDatagram(frame).value();
  EXPECT_EQ(at_proxy.key, client.requests.at(0).flow) << "the proxy knows it from the request";
  EXPECT_EQ(Bytes(at_proxy.payload.begin(), at_proxy.payload.end()), packet);
  // The same back.
  const auto datagram = client.dialect->OnDatagram(frame).value();
  EXPECT_EQ(datagram.tunnel, &client.tunnel);
  EXPECT_EQ(Bytes(datagram.payload.begin(), datagram.payload.end()), packet);
}

TEST(ClientChecklist, connect_udp_datagram_flow_id) {
  for (const FlowId flow : {FlowId{0}, FlowId{2}, FlowId{999'999'999'999'998}}) {
    TestClient client({.authority = {"target.example", 443}, .flow = flow});
    client.Start("client-0");
    EXPECT_EQ(ValueOf(client.sent.at(0), "datagram-flow-id"), std::to_string(flow));
    const auto prefix = Of(client.tunnel.dialect().datagram_prefix());
    EXPECT_EQ(draft00::ReadDatagram(prefix).value().key, flow);
  }
}

} // namespace
} // namespace ngmasque
