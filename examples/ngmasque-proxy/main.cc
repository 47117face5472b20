// ngmasque-proxy: a proxy for UDP over HTTP/3 that forwards QUIC packets.  `--help` says what it
// does.
#include "runner.h"
#include "service.h"

#include <cstdio>
#include <print>
#include <variant>

namespace {

using namespace ngmasque::programs;

int Complain(std::string_view complaint) {
  std::println(stderr, "ngmasque-proxy: {}", complaint);
  return kUsage;
}

// The line for the file on stdout, and on stderr what the user needs, in the form that
// ngmasque-client and curl take: it is nowhere else.
int AddUser(std::string_view name) {
  if (!IsUserName(name)) {
    return Complain("--add-user must be a name of 1 to 64 letters, digits, '-', '_' and '.'");
  }
  const auto secret = DrawSecret();
  if (!secret) {
    std::println(stderr, "ngmasque-proxy: {}", secret.error());
    return kFailed;
  }
  std::println("{}", UserLine(name, *secret));
  std::println(stderr, "{}:{}", name, *secret);
  return kEnded;
}

} // namespace

int main(int argc, char **argv) {
  ProxyProgramOptions options;
  const auto program = ProxyProgram(options);
  auto begun = Begin(program, argc, argv);
  if (const auto *code = std::get_if<ExitCode>(&begun)) {
    return *code;
  }
  const auto &settings = std::get<Settings>(begun);
  if (const auto name = settings.values.find("add-user"); name != settings.values.end()) {
    return AddUser(name->second.back().text);
  }
  auto passed = PassedSockets();
  auto setup = Load(settings, passed);
  if (!setup) {
    return Complain(setup.error());
  }
  if (settings.values.contains("check")) {
    for (const auto &warning : setup->warnings) {
      std::println(stderr, "ngmasque-proxy: {}", warning);
    }
    std::println("the configuration is right");
    return kEnded;
  }
  return Runner(settings, *std::move(setup)).Run(std::move(passed));
}
