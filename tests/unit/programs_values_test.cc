// Values of options as people write them.

#include "ngmasque/values.h"

#include <gtest/gtest.h>

namespace ngmasque::programs {
namespace {

using namespace std::chrono_literals;

TEST(ProgramValues, Sizes) {
  EXPECT_EQ(ParseSize("0"), 0U);
  EXPECT_EQ(ParseSize("1500"), 1500U);
  EXPECT_EQ(ParseSize("16M"), 16U << 20);
  EXPECT_EQ(ParseSize("16m"), 16U << 20);
  EXPECT_EQ(ParseSize("1k"), 1024U);
  EXPECT_EQ(ParseSize("3G"), std::uint64_t{3} << 30);
  EXPECT_EQ(ParseSize("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(ParseSize("17179869183G"), UINT64_MAX - (std::uint64_t{1} << 30) + 1);
  for (const auto *wrong : {"", "M", "-1", "+1", " 1", "1 ", "1MM", "1T", "1.5M", "0x10",
                            "18446744073709551616", "17179869184G"}) {
    EXPECT_FALSE(ParseSize(wrong)) << wrong;
  }
}

TEST(ProgramValues, Durations) {
  EXPECT_EQ(ParseDuration("0"), 0ns);
  EXPECT_EQ(ParseDuration("30"), 30s);
  EXPECT_EQ(ParseDuration("10ms"), 10ms);
  EXPECT_EQ(ParseDuration("10MS"), 10ms);
  EXPECT_EQ(ParseDuration("5us"), 5us);
  EXPECT_EQ(ParseDuration("7ns"), 7ns);
  EXPECT_EQ(ParseDuration("2m"), 2min);
  EXPECT_EQ(ParseDuration("1h"), 1h);
  EXPECT_EQ(ParseDuration("9223372036854775807ns"), std::chrono::nanoseconds::max());
  for (const auto *wrong : {"", "s", "-1s", "1d", "1 s", "1sm", "9223372036854775808ns", "2562048h",
                            "99999999999999999999"}) {
    EXPECT_FALSE(ParseDuration(wrong)) << wrong;
  }
}

TEST(ProgramValues, TextsAreReadAsWhatTheyWere) {
  for (const std::uint64_t size : {0UL, 1UL, 1023UL, 1024UL, 65'536UL, 3UL << 30, UINT64_MAX}) {
    EXPECT_EQ(ParseSize(SizeText(size)), size);
  }
  for (const std::chrono::nanoseconds duration : {0ns, 1ns, 999ns, 1000ns, 30'000'000'000ns, 90'000'000'000ns}) {
    EXPECT_EQ(ParseDuration(DurationText(duration)), duration);
  }
  EXPECT_EQ(SizeText(4 << 20), "4M");
  EXPECT_EQ(DurationText(90s), "90s");
  EXPECT_EQ(DurationText(2h), "2h");
  for (const auto *text : {"127.0.0.1:443", "[::1]:0", "[2001:db8::1]:65535", "0.0.0.0:1"}) {
    ASSERT_TRUE(ParseEndpoint(text)) << text;
    EXPECT_EQ(EndpointText(*ParseEndpoint(text)), text);
  }
}

TEST(ProgramValues, WrongEndpoints) {
  for (const auto *wrong : {"", ":443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:443",
                            "[127.0.0.1]:443", "[::1]", "localhost:443", "[::1]:443x", "127.1:443"}) {
    EXPECT_FALSE(ParseEndpoint(wrong)) << wrong;
  }
}

TEST(ProgramValues, Switches) {
  EXPECT_EQ(ParseSwitch("on"), true);
  EXPECT_EQ(ParseSwitch("true"), true);
  EXPECT_EQ(ParseSwitch("off"), false);
  EXPECT_EQ(ParseSwitch("false"), false);
  EXPECT_FALSE(ParseSwitch("yes"));
  EXPECT_FALSE(ParseSwitch(""));
}

} // namespace
TEST(Wildcards, AreAllAddressesOfAFamily) {
  using ngmasque::programs::IsWildcard;
  for (const auto &[text, all] : {std::pair("0.0.0.0:1", true), {"[::]:1", true}, {"192.0.2.0:1", false},
                                  {"[2001:db8::]:1", false}, {"127.0.0.1:1", false}}) {
    EXPECT_EQ(IsWildcard(ngmasque::programs::ParseEndpoint(text).value()), all) << text;
  }
}

} // namespace ngmasque::programs
