// A small program's options, for tests of what all programs share.
#pragma once

#include "ngmasque/option.h"
#include "ngmasque/settings.h"

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace ngmasque::programs {

struct SampleOptions {
  std::vector<Endpoint> listen{};
  std::filesystem::path cert{};
  std::filesystem::path qlog_dir{};
  std::string target{};
  bool open = false;
  std::uint64_t rate = 16 << 20;
  std::uint16_t sockets = 20'000;
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);
};

// `options` has to outlive what is returned.
inline Program SampleProgram(SampleOptions &options) {
  Program program{.name = "sample-proxy", .purpose = "show options",
                  .description = "A program that does nothing. It's for tests.\n\n.Second paragraph."};
  program.options = {
    Endpoints({.section = "Network", .name = "listen", .argument = "<ADDRESS:PORT>", .help = "Listen there."},
              options.listen),
    Path({.section = "Network", .name = "cert", .argument = "<FILE>", .help = "The certificate."},
         options.cert),
    Text({.section = "Network", .name = "target", .argument = "<TARGET>", .help = "Where to.", .operand = true},
         options.target),
    Switch({.section = "Bounds", .name = "open", .help = "Let everybody in."}, options.open),
    Number({.section = "Bounds", .name = "rate", .argument = "<SIZE>", .help = "Bytes a second.", .grouped = true},
           options.rate, 0),
    Number({.section = "Bounds", .name = "sockets", .argument = "<N>", .help = "How many."}, options.sockets),
    Duration({.section = "Bounds", .name = "timeout", .argument = "<DURATION>", .help = "How long."},
             options.timeout),
    Path({.section = "Logs", .name = "qlog-dir", .argument = "<DIR>", .help = "Where qlogs go.",
          .environment = "NGM_TEST_QLOGDIR"},
         options.qlog_dir),
  };
  program.group = "policy";
  program.group_help = "For users of the policy NAME.";
  program.notes = {{.title = "SIGNALS", .text = "None."}};
  AddStandardOptions(program);
  return program;
}

// What the command line says, or the complaint.
inline std::expected<Settings, Complaint> ReadWords(const Program &program, std::vector<std::string> words) {
  words.insert(words.begin(), program.name);
  std::vector<char *> pointers;
  for (auto &word : words) {
    pointers.push_back(word.data());
  }
  const auto count = int(pointers.size());
  pointers.push_back(nullptr);
  return ReadCommandLine(program, count, pointers.data());
}

} // namespace ngmasque::programs
