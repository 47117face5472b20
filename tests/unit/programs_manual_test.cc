// What is written about the programs, from their options.

#include "ngmasque/manual.h"
#include "ngmasque/exit_code.h"
#include "programs_support.h"

#include <gtest/gtest.h>

#include <sstream>

namespace ngmasque::programs {
namespace {

class ProgramManual : public testing::Test {
protected:
  SampleOptions options_;
  Program program_ = SampleProgram(options_);
};

std::vector<std::string> Lines(const std::string &text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  return lines;
}

TEST_F(ProgramManual, HelpHasEveryOption) {
  const auto text = HelpText(program_);
  EXPECT_TRUE(text.starts_with("Usage: sample-proxy [OPTION]... <TARGET>\n"));
  EXPECT_TRUE(text.contains("  --rate=<SIZE>\n              Bytes a second. Default: 16M.\n"));
  EXPECT_TRUE(text.contains("  --open\n"));
  EXPECT_TRUE(text.contains("Listen there. It can be repeated.\n"));
  EXPECT_TRUE(text.contains("Without it $NGM_TEST_QLOGDIR is used."));
  EXPECT_TRUE(text.contains("\n.Second paragraph.\n"));
  for (const auto &option : program_.options) {
    EXPECT_TRUE(text.contains(option.operand ? option.argument : "--" + option.name)) << option.name;
  }
  for (const auto &line : Lines(text)) {
    EXPECT_LE(line.size(), 80U) << line;
  }
}

TEST_F(ProgramManual, ManPage) {
  const auto text = ManPage(program_);
  for (const auto *section : {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SIGNALS"}) {
    EXPECT_TRUE(text.contains(std::string("\n.SH ") + section + "\n")) << section;
  }
  EXPECT_TRUE(text.contains("\\fB\\-\\-rate\\fR=\\fI<SIZE>\\fR\nBytes a second. Default: 16M.\n"));
  EXPECT_TRUE(text.contains("\n\\&.Second paragraph.\n"));
  for (const auto &[code, meaning] : kExitCodes) {
    EXPECT_TRUE(text.contains(std::format(".TP\n{}\n", int(code))));
  }
}

TEST_F(ProgramManual, SampleIsAFileThatSaysNothing) {
  const auto text = SampleConfiguration(program_);
  const auto read = ParseConfiguration(program_, text, "sample.toml");
  ASSERT_TRUE(read) << read.error();
  EXPECT_TRUE(read->values.empty());
  EXPECT_TRUE(read->groups.empty());
  EXPECT_TRUE(text.contains("\n#listen = [\"<ADDRESS:PORT>\"]\n"));
}

TEST_F(ProgramManual, SampleHasTheDefaults) {
  // Without the marks of comments.
  std::string text;
  for (const auto &line : Lines(SampleConfiguration(program_))) {
    const bool setting = line.starts_with("#") && !line.starts_with("# ") && line.contains('=');
    text += setting && !line.contains("[policy") && !line.contains('<') ? line.substr(1) + "\n" : "";
    if (line.contains("[policy")) {
      break;
    }
  }
  const auto read = ParseConfiguration(program_, text, "sample.toml");
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->values.size(), 4U); // open, rate, sockets, timeout
  const auto before = options_;
  options_ = {.open = true, .rate = 1, .sockets = 1, .timeout = std::chrono::seconds(1)};
  ASSERT_TRUE(Apply(program_, read->values));
  EXPECT_EQ(options_.open, before.open);
  EXPECT_EQ(options_.rate, before.rate);
  EXPECT_EQ(options_.sockets, before.sockets);
  EXPECT_EQ(options_.timeout, before.timeout);
}

TEST_F(ProgramManual, Completion) {
  const auto text = BashCompletion(program_);
  EXPECT_TRUE(text.starts_with("_sample_proxy() {\n"));
  EXPECT_TRUE(text.contains("--cert|--config) mapfile -t COMPREPLY < <(compgen -f"));
  EXPECT_TRUE(text.contains("--qlog-dir) mapfile -t COMPREPLY < <(compgen -d"));
  EXPECT_TRUE(text.contains(" --open "));
  EXPECT_TRUE(text.ends_with("complete -o filenames -F _sample_proxy sample-proxy\n"));
}

TEST_F(ProgramManual, Version) {
  const auto text = VersionText(program_);
  EXPECT_TRUE(text.starts_with("sample-proxy "));
  EXPECT_TRUE(text.contains("ngtcp2 1."));
  EXPECT_TRUE(text.contains("nghttp3 1."));
  EXPECT_TRUE(text.contains("draft-ietf-masque-quic-proxy-06, -08 and -09"));
}

} // namespace
} // namespace ngmasque::programs
