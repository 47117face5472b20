// The access log of ngmasque-proxy.

#include "access_log.h"

#include "ngmasque/values.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace ngmasque::programs {
namespace {

TunnelRecord Ended() {
  TunnelRecord record{.connection = OuterConnection{7},
                      .client = ParseEndpoint("192.0.2.1:1000").value(),
                      .user = "alice",
                      .dialect = "rfc9298",
                      .authority = Authority{.host = "target.example", .port = 443},
                      .target = ParseEndpoint("[2001:db8::1]:443").value(),
                      .status = 200,
                      .error = std::nullopt,
                      .number = 3,
                      .reason = EndReason::kClosed,
                      .duration = 1'500'000'000};
  record.statistics[Way::kForwardedToClient].passed.Add(1200, false);
  record.statistics[Way::kTunnelledToTarget].passed.Add(1100, true);
  ++record.statistics.Dropped(Way::kTunnelledToTarget, DropReason::kRateLimited);
  return record;
}

TEST(ProgramAccessLog, Tunnel) {
  const auto text = AccessLine(Ended(), 1'700'000'000'123);
  EXPECT_TRUE(text.ends_with("}\n"));
  const auto line = nlohmann::json::parse(text);
  EXPECT_EQ(line["time"], "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(line["event"], "tunnel");
  EXPECT_EQ(line["user"], "alice");
  EXPECT_EQ(line["client"], "192.0.2.1:1000");
  EXPECT_EQ(line["target"], "target.example:443");
  EXPECT_EQ(line["address"], "[2001:db8::1]:443");
  EXPECT_EQ(line["seconds"], 1.5);
  EXPECT_EQ(line["status"], 200);
  EXPECT_EQ(line["to_client"]["forwarded"]["bytes"], 1200);
  EXPECT_EQ(line["to_target"]["tunnelled"]["packets"], 1);
  EXPECT_EQ(line["to_target"]["tunnelled"]["dropped"], 1);
  EXPECT_EQ(line["drops"].size(), 1U);
  EXPECT_EQ(line["end"], ReasonName(EndReason::kClosed));
}

TEST(ProgramAccessLog, RefusedRequest) {
  TunnelRecord record{.client = ParseEndpoint("192.0.2.1:1000").value(),
                      .user = "",
                      .dialect = "",
                      .authority = std::nullopt,
                      .target = std::nullopt,
                      .status = 407,
                      .error = SessionError::kUnauthenticated};
  const auto line = nlohmann::json::parse(AccessLine(record, 0));
  EXPECT_EQ(line["event"], "refused");
  EXPECT_EQ(line["status"], 407);
  EXPECT_EQ(line["error"], ErrorName(SessionError::kUnauthenticated));
  EXPECT_TRUE(line["user"].is_null());
  EXPECT_TRUE(line["target"].is_null());
  EXPECT_FALSE(line.contains("to_client"));
}

TEST(ProgramAccessLog, StrangersDoNotFillIt) {
  StrangersLimit limit;
  constexpr std::uint64_t kSecond = 1'000'000'000;
  std::uint64_t now = 5 * kSecond;
  for (unsigned i = 0; i < StrangersLimit::kMost; ++i) {
    EXPECT_TRUE(limit.Take(now + i));
  }
  EXPECT_EQ(limit.TakeLeftOut(), 0U);
  EXPECT_FALSE(limit.Take(now + kSecond - 1));
  EXPECT_FALSE(limit.Take(now + kSecond - 1));
  EXPECT_TRUE(limit.Take(now + kSecond));
  EXPECT_EQ(limit.TakeLeftOut(), 2U);
  EXPECT_EQ(limit.TakeLeftOut(), 0U);
  EXPECT_EQ(nlohmann::json::parse(AccessLine(Ended(), 0, 2))["left_out"], 2);
  EXPECT_FALSE(nlohmann::json::parse(AccessLine(Ended(), 0)).contains("left_out"));
}

TEST(ProgramAccessLog, NamesOfPeersStayInOneString) {
  auto record = Ended();
  record.user = "a\"}\n\xff\x01";
  const auto text = AccessLine(record, 0);
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_EQ(nlohmann::json::parse(text)["user"], "a\"}\n\xef\xbf\xbd\x01");
}

TEST(ProgramAccessLog, IsAppendedTo) {
  const Log log(LogLevel::kError);
  const auto file =
    std::filesystem::path(testing::TempDir()) / ("access-" + std::to_string(::getpid()) + ".json");
  {
    AccessLog access(log);
    access.Write(Ended()); // Nowhere.
    access.Use(AccessLog::Open(file).value());
    access.Write(Ended());
    access.Use(AccessLog::Open(file).value());
    access.Write(Ended());
    EXPECT_EQ(access.lost(), 0U);
    access.Use(AccessLog::Open("/dev/full").value());
    access.Write(Ended());
    EXPECT_EQ(access.lost(), 1U);
  }
  std::ifstream in(file);
  std::string line;
  int lines = 0;
  while (std::getline(in, line)) {
    EXPECT_EQ(nlohmann::json::parse(line)["user"], "alice");
    ++lines;
  }
  EXPECT_EQ(lines, 2);
  struct stat info{};
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 007, 0U) << "not for everybody";
  std::filesystem::remove(file);
  EXPECT_EQ(AccessLog::Open("/nowhere/a").error(), "/nowhere/a: No such file or directory");
}

} // namespace
} // namespace ngmasque::programs
