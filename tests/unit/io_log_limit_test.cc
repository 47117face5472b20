// LogLimit: what a peer can bring about does not fill a log.

#include "ngmasque/io/common.h"

#include <gtest/gtest.h>

namespace ngmasque {
namespace {

TEST(LogLimit, OneLineInASecond) {
  constexpr std::uint64_t start = 5'000'000'000'000;
  LogLimit limit;
  EXPECT_EQ(limit.Take(start), "");
  int lines = 0;
  for (std::uint64_t after = 0; after < LogLimit::kInterval; after += LogLimit::kInterval / 1000) {
    lines += limit.Take(start + after).has_value();
  }
  EXPECT_EQ(lines, 0);
  EXPECT_EQ(limit.Take(start + LogLimit::kInterval), "; 1000 more since the last time");
  EXPECT_EQ(limit.Take(start + LogLimit::kInterval), std::nullopt);
  EXPECT_EQ(limit.Take(start + 9 * LogLimit::kInterval), "; 1 more since the last time");
  EXPECT_EQ(limit.Take(start + 10 * LogLimit::kInterval), "");
}

} // namespace
} // namespace ngmasque
