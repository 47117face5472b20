// Who may use a proxy: asked before anything else, the same in both dialects, and of each request.

#include "ngmasque/session/draft00.h"
#include "ngmasque/session/rfc9298.h"
#include "ngmasque/session/udp_request.h"

#include "session_proxy_support.h"

#include <algorithm>
#include <format>
#include <memory>

namespace ngmasque {
namespace {

constexpr std::string_view kTarget = "5.6.7.8:443";
constexpr std::string_view kName = "target.example:443";
constexpr std::string_view kChallenge = "Basic realm=\"proxy\"";

const HeaderField kAlicesField{"proxy-authorization", "Basic YWxpY2U6c2VjcmV0"};
const HeaderField kBobsField{"proxy-authorization", "Basic Ym9iOnNlY3JldA=="};

std::shared_ptr<const TargetPolicy> Inside() {
  TargetPolicy::Options options;
  options.allow.push_back(*ParseAddressBlock("10.0.0.0/8"));
  return std::make_shared<TargetPolicy>(std::move(options));
}

// Knows Alice and Bob, by one of the two fields, and counts how often it is asked.
struct Door {
  AccessDecision operator()(const AccessRequest &request) {
    asked.push_back(request.client);
    certificate = request.certificate;
    if (blocked) {
      return std::unexpected(
        AccessRefusal{.error = SessionError::kTooManyFailures, .retry_after = retry_after});
    }
    const auto value = request.proxy_authorization ? request.proxy_authorization
                                                   : request.authorization;
    if (value == kAlicesField.value) {
      return Admission{.user = "alice", .policy = policy};
    }
    if (value == kBobsField.value) {
      return Admission{.user = "bob"};
    }
    if (anybody && !value) {
      return Admission{};
    }
    return std::unexpected(AccessRefusal{.challenges = challenges});
  }

  std::vector<Endpoint> asked;
  std::string certificate;
  bool blocked = false, anybody = false;
  std::optional<unsigned> retry_after;
  std::shared_ptr<const TargetPolicy> policy; // Alice's.
  std::vector<std::string> challenges{std::string(kChallenge), "Bearer"};
};

enum class Form : std::uint8_t { kDraft00, kRfc9298 };

class Access : public testing::TestWithParam<Form> {
protected:
  using Fields = std::vector<HeaderField>;

  static ProxyOptions WithDoor(const std::shared_ptr<Door> &door) {
    ProxyOptions options;
    options.access = [door](const AccessRequest &request) { return (*door)(request); };
    return options;
  }

  static bool modern() { return GetParam() == Form::kRfc9298; }

  static Fields Asking(std::string_view authority, const Fields &others, FlowId flow = 0) {
    auto fields = modern() ? UdpRequestFields({.target = *ParseAuthority(authority), .forwarding = {}},
                                              UriTemplate::Parse(kDefaultUdpPath).value(),
                                              "proxy.example")
                           : RequestFields(Plain(authority, flow));
    fields.insert(fields.end(), others.begin(), others.end());
    return fields;
  }

  unsigned Ask(OuterConnection connection, StreamId stream, const Fields &others,
               std::string_view authority = kTarget) {
    return world.Request(connection, stream, Asking(authority, others, stream / 2));
  }

  const TunnelRecord &Refused(OuterConnection connection, StreamId stream) {
    return *world.answers.at({.connection = connection, .stream = stream}).refused;
  }

  bool HasNothing() {
    return world.lookups.empty() && world.targets.empty() && world.ended.empty() &&
           world.proxy.counters().flows.highest == 0;
  }

