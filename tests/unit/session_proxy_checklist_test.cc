// The self-check list of the draft's authors (proxying.md, section 3), as far as it is the proxy's.

#include "session_proxy_support.h"

#include <algorithm>

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";

class ProxyChecklist : public testing::Test {
protected:
  // Alice's flow 0 with a client and a server connection ID, on streams 0 and 4.
  void OpenFlow() {
    ASSERT_EQ(world.Request(kAlice, 0, WithClientId(kTarget, 0, "client-1")), 200u);
    ASSERT_EQ(world.Request(kAlice, 4, WithServerId(kTarget, 0, "server-1")), 200u);
  }

  std::vector<HeaderField> fields = RequestFields(WithClientId(kTarget, 0, "client-1"));
  ProxyWorld world;
};

TEST_F(ProxyChecklist, connect_udp_authority) {
  EXPECT_EQ(world.Request(kAlice, 0, fields), 200u);
  EXPECT_EQ(world.targets.at(world.socket()), At("5.6.7.8", 443));
  StreamId stream = 4;
  for (const auto *bad :
       {"5.6.7.8", "5.6.7.8:0", "5.6.7.8:65536", "", ":443", "user@5.6.7.8:443"}) {
    fields[1].value = bad;
    EXPECT_EQ(world.Request(kAlice, stream, fields), 400u) << bad;
    stream += 4;
  }
  fields.erase(fields.begin() + 1);
  EXPECT_EQ(world.Request(kAlice, stream, fields), 400u) << "none";
}

TEST_F(ProxyChecklist, connect_udp_no_scheme_path) {
  const auto has = [&](std::string_view name) {
    return std::ranges::contains(fields, name, &HeaderField::name);
  };
  ASSERT_FALSE(has(":scheme") || has(":path"));
  EXPECT_EQ(world.Request(kAlice, 0, fields), 200u);
}

TEST_F(ProxyChecklist, connect_udp_no_content_length) {
  OpenFlow();
  for (const StreamId stream : {0, 4}) {
    EXPECT_EQ(world.Field(kAlice, stream, "content-length"), "");
    EXPECT_EQ(world.Field(kAlice, stream, "transfer-encoding"), "");
  }
}

TEST_F(ProxyChecklist, connect_udp_datagram) {
  OpenFlow();
  EXPECT_EQ(world.Send(kAlice, 0, "to the target"), world.socket());
  EXPECT_EQ(world.Receive(world.socket(), Short("client-1...")),
            (Received{.connection = kAlice, .form = ClientForm::kDatagram, .flow = 0}));
  EXPECT_EQ(world.OnDatagram(kAlice, {}, 1).error(), DropReason::kMalformed)
    << "no flow id: H3_GENERAL_PROTOCOL_ERROR";
  EXPECT_EQ(world.OnDatagram(kAlice, Bytes{0x40}, 1).error(), DropReason::kMalformed);
}

TEST_F(ProxyChecklist, connect_udp_flow_id_echo) {
  EXPECT_EQ(world.Request(kAlice, 0, WithClientId(kTarget, 6, "client-1")), 200u);
  EXPECT_EQ(world.Field(kAlice, 0, "datagram-flow-id"), "6");
  EXPECT_EQ(world.Request(kAlice, 4, Plain(kTarget, 8)), 200u);
  EXPECT_EQ(world.Field(kAlice, 4, "datagram-flow-id"), "8");
}

TEST_F(ProxyChecklist, connect_udp_lv) {
  ASSERT_EQ(world.Request(kAlice, 0, Plain(kTarget)), 200u);
  const auto first = OnStream("one"), second = OnStream("two");
  Bytes both = first;
  both.insert(both.end(), second.begin(), second.end());
  std::vector<std::string> payloads;
  ProxyActions actions;
  // However it is cut.
  for (std::size_t cut = 0; cut <= both.size(); ++cut) {
    const std::span<const std::uint8_t> all(both);
    for (auto part : {all.first(cut), all.subspan(cut)}) {
      while (!part.empty()) {
        if (const auto to = world.proxy.OnStreamData({kAlice, 0}, part, world.now, actions);
            to && to->tunnel) {
          EXPECT_EQ(to->tunnel->socket->id, world.socket());
          payloads.push_back(ToText(to->payload));
        }
      }
    }
  }
  ASSERT_EQ(payloads.size(), 2 * (both.size() + 1));
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    EXPECT_EQ(payloads[i], i % 2 == 0 ? "one" : "two");
  }
  EXPECT_EQ(world.Receive(world.socket(), Short("anything")),
            (Received{.connection = kAlice, .form = ClientForm::kStream, .stream = 0}));
}

