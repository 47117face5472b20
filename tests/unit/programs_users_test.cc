// The users of ngmasque-proxy, and how it knows them.

#include "access.h"
#include "credentials.h"
#include "users.h"

#include <gtest/gtest.h>

#include <set>

#include <ngmasque/session/target_policy.h>

namespace ngmasque::programs {
namespace {

// printf secret | sha256sum
constexpr std::string_view kHash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
// printf other | sha256sum
constexpr std::string_view kOther = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

std::string Line(std::string_view name, std::string_view hash = kHash) {
  return std::string(name) + ":sha256:" + std::string(hash);
}

TEST(ProgramUsers, AreReadFromTheFile) {
  const auto users = Users::Parse("# all of them\n\n" + Line("alice") + " wide\r\n" + Line("bob", kOther), "users");
  ASSERT_TRUE(users) << users.error();
  EXPECT_EQ(users->size(), 2U);
  const auto *alice = users->Find("alice", "secret");
  ASSERT_TRUE(alice);
  EXPECT_EQ(alice->name, "alice");
  EXPECT_EQ(alice->policy, "wide");
  EXPECT_EQ(users->FindBySecret("secret"), alice);
  const auto *bob = users->Find("bob", "other");
  ASSERT_TRUE(bob);
  EXPECT_EQ(bob->policy, "");
}

TEST(ProgramUsers, WrongSecretsAndNames) {
  const auto users = Users::Parse(Line("alice") + "\n" + Line("bob", kOther) + "\n", "users").value();
  EXPECT_FALSE(users.Find("alice", "other"));
  EXPECT_FALSE(users.Find("alice", ""));
  EXPECT_FALSE(users.Find("alice", "Secret"));
  EXPECT_FALSE(users.Find("alice", std::string_view("secret\0", 7)));
  EXPECT_FALSE(users.Find("nobody", "secret"));
  EXPECT_FALSE(users.Find("", ""));
  EXPECT_FALSE(users.FindBySecret("Secret"));
  EXPECT_FALSE(users.FindBySecret(""));
  EXPECT_FALSE(users.FindBySecret(kHash)) << "the file is no list of secrets";
}

TEST(ProgramUsers, ComplaintsHaveTheLine) {
  const auto wrong = [](const std::string &text) {
    const auto users = Users::Parse(text, "users");
    return users ? "" : users.error();
  };
  EXPECT_TRUE(wrong("\nalice\n").starts_with("users:2: a line begins with a name"));
  EXPECT_TRUE(wrong(":sha256:").starts_with("users:1: a line begins with a name"));
  EXPECT_TRUE(wrong("a b:sha256:" + std::string(kHash)).starts_with("users:1: a line begins with a name"));
  EXPECT_TRUE(wrong(Line(std::string(65, 'a'))).starts_with("users:1: a line begins with a name"));
  EXPECT_EQ(wrong(Line(std::string(64, 'a'))), "");
  EXPECT_EQ(wrong("alice:secret"), "users:1: after the name comes sha256: see --add-user");
  EXPECT_EQ(wrong("alice:md5:00"), "users:1: after the name comes sha256: see --add-user");
  for (const auto &hash : {"", "00", "2bB80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}) {
    EXPECT_TRUE(wrong(Line("alice", hash)).starts_with("users:1: after the last colon come 64 digits")) << hash;
  }
  EXPECT_TRUE(wrong(Line("a") + " two words").starts_with("users:1: after the hash comes"));
  EXPECT_TRUE(wrong(Line("a") + "\n" + Line("a", kOther)).starts_with("users:2: a is there already"));
  EXPECT_TRUE(wrong(Line("a") + "\n" + Line("b")).starts_with("users:2: b is there already, or its secret"));
}

TEST(ProgramUsers, DrawnSecretsWork) {
  std::set<std::string> drawn;
  for (int i = 0; i < 8; ++i) {
    const auto secret = DrawSecret().value();
    EXPECT_EQ(secret.size(), 32U);
    EXPECT_TRUE(drawn.insert(secret).second);
    EXPECT_TRUE(Users::Parse(UserLine("carol", secret), "users").value().Find("carol", secret));
  }
}

TEST(ProgramCredentials, BasicAndBearer) {
  const auto basic = ParseCredentials("Basic YWxpY2U6c2VjcmV0"); // alice:secret
  ASSERT_TRUE(basic);
  EXPECT_EQ(basic->name, "alice");
  EXPECT_EQ(basic->secret, "secret");
  EXPECT_EQ(ParseCredentials("bASIC   YWxpY2U6YTpi")->secret, "a:b"); // alice:a:b
  const auto bearer = ParseCredentials("Bearer secret");
  ASSERT_TRUE(bearer);
  EXPECT_FALSE(bearer->name);
  EXPECT_EQ(bearer->secret, "secret");
  for (const auto *wrong : {"", "Basic", "Basic ", "Bearer", "Bearer  ", "BasicYWxpY2U6c2VjcmV0", "Basic !!!",
                            "Basic YWxpY2U=" /* alice */, "Digest a=b", "YWxpY2U6c2VjcmV0"}) {
    EXPECT_FALSE(ParseCredentials(wrong)) << wrong;
  }
}

Endpoint At(std::string_view address, std::uint16_t port = 1) {
  return {.address = ParseAddress(address).value(), .port = port};
}

TEST(ProgramFailures, AreForgivenOneByOne) {
  Failures failures(HashKey{.k0 = 1, .k1 = 2});
  const auto here = At("192.0.2.1");
  std::uint64_t now = 1'000;
  for (unsigned i = 0; i < Failures::kMost; ++i) {
    EXPECT_TRUE(failures.MayTry(here, now));
    failures.OnFailure(here, now);
  }
  EXPECT_FALSE(failures.MayTry(here, now));
  EXPECT_EQ(failures.Wait(here, now), Failures::kRecovery);
  EXPECT_EQ(failures.Wait(here, now + 7), Failures::kRecovery - 7);
  EXPECT_FALSE(failures.MayTry(At("192.0.2.1", 2), now)) << "a port is no other address";
  EXPECT_TRUE(failures.MayTry(At("192.0.2.2"), now));
  EXPECT_FALSE(failures.MayTry(here, now + Failures::kRecovery - 1));
  now += Failures::kRecovery;
  EXPECT_TRUE(failures.MayTry(here, now));
  failures.OnFailure(here, now);
  EXPECT_FALSE(failures.MayTry(here, now));
  EXPECT_TRUE(failures.MayTry(here, now + Failures::kMost * Failures::kRecovery));
}

TEST(ProgramFailures, TableIsBounded) {
  Failures failures(HashKey{.k0 = 1, .k1 = 2});
  const auto address = [](std::size_t number) {
    auto at = At("10.0.0.0");
    at.address[14] = std::uint8_t(number >> 8);
    at.address[15] = std::uint8_t(number);
    return at;
  };
  for (unsigned i = 0; i < Failures::kMost; ++i) {
    failures.OnFailure(address(0), 1);
    failures.OnFailure(address(1), 1);
  }
  for (std::size_t i = 2; i < Failures::kMaxAddresses; ++i) {
    failures.OnFailure(address(i), 1);
  }
  failures.OnFailure(address(0), 2); // It is the latest now.
  EXPECT_EQ(failures.addresses(), Failures::kMaxAddresses);
  failures.OnFailure(address(Failures::kMaxAddresses), 2);
  EXPECT_EQ(failures.addresses(), Failures::kMaxAddresses);
  EXPECT_FALSE(failures.MayTry(address(0), 2));
  EXPECT_TRUE(failures.MayTry(address(1), 2)) << "the oldest is forgotten";
}

class ProgramAccess : public testing::Test {
protected:
  ProgramAccess() { Use(Line("alice") + " wide\n" + Line("bob", kOther)); }

  void Use(const std::string &text) {
    access_.Replace(std::make_shared<const Users>(Users::Parse(text, "users").value()), {{"wide", {.targets = wide_, .max_bytes_per_second = 5}}}, false);
  }
  // What the fields and the certificate say; empty: it is not there.
  struct Said {
    std::string_view proxy_authorization = {};
    std::string_view authorization = {};
    std::string_view certificate = {};
  };
  // The user, or the error.
  std::expected<std::string, SessionError> Decide(const Said &said) {
    AccessRequest request{.client = At("192.0.2.1"),
                          .certificate = said.certificate,
                          .proxy_authorization = std::nullopt,
                          .authorization = std::nullopt};
    if (!said.proxy_authorization.empty()) {
      request.proxy_authorization = said.proxy_authorization;
    }
    if (!said.authorization.empty()) {
      request.authorization = said.authorization;
    }
    const auto decision = access_.Decide(request, 1'000);
    if (!decision) {
      last_ = decision.error();
      return std::unexpected(decision.error().error);
    }
    policy_ = decision->policy;
    rate_ = decision->max_bytes_per_second;
    grant_ = decision->grant;
    return decision->user;
  }

  Access access_{HashKey{.k0 = 1, .k1 = 2}};
  std::shared_ptr<const TargetPolicy> wide_ = std::make_shared<const TargetPolicy>();
  std::shared_ptr<const TargetPolicy> policy_;
  std::optional<std::uint64_t> rate_;
  std::uint64_t grant_ = 0;
  AccessRefusal last_;
};

TEST_F(ProgramAccess, EitherField) {
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer secret"}), "alice");
  EXPECT_EQ(policy_, wide_);
  EXPECT_EQ(rate_, 5U);
  EXPECT_EQ(Decide({.authorization = "Bearer other"}), "bob");
  EXPECT_EQ(policy_, nullptr);
  EXPECT_EQ(rate_, std::nullopt);
  // The proxy's own counts.
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer no", .authorization = "Bearer other"}),
            std::unexpected(SessionError::kUnauthenticated));
}

TEST_F(ProgramAccess, ChallengesAndLimits) {
  for (unsigned i = 0; i < 3 * Failures::kMost; ++i) {
    EXPECT_EQ(Decide({}), std::unexpected(SessionError::kUnauthenticated)) << "none is no attempt";
  }
  EXPECT_EQ(last_.challenges.size(), 2U);
  for (unsigned i = 0; i < Failures::kMost; ++i) {
    EXPECT_EQ(Decide({.proxy_authorization = "Bearer no"}), std::unexpected(SessionError::kUnauthenticated));
  }
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer no"}), std::unexpected(SessionError::kTooManyFailures));
  EXPECT_EQ(last_.retry_after, 6U);
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer secret"}), std::unexpected(SessionError::kTooManyFailures))
    << "be it right or wrong";
}

TEST_F(ProgramAccess, Certificates) {
  EXPECT_EQ(Decide({.certificate = "alice"}), "alice");
  EXPECT_EQ(policy_, wide_);
  EXPECT_EQ(Decide({.certificate = "carol"}), "carol");
  EXPECT_EQ(policy_, nullptr);
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer no", .certificate = "alice"}),
            std::unexpected(SessionError::kUnauthenticated));
  const std::string longer(65, 'a');
  EXPECT_EQ(Decide({.certificate = longer}), std::unexpected(SessionError::kNotAllowed));
}

// Of those who are there already.
TEST_F(ProgramAccess, Review) {
  const auto grant = [this](const Said &said) {
    EXPECT_TRUE(Decide(said));
    return grant_;
  };
  const auto alices = grant({.proxy_authorization = "Bearer secret"});
  const auto bobs = grant({.authorization = "Bearer other"});
  const auto certificate = grant({.certificate = "alice"});
  const auto stays = [this](std::string_view user, std::uint64_t with) {
    return access_.Review({.user = user, .grant = with}).has_value();
  };
  EXPECT_TRUE(stays("alice", alices));
  EXPECT_TRUE(stays("bob", bobs));
  EXPECT_EQ(access_.Review({.user = "alice", .grant = alices})->max_bytes_per_second, 5U);

  // One is removed, the other one has another secret.
  Use(Line("bob"));
  EXPECT_FALSE(stays("alice", alices));
  EXPECT_FALSE(stays("bob", bobs));
  EXPECT_TRUE(stays("alice", certificate)) << "that is still good";
  EXPECT_EQ(access_.Review({.user = "alice", .grant = certificate})->max_bytes_per_second, std::nullopt);

  // Everybody, and then not everybody any more.
  access_.Replace(nullptr, {}, true);
  const auto nobodys = grant({});
  EXPECT_TRUE(stays("", nobodys));
  EXPECT_FALSE(stays("alice", alices)) << "she would be nobody in particular";
  access_.Replace(nullptr, {}, false);
  EXPECT_FALSE(stays("", nobodys));
  Use(Line("alice"));
  EXPECT_FALSE(stays("", nobodys));
  EXPECT_TRUE(stays("alice", alices));
}

TEST_F(ProgramAccess, ReplacedUsers) {
  Use(Line("bob"));
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer secret"}), "bob");
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer other"}), std::unexpected(SessionError::kUnauthenticated));
  access_.Replace(nullptr, {}, true);
  EXPECT_EQ(Decide({}), "");
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer other"}), "");
  // Those with certificates only.
  access_.Replace(nullptr, {}, false);
  EXPECT_EQ(Decide({}), std::unexpected(SessionError::kNotAllowed));
  EXPECT_EQ(Decide({.proxy_authorization = "Bearer other"}), std::unexpected(SessionError::kNotAllowed));
  EXPECT_EQ(Decide({.certificate = "alice"}), "alice");
}

} // namespace
} // namespace ngmasque::programs
