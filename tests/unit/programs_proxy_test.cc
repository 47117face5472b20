// ngmasque-proxy's configuration, and what it writes.

#include "access_log.h"
#include "metrics.h"
#include "options.h"
#include "programs_support.h"
#include "configured.h"

#include "ngmasque/manual.h"

#include <gtest/gtest.h>

#include <fstream>

#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace ngmasque::programs {
namespace {

class ProgramSetup : public testing::Test {
protected:
  ~ProgramSetup() override { std::filesystem::remove_all(directory_); }

  // Its path.
  std::string Write(const char *name, std::string_view text) {
    const auto file = directory_ / name;
    std::ofstream(file) << text;
    return file.string();
  }
  std::expected<Configured, Complaint> Read(std::vector<std::string> words, const std::vector<int> &passed = {}) {
    ProxyProgramOptions options;
    return Load(ReadWords(ProxyProgram(options), std::move(words)).value(), passed);
  }
  std::string Wrong(std::vector<std::string> words) {
    const auto setup = Read(std::move(words));
    return setup ? "" : setup.error();
  }

  static std::filesystem::path MakeDirectory() {
    auto name = testing::TempDir() + "/ngmasque-proxy-XXXXXX";
    return ::mkdtemp(name.data()) ? name : "";
  }
  std::filesystem::path directory_ = MakeDirectory();
};

TEST_F(ProgramSetup, SaysWhatIsMissing) {
  EXPECT_EQ(Wrong({}), "cert is missing: no client connects without a certificate: --cert=<FILE>");
  EXPECT_EQ(Wrong({"--cert=/nowhere/c"}), "key is missing: no client connects without a certificate: --key=<FILE>");
  EXPECT_EQ(Wrong({"--cert=/nowhere/c", "--key=/nowhere/k"}), "/nowhere/c: No such file or directory");
  const auto text = Write("text.pem", "no certificate");
  EXPECT_TRUE(Wrong({"--cert", text, "--key", text}).contains("a certificate in PEM and its own key are needed"));
  EXPECT_EQ(Wrong({"--metrics=192.0.2.1:9100"}),
            "--metrics must be a port of a loopback address, such as 127.0.0.1:9100: everybody who gets there can "
            "read it");
  EXPECT_EQ(Wrong({"--min-connection-id=256"}), "--min-connection-id must be a number of 0 to 255");
}

TEST_F(ProgramSetup, SampleAndTableAgree) {
  ProxyProgramOptions options;
  const auto program = ProxyProgram(options);
  const auto read = ParseConfiguration(program, SampleConfiguration(program), "sample");
  ASSERT_TRUE(read) << read.error();
  EXPECT_TRUE(read->values.empty());
  std::set<std::string> names;
  for (const auto &option : program.options) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    EXPECT_TRUE(option.command_line_only || option.set) << option.name;
    // Its own default can be set.
    if (!option.initial.empty()) {
      EXPECT_TRUE(option.set(option.initial)) << option.name;
    }
  }
}

TEST_F(ProgramSetup, WhatNeedsANewStart) {
  Configured before, after;
  before.settings.values["listen"] = {{.text = "127.0.0.1:1", .where = ""}};
  before.settings.values["cert"] = {{.text = "a", .where = ""}};
  after.settings.values["cert"] = {{.text = "b", .where = ""}};
  after.settings.values["rate-per-client"] = {{.text = "5", .where = ""}};
  EXPECT_EQ(NeedRestart(before, after), (std::vector<std::string>{"listen", "rate-per-client"}));
  EXPECT_TRUE(NeedRestart(before, before).empty());
}

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

TEST(ProgramAccessLog, NamesOfPeersStayInOneString) {
  auto record = Ended();
  record.user = "a\"}\n\xff\x01";
  const auto text = AccessLine(record, 0);
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_EQ(nlohmann::json::parse(text)["user"], "a\"}\n\xef\xbf\xbd\x01");
}

TEST_F(ProgramSetup, AccessLogIsAppendedTo) {
  const Log log(LogLevel::kError);
  const auto file = directory_ / "access.json";
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
  EXPECT_EQ(AccessLog::Open("/nowhere/a").error(), "/nowhere/a: No such file or directory");
}

} // namespace
} // namespace ngmasque::programs
