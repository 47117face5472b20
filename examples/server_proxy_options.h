// gtlsserver --connect-udp: the options of the command line.
#pragma once

#include "ngmasque/io/proxy_server.h"

#include <cstdio>
#include <expected>
#include <span>
#include <string>
#include <string_view>

#include <getopt.h>

namespace ngmasque::examples {

/// What the command line says of the proxy.
struct ServerProxyOptions {
  bool enabled = false;
  ProxyServer::Options proxy;
};

/// For getopt_long.
[[nodiscard]] std::span<const option> ServerProxyLongOptions();

/// Takes an option of these.  Error: why it is refused.
[[nodiscard]] std::expected<void, std::string> SetOption(ServerProxyOptions &options,
                                                         std::string_view name, const char *arg);

void PrintHelp(FILE *out);

} // namespace ngmasque::examples
