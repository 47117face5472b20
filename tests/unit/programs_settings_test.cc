// Command line, configuration file and environment of the programs.

#include "programs_support.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace ngmasque::programs {
namespace {

class ProgramSettings : public testing::Test {
protected:
  // Complaint about the words, or about what they set.
  std::string Wrong(std::vector<std::string> words) {
    const auto read = ReadWords(program_, std::move(words));
    if (!read) {
      return read.error();
    }
    const auto applied = Apply(program_, read->values);
    return applied ? "" : applied.error();
  }

  // The same of a file's text.
  std::string WrongText(std::string_view text) {
    const auto read = ParseConfiguration(program_, text, "a.toml");
    if (!read) {
      return read.error();
    }
    const auto applied = Apply(program_, read->values);
    return applied ? "" : applied.error();
  }

  SampleOptions options_;
  Program program_ = SampleProgram(options_);
};

TEST_F(ProgramSettings, CommandLine) {
  const auto read = ReadWords(program_, {"--listen=127.0.0.1:443", "--listen", "[::1]:443", "--open", "--rate=1K",
                                         "--rate=2K", "--timeout=10ms", "example:5", "--cert=a.pem"});
  ASSERT_TRUE(read) << read.error();
  ASSERT_TRUE(Apply(program_, read->values));
  ASSERT_EQ(options_.listen.size(), 2U);
  EXPECT_EQ(EndpointText(options_.listen[1]), "[::1]:443");
  EXPECT_TRUE(options_.open);
  EXPECT_EQ(options_.rate, 2048U); // The last one.
  EXPECT_EQ(options_.timeout, std::chrono::milliseconds(10));
  EXPECT_EQ(options_.target, "example:5");
  EXPECT_EQ(options_.cert, "a.pem");
  EXPECT_EQ(Wrong({"--open=off"}), "");
  EXPECT_FALSE(options_.open);
}

TEST_F(ProgramSettings, ComplaintsAboutTheCommandLine) {
  EXPECT_EQ(Wrong({"--listn=1"}), "--listn is no option, or takes no value; see sample-proxy --help");
  EXPECT_EQ(Wrong({"--open", "--cert"}), "--cert needs a value; see sample-proxy --help");
  EXPECT_EQ(Wrong({"--check=1"}), "--check is no option, or takes no value; see sample-proxy --help");
  EXPECT_EQ(Wrong({"a", "b"}), "b is one argument too many; see sample-proxy --help");
  EXPECT_EQ(Wrong({"--sockets=0"}), "--sockets must be a number of 1 or more, maybe with K, M or G");
  EXPECT_EQ(Wrong({"--sockets=65536"}), "--sockets must be a number of 1 or more, maybe with K, M or G");
  EXPECT_EQ(Wrong({"--listen=443"}),
            "--listen must be <ADDRESS>:<PORT>, such as 127.0.0.1:443 or [::]:443");
  EXPECT_EQ(Wrong({"--timeout=0"}), "--timeout must be longer than zero");
  EXPECT_EQ(Wrong({"--cert="}), "--cert must be a text that is not empty");
  EXPECT_EQ(Wrong({"--open=maybe"}), "--open must be on or off");
}

TEST_F(ProgramSettings, File) {
  const auto read = ParseConfiguration(program_, R"(
listen = ["127.0.0.1:443", "[::1]:443"]
open = true
rate = "16K"
sockets = 5
target = "example:5"
[policy.alice]
rate = 7
)",
                                       "a.toml");
  ASSERT_TRUE(read) << read.error();
  ASSERT_TRUE(Apply(program_, read->values));
  EXPECT_EQ(options_.listen.size(), 2U);
  EXPECT_TRUE(options_.open);
  EXPECT_EQ(options_.rate, 16'384U);
  EXPECT_EQ(options_.sockets, 5U);
  EXPECT_EQ(options_.target, "example:5");
  ASSERT_TRUE(read->groups.contains("alice"));
  ASSERT_TRUE(Apply(program_, read->groups.find("alice")->second));
  EXPECT_EQ(options_.rate, 7U);
  EXPECT_EQ(WrongText("listen = \"127.0.0.1:1\""), ""); // One of them needs no brackets.
}

TEST_F(ProgramSettings, ComplaintsAboutTheFile) {
  EXPECT_EQ(WrongText("\nlistn = 1"),
            "a.toml:2: there is no option listn: did you mean listen?; see sample-proxy --help");
  EXPECT_EQ(WrongText("nothing-like-it = 1"), "a.toml:1: there is no option nothing-like-it; see sample-proxy --help");
  EXPECT_EQ(WrongText("\n\nopen = \"yes\""), "a.toml:3: open must be true or false, without quotes");
  EXPECT_EQ(WrongText("rate = true"),
            "a.toml:1: rate must be a number, or one with a unit in quotes, such as \"16M\" or \"10ms\"");
  EXPECT_EQ(WrongText("rate = -1"), "a.toml:1: rate must be a number of 0 or more, maybe with K, M or G");
  EXPECT_EQ(WrongText("cert = 5"), "a.toml:1: cert must be a text in quotes");
  EXPECT_EQ(WrongText("cert = ['a', 'b']"), "a.toml:1: cert must be a text in quotes");
  EXPECT_EQ(WrongText("listen = [\n'127.0.0.1:1',\n5]"),
            "a.toml:3: listen must be a text in quotes, or several of them in [brackets]");
  EXPECT_EQ(WrongText("listen = [\n'127.0.0.1:1',\n'x']"),
            "a.toml:3: listen must be <ADDRESS>:<PORT>, such as 127.0.0.1:443 or [::]:443");
  EXPECT_EQ(WrongText("check = true"), "a.toml:1: check is for the command line only: --check");
  EXPECT_EQ(WrongText("policy = 1"), "a.toml:1: policy is a table: write [policy.NAME]");
  EXPECT_EQ(WrongText("[policy]\nrate = 1"), "a.toml:2: policy.rate is a table: write [policy.rate]");
  EXPECT_EQ(WrongText("[policy.a]\nsockets = 1"),
            "a.toml:2: sockets cannot be set for one policy alone: move it above the first [table]");
  EXPECT_TRUE(WrongText("open = tru").starts_with("a.toml:1: this is no TOML: "));
  EXPECT_TRUE(WrongText("open = true\nopen = true").starts_with("a.toml:2: this is no TOML: "));
}

TEST_F(ProgramSettings, CommandLineWinsOverTheFileAndThatOverTheEnvironment) {
  const auto directory = std::filesystem::path(testing::TempDir()) / std::to_string(::getpid());
  std::filesystem::create_directory(directory);
  const auto file = directory / "a.toml";
  ASSERT_TRUE(std::ofstream(file) << "listen = '127.0.0.1:1'\nrate = 1\nqlog-dir = 'file'\n" << std::flush);
  const auto complete = [&](std::vector<std::string> words) {
    options_ = {};
    const auto settings = Complete(program_, ReadWords(program_, std::move(words)).value());
    ASSERT_TRUE(settings) << settings.error();
    ASSERT_TRUE(Apply(program_, settings->values));
  };
  ::setenv("NGM_TEST_QLOGDIR", "environment", 1);
  complete({"--config", file.string(), "--listen=127.0.0.1:2"});
  EXPECT_EQ(options_.listen.size(), 1U); // Those of the file are replaced, not added to.
  EXPECT_EQ(options_.listen[0].port, 2);
  EXPECT_EQ(options_.rate, 1U);
  EXPECT_EQ(options_.qlog_dir, "file");
  complete({});
  EXPECT_EQ(options_.qlog_dir, "environment");
  complete({"--qlog-dir=here"});
  EXPECT_EQ(options_.qlog_dir, "here");
  ::unsetenv("NGM_TEST_QLOGDIR");
  complete({});
  EXPECT_EQ(options_.qlog_dir, "");
  const auto missing = Complete(program_, ReadWords(program_, {"--config=/nowhere/a.toml"}).value());
  EXPECT_EQ(missing.error(), "/nowhere/a.toml: No such file or directory");
  std::filesystem::remove_all(directory);
}

} // namespace
} // namespace ngmasque::programs
