#include "ngmasque/session/proxy_authorization.h"

#include <gtest/gtest.h>

#include <string>

namespace ngmasque {
namespace {

// The examples of RFC 7617, sections 2 and 2.1.
TEST(ProxyAuthorization, Basic) {
  EXPECT_EQ(BasicAuthorization("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
  EXPECT_EQ(BasicAuthorization("test", "123\u00a3"), "Basic dGVzdDoxMjPCow==");
  EXPECT_EQ(BasicAuthorization("a", ""), "Basic YTo=");
  EXPECT_EQ(BasicAuthorization("", "a:b"), "Basic OmE6Yg==") << "a colon in the secret is fine";
}

TEST(ProxyAuthorization, BasicThatCannotBe) {
  EXPECT_FALSE(BasicAuthorization("a:b", "c"));
  EXPECT_FALSE(BasicAuthorization("a\n", "c"));
  EXPECT_FALSE(BasicAuthorization("a", "c\x7f"));
  EXPECT_FALSE(BasicAuthorization("a", std::string(1, '\0')));
  EXPECT_FALSE(BasicAuthorization("a", std::string(kMaxAuthorization, 'b')));
}

TEST(ProxyAuthorization, Bearer) {
  EXPECT_EQ(BearerAuthorization("mF_9.B5f-4.1JqM"), "Bearer mF_9.B5f-4.1JqM");
  EXPECT_EQ(BearerAuthorization("aZ09-._~+/=="), "Bearer aZ09-._~+/==");
  for (const auto *token : {"", "=", "a b", "a=b", "a\r\nx: y", "\u00e4"}) {
    EXPECT_FALSE(BearerAuthorization(token)) << token;
  }
  EXPECT_TRUE(BearerAuthorization(std::string(kMaxAuthorization - 7, 'a')));
  EXPECT_FALSE(BearerAuthorization(std::string(kMaxAuthorization - 6, 'a')));
}

TEST(ProxyAuthorization, FieldValue) {
  EXPECT_TRUE(IsAuthorization(""));
  EXPECT_TRUE(IsAuthorization("Scheme a=\"b\", c"));
  for (const auto *value : {" a", "a ", "a\r\nb: c", "a\tb", "\x7f", "\u00e4"}) {
    EXPECT_FALSE(IsAuthorization(value)) << value;
  }
}

} // namespace
} // namespace ngmasque