TEST_F(ProxyChecklist, connect_udp_validate_tuple) {
  OpenFlow();
  const auto packet = Short("client-1...");
  const auto from = [&](const Endpoint &source) {
    return world.Receive(world.socket(), source, packet);
  };
  EXPECT_TRUE(from(At("5.6.7.8", 443)));
  EXPECT_EQ(from(At("5.6.7.8", 444)).error(), DropReason::kWrongSource);
  EXPECT_EQ(from(At("5.6.7.9", 443)).error(), DropReason::kWrongSource);
}

TEST_F(ProxyChecklist, connect_udp_datagram_flow_id) {
  fields.back().value = "0";
  EXPECT_EQ(world.Request(kAlice, 0, fields), 200u);
  fields.back().value = "999999999999998";
  EXPECT_EQ(world.Request(kBob, 0, fields), 409u) << "the connection ID is not what this is about";
  StreamId stream = 4;
  for (const auto *bad :
       {"-1", "1", "999999999999999", "1000000000000000", "1.0", "\"1\"", "", "0, 2", "?1"}) {
    fields.back().value = bad;
    EXPECT_EQ(world.Request(kAlice, stream, fields), 400u) << bad;
    stream += 4;
  }
  fields.pop_back();
  EXPECT_EQ(world.Request(kAlice, stream, fields), 400u) << "a connection ID without flow id";
}

TEST_F(ProxyChecklist, connect_udp_authority_same) {
  OpenFlow();
  EXPECT_EQ(world.Request(kAlice, 8, WithClientId("5.6.7.8:444", 0, "client-2")), 400u);
  EXPECT_EQ(world.Request(kAlice, 12, WithServerId("5.6.7.9:443", 0, "server-2")), 400u);
  EXPECT_EQ(world.Request(kAlice, 16, WithClientId(kTarget, 0, "client-2")), 200u);
  EXPECT_EQ(world.Request(kBob, 0, WithClientId("5.6.7.9:443", 0, "client-1")), 200u)
    << "flows are per connection";
}

TEST_F(ProxyChecklist, connect_udp_datagram_flow_id_match) {
  OpenFlow();
  ASSERT_EQ(world.Request(kAlice, 8, WithClientId("5.6.7.9:443", 2, "client-2")), 200u);
  EXPECT_EQ(world.targets.at(world.Send(kAlice, 0, "a").value()), At("5.6.7.8", 443));
  EXPECT_EQ(world.targets.at(world.Send(kAlice, 2, "b").value()), At("5.6.7.9", 443));
  EXPECT_EQ(world.Receive(world.Send(kAlice, 2, "b").value(), Long("client-2"))->flow, 2u);
}

TEST_F(ProxyChecklist, connect_udp_headers_validate) {
  StreamId stream = 0;
  const auto refused = [&](const std::vector<HeaderField> &request) {
    stream += 4;
    return world.Request(kAlice, stream, request) == 400 && world.targets.empty();
  };
  auto both = fields;
  both.push_back({"server-connection-id", ":MTIzNA==:"});
  EXPECT_TRUE(refused(both));
  auto twice = fields;
  twice.push_back(fields[2]);
  EXPECT_TRUE(refused(twice));
  auto token = fields;
  token[2].value = "abcd";
  EXPECT_TRUE(refused(token));
  EXPECT_TRUE(refused(RequestFields(WithServerId(kTarget, 0, "server-1"))))
    << "a flow begins with client-connection-id";
  EXPECT_EQ(world.Request(kAlice, 0, fields), 200u) << "nothing of that matters to others";
}

TEST_F(ProxyChecklist, connect_udp_proxy_forwarded_mode) {
  OpenFlow();
  EXPECT_EQ(world.Forward(Tuple(1), Short("server-1...")),
            (ToTarget{.connection = kAlice, .flow = 0, .socket = world.socket()}));
  const auto error = [&](const FourTuple &tuple, const Bytes &packet) {
    return world.Forward(tuple, packet).error();
  };
  EXPECT_EQ(error(Tuple(1), Long("server-1")), kForQuic);
  EXPECT_EQ(error(Tuple(1), Short("server-2...")), kForQuic);
  EXPECT_EQ(error(Tuple(2), Short("server-1...")), kForQuic);
  EXPECT_EQ(error(Tuple(3), Short("server-1...")), kForQuic);
  ASSERT_TRUE(world.proxy.Reserve(kAlice, Id("proxy's")));
  EXPECT_EQ(error(Tuple(1), Short("proxy's...")), kForQuic);
}