  std::shared_ptr<Door> door = std::make_shared<Door>();
  ProxyWorld world{WithDoor(door)};
};

TEST_P(Access, WithoutCredentialsNothingIsDone) {
  EXPECT_EQ(Ask(kAlice, 0, {}), 407u);
  EXPECT_EQ(Ask(kAlice, 4, {}, kName), 407u);
  EXPECT_TRUE(HasNothing());
  EXPECT_EQ(door->asked, (std::vector{Tuple(1).remote, Tuple(1).remote}));
  EXPECT_EQ(world.Field(kAlice, 0, "proxy-authenticate"), kChallenge);
  const auto &fields = world.answers.at({.connection = kAlice, .stream = 0}).fields;
  EXPECT_EQ(std::ranges::count(fields, "proxy-authenticate", &HeaderField::name), 2);
  EXPECT_EQ(world.Field(kAlice, 0, "proxy-status"), "ngmasque;error=http_request_denied");
  EXPECT_EQ(world.proxy.counters().refused, (std::map<unsigned, std::uint64_t>{{407, 2}}));
  EXPECT_EQ(world.proxy.counters().requests, 2u);
}

// The same for what is no request for a tunnel: nobody learns whether it would have been one.
TEST_P(Access, OtherRequestsAreNoWayAround) {
  EXPECT_EQ(world.Request(kAlice, 0, Fields{{":method", "GET"}, {":path", "/"}}), 407u);
  EXPECT_EQ(Ask(kAlice, 4, {}, "127.0.0.1:1"), 407u);
  EXPECT_EQ(world.Request(kAlice, 8, Fields{}), 407u);
  EXPECT_EQ(door->asked.size(), 3u);
  EXPECT_EQ(Refused(kAlice, 0).authority, std::nullopt);
  EXPECT_EQ(Refused(kAlice, 0).dialect, "");
}

TEST_P(Access, TheRightCredentials) {
  EXPECT_EQ(Ask(kAlice, 0, {kAlicesField}), 200u);
  EXPECT_EQ(Ask(kAlice, 4, {kAlicesField}, kName), 0u);
  EXPECT_EQ(world.lookups.size(), 1u);
  EXPECT_EQ(world.proxy.Find(kAlice)->user, "alice");
}

TEST_P(Access, OriginsHaveAFieldOfTheirOwn) {
  EXPECT_EQ(Ask(kAlice, 0, {{"authorization", "Basic bm8="}}), 401u);
  EXPECT_EQ(world.Field(kAlice, 0, "www-authenticate"), kChallenge);
  EXPECT_EQ(world.Field(kAlice, 0, "proxy-authenticate"), "");
  EXPECT_EQ(Refused(kAlice, 0).status, 401u);
  EXPECT_EQ(Ask(kAlice, 4, {{"authorization", "Basic bm8="}, {"proxy-authorization", "x"}}), 407u);
  EXPECT_EQ(Ask(kAlice, 8, {{"authorization", kAlicesField.value}}), 200u);
}

TEST_P(Access, NoChallengeIsNo407) {
  door->challenges.clear();
  EXPECT_EQ(Ask(kAlice, 0, {}), 403u);
  door->blocked = true;
  EXPECT_EQ(Ask(kAlice, 4, {}), 429u);
}

// RFC 9110, section 10.2.3: how long is the program's to say, of bounds it is always the same.
TEST_P(Access, WhenToTryAgain) {
  door->blocked = true;
  ASSERT_EQ(Ask(kAlice, 0, {}), 429u);
  EXPECT_EQ(world.Field(kAlice, 0, "retry-after"), "10");
  door->retry_after = 54;
  ASSERT_EQ(Ask(kAlice, 4, {}), 429u);
  EXPECT_EQ(world.Field(kAlice, 4, "retry-after"), "54");
  const auto &fields = world.answers.at({.connection = kAlice, .stream = 4}).fields;
  EXPECT_EQ(std::ranges::count(fields, "retry-after", &HeaderField::name), 1);

  auto options = WithDoor(door);
  options.routing.max_flows_per_client = 1;
  world = ProxyWorld(options);
  door->blocked = false;
  ASSERT_EQ(Ask(kAlice, 0, {kAlicesField}), 200u);
  ASSERT_EQ(Ask(kAlice, 4, {kAlicesField}), 429u);
  EXPECT_EQ(world.Field(kAlice, 4, "retry-after"), "10");
  ASSERT_EQ(Ask(kAlice, 8, {}), 407u);
  EXPECT_EQ(world.Field(kAlice, 8, "retry-after"), "");
}

// Wrong ones, as many as come: none leaves anything behind, and the right ones still work.
TEST_P(Access, ManyWrongCredentials) {
  for (StreamId stream = 0; stream < 4000; stream += 4) {
    ASSERT_EQ(Ask(kAlice, stream, {{"proxy-authorization", std::format("Basic {}", stream)}}), 407u);
  }
  EXPECT_TRUE(HasNothing());
  EXPECT_EQ(world.proxy.Find(kAlice)->client->requests, 0u);
  EXPECT_EQ(world.proxy.Find(kAlice)->user, std::nullopt);
  EXPECT_EQ(Ask(kAlice, 4000, {kAlicesField}), 200u);
}

TEST_P(Access, DoubledFieldsAreNobodys) {
  EXPECT_EQ(Ask(kAlice, 0, {kAlicesField, kAlicesField}), 400u);
  EXPECT_EQ(Ask(kAlice, 4, {kAlicesField, kBobsField}), 400u);
  const HeaderField as_origin{"authorization", kAlicesField.value};
  EXPECT_EQ(Ask(kAlice, 8, {kAlicesField, as_origin, as_origin}), 400u);
  EXPECT_TRUE(door->asked.empty());
  EXPECT_EQ(Refused(kAlice, 0).error, SessionError::kCredentialFields);
  EXPECT_EQ(Refused(kAlice, 0).user, "");
}

TEST_P(Access, MalformedFieldsAreTheProgramsToRead) {
  for (const auto *value : {"", " ", "Basic", "Basic =", "\xff", "Basic YWxpY2U6c2VjcmV0 "}) {
    const auto stream = 4 * door->asked.size();
    EXPECT_EQ(Ask(kAlice, stream, {{"proxy-authorization", value}}), 407u) << value;
  }
  EXPECT_EQ(door->asked.size(), 6u);
}

TEST_P(Access, AConnectionIsOneUsers) {
  ASSERT_EQ(Ask(kAlice, 0, {kAlicesField}), 200u);
  EXPECT_EQ(Ask(kAlice, 4, {kBobsField}), 403u);
  EXPECT_EQ(world.Field(kAlice, 4, "proxy-status"),
            "ngmasque;error=http_request_denied;details=\"connection is another user's\"");
  EXPECT_EQ(Ask(kAlice, 8, {}), 407u) << "the field is in each request";
  EXPECT_EQ(Refused(kAlice, 8).user, "alice") << "whose connection it is";
  EXPECT_EQ(Ask(kAlice, 12, {kAlicesField}), 200u);
  EXPECT_EQ(Ask(kBob, 0, {kBobsField}), 200u);
}

TEST_P(Access, NobodyInParticularIsAUserToo) {
  door->anybody = true;
  ASSERT_EQ(Ask(kAlice, 0, {}), 200u);
  EXPECT_EQ(Ask(kAlice, 4, {kAlicesField}), 403u);
  EXPECT_EQ(Ask(kAlice, 8, {}), 200u);
  ASSERT_EQ(Ask(kBob, 0, {kBobsField}), 200u);
  EXPECT_EQ(Ask(kBob, 4, {}), 403u);
}

TEST_P(Access, NamesHaveABound) {
  auto name = std::string(ClientKey::kMaxCredentials, 'u');
  ProxyOptions options;
  options.access = [&](const AccessRequest &) { return Admission{.user = name}; };
  world = ProxyWorld(options);
  EXPECT_EQ(Ask(kAlice, 0, {}), 200u);
  name += 'u';
  EXPECT_EQ(Ask(kBob, 0, {}), 500u);
  EXPECT_EQ(Refused(kBob, 0).error, SessionError::kUserName);
}

TEST_P(Access, CertificateIsHandedOn) {
  world.proxy.SetCertificate(kAlice, "alice.example");
  Ask(kAlice, 0, {});
  EXPECT_EQ(door->certificate, "alice.example");
  Ask(kBob, 0, {});
  EXPECT_EQ(door->certificate, "");
  world.proxy.SetCertificate(OuterConnection{99}, "nobody");
}

// What comes again on a stream is no new request.
TEST_P(Access, AStreamIsAskedAboutOnce) {
  ASSERT_EQ(Ask(kAlice, 0, {kAlicesField}), 200u);
  world.Do(world.proxy.OnRequest({.connection = kAlice, .stream = 0}, Asking(kTarget, {}), 0));
  EXPECT_EQ(door->asked.size(), 1u);
  EXPECT_EQ(world.proxy.counters().requests, 1u);
}

TEST_P(Access, Records) {
  ASSERT_EQ(Ask(kAlice, 0, {}, kName), 407u);
  const auto &refused = Refused(kAlice, 0);
  EXPECT_EQ(refused.connection, kAlice);
  EXPECT_EQ(refused.client, Tuple(1).remote);
  EXPECT_EQ(refused.authority, *ParseAuthority(kName));
  EXPECT_EQ(refused.dialect, modern() ? kRfc9298Name : kDraft00Name);
  EXPECT_EQ(refused.status, 407u);
  EXPECT_EQ(refused.error, SessionError::kUnauthenticated);

  ASSERT_EQ(Ask(kAlice, 4, {kAlicesField}, "10.0.0.1:443"), 403u);
  EXPECT_EQ(Refused(kAlice, 4).error, SessionError::kPrivateAddress);
  EXPECT_EQ(Refused(kAlice, 4).user, "alice");
  EXPECT_EQ(Refused(kAlice, 4).authority, *ParseAuthority("10.0.0.1:443"));
  ASSERT_EQ(world.ended.size(), 1u);
  EXPECT_EQ(world.ended[0].error, SessionError::kPrivateAddress) << "which has its record";
  EXPECT_EQ(world.ended[0].status, 403u);

  ASSERT_EQ(Ask(kAlice, 8, {kAlicesField}), 200u);
  EXPECT_EQ(world.answers.at({.connection = kAlice, .stream = 8}).refused, nullptr);
  world.now += 7;
  world.Close(kAlice, 8);
  ASSERT_EQ(world.ended.size(), 2u);
  const auto &record = world.ended[1];
  EXPECT_EQ(record.user, "alice");
  EXPECT_EQ(record.client, Tuple(1).remote);
  EXPECT_EQ(record.dialect, modern() ? kRfc9298Name : kDraft00Name);
  EXPECT_EQ(record.target, At("5.6.7.8", 443));
  EXPECT_EQ(record.status, 200u);
  EXPECT_EQ(record.error, std::nullopt);
  EXPECT_EQ(record.duration, 7u);

  ASSERT_EQ(Ask(kAlice, 12, {kAlicesField}, kName), 0u);
  world.Close(kAlice, 12);
  EXPECT_EQ(world.ended.back().status, 0u) << "given up before it was answered";
  EXPECT_EQ(world.ended.back().error, std::nullopt);
}

TEST_P(Access, Counters) {
  Ask(kAlice, 0, {});
  Ask(kAlice, 4, {kAlicesField}, "10.0.0.1:443");
  Ask(kAlice, 8, {kAlicesField}, kName);
  Ask(kAlice, 12, {kAlicesField});
  auto counters = world.proxy.counters();
  EXPECT_EQ(counters.errors, (std::map<SessionError, std::uint64_t>{
                               {SessionError::kUnauthenticated, 1},
                               {SessionError::kPrivateAddress, 1}}));
  EXPECT_EQ(counters.lookups_running, 1u);
  EXPECT_EQ(counters.counts.connections, 2u);
  EXPECT_EQ(counters.counts.clients, 2u);
  EXPECT_EQ(counters.counts.sockets, 1u);
  EXPECT_EQ(counters.waiting_bytes, 0u);
  EXPECT_EQ(counters.ended[static_cast<std::size_t>(EndReason::kRefused)], 1u);
  world.Close(kAlice, 12);
  world.Close(kAlice, 8);
  world.NotFound(LookupId{0}, SessionError::kNoAddress);
  counters = world.proxy.counters();
  EXPECT_EQ(counters.ended[static_cast<std::size_t>(EndReason::kClosed)], 1u);
  EXPECT_EQ(counters.ended[static_cast<std::size_t>(EndReason::kRefused)], 2u);
  EXPECT_EQ(counters.lookups_running, 0u);
}

TEST_P(Access, UsersHaveTheirTargets) {
  door->policy = Inside();
  EXPECT_EQ(Ask(kAlice, 0, {kAlicesField}, "10.0.0.1:443"), 200u);
  EXPECT_EQ(Ask(kBob, 0, {kBobsField}, "10.0.0.1:443"), 403u);
}

INSTANTIATE_TEST_SUITE_P(Dialects, Access, testing::Values(Form::kDraft00, Form::kRfc9298),
                         [](const auto &tested) {
                           return tested.param == Form::kDraft00 ? "draft00" : "rfc9298";
                         });

// A socket that one user may have is no way there for another one, who asks by the same name.
TEST(AccessOfNames, SharedSocketsAreCheckedForEachUser) {
  ProxyOptions options;
  options.access = [](const AccessRequest &request) {
    return request.proxy_authorization ? Admission{.user = "alice", .policy = Inside()}
                                       : Admission{.user = "bob"};
  };
  ProxyWorld world(options);
  const auto ask = [&](OuterConnection connection, std::string_view id, bool alice) {
    auto fields = RequestFields(WithClientId(kName, 0, id));
    if (alice) {
      fields.push_back(kAlicesField);
    }
    return world.Request(connection, 0, fields);
  };
  const auto found = [&] {
    world.Found(world.lookups.begin()->first, {At("10.0.0.1", 0)});
  };
  ASSERT_EQ(ask(kAlice, "client-1", true), 0u);
  found();
  ASSERT_EQ(world.Status(kAlice, 0), 200u);
  ASSERT_EQ(ask(kBob, "client-2", false), 0u) << "he gets a look-up of his own";
  found();
  EXPECT_EQ(world.Status(kBob, 0), 403u);
}

} // namespace
} // namespace ngmasque