TEST_F(ProxyChecklist, connect_udp_headers_echo) {
  OpenFlow();
  EXPECT_EQ(world.Field(kAlice, 0, "client-connection-id"), ":Y2xpZW50LTE=:");
  EXPECT_EQ(world.Field(kAlice, 0, "server-connection-id"), "");
  EXPECT_EQ(world.Field(kAlice, 4, "server-connection-id"), ":c2VydmVyLTE=:");
  EXPECT_EQ(world.Field(kAlice, 4, "client-connection-id"), "");
  EXPECT_EQ(world.Field(kAlice, 0, "proxy-status"), "");
}

TEST_F(ProxyChecklist, connect_udp_proxy_idle) {
  OpenFlow();
  ASSERT_TRUE(world.proxy.AddConnection(OuterConnection{3}, Tuple(1))); // On the same 4-tuple.
  const auto to = world.Forward(Tuple(1), Short("server-1..."));
  ASSERT_TRUE(to);
  EXPECT_EQ(to->connection, kAlice) << "whose idle timer restarts";
}

TEST_F(ProxyChecklist, connect_udp_close_stream) {
  OpenFlow();
  world.Close(kAlice, 4);
  EXPECT_EQ(world.Forward(Tuple(1), Short("server-1...")).error(), kForQuic);
  EXPECT_TRUE(world.Send(kAlice, 0, "still there"));
  world.Close(kAlice, 0);
  EXPECT_EQ(world.Send(kAlice, 0, "gone").error(), DropReason::kUnknownFlow);
  EXPECT_TRUE(world.open.empty());
  EXPECT_TRUE(world.resets.empty()) << "the client has closed them itself";
}

TEST_F(ProxyChecklist, connect_udp_rejected_flow_id) {
  OpenFlow();
  ASSERT_EQ(world.Request(kBob, 0, WithClientId(kTarget, 0, "client-1")), 409u);
  EXPECT_EQ(world.Send(kBob, 0, "a").error(), DropReason::kUnknownFlow);
  // Nothing is left of it but its authority.
  EXPECT_EQ(world.Request(kBob, 4, WithServerId(kTarget, 0, "server-1")), 400u);
  EXPECT_EQ(world.Request(kBob, 8, WithClientId("5.6.7.9:443", 0, "client-1")), 400u);
  EXPECT_EQ(world.Request(kBob, 12, WithClientId(kTarget, 0, "client-3")), 200u);
}

TEST_F(ProxyChecklist, connect_udp_early_data) {
  EXPECT_EQ(world.Send(kAlice, 0, "before the request").error(), kLater);
  world.open_at_once = false;
  ASSERT_EQ(world.Request(kAlice, 0, WithClientId(kTarget, 0, "client-1")), 0u);
  EXPECT_EQ(world.Send(kAlice, 0, "before the answer").error(), kLater);
  EXPECT_TRUE(world.sent.empty());
  const auto socket = world.socket();
  world.Opened(socket);
  EXPECT_EQ(world.Status(kAlice, 0), 200u);
  EXPECT_EQ(world.sent, (std::vector<std::pair<SocketId, std::string>>{
                          {socket, "before the request"}, {socket, "before the answer"}}));
}

TEST_F(ProxyChecklist, connect_udp_rejected_conn_id) {
  OpenFlow();
  EXPECT_EQ(world.Request(kAlice, 8, WithServerId(kTarget, 0, "server-1-longer")), 409u);
  EXPECT_EQ(world.Request(kAlice, 12, WithClientId(kTarget, 0, "client")), 409u);
  // The flow goes on with what it has.
  EXPECT_TRUE(world.Send(kAlice, 0, "a"));
  EXPECT_TRUE(world.Forward(Tuple(1), Short("server-1...")));
  EXPECT_TRUE(world.Receive(world.socket(), Short("client-1...")));
  EXPECT_EQ(world.open.size(), 1u);
}

} // namespace
} // namespace ngmasque
