// The command line of gtlsclient --proxy.
#pragma once

#include "ngmasque/io/proxy_client.h"

#include <expected>
#include <span>
#include <string>
#include <string_view>

#include <getopt.h>

namespace ngmasque::examples {

struct ClientProxyOptions {
  ProxyClient::Options client; ///< Without a host there is no proxy.
  ProxyTunnel::Options tunnel;
  /// Of the proxy on the way to that one; without a host there is none.
  ProxyClient::Options via{.dialects = {.dialect = ProxyDialect::kRfc9298}};
};

[[nodiscard]] std::span<const option> ClientProxyTable();
[[nodiscard]] std::string_view ClientProxyHelp();

/// Takes the value of an option of the table.  Error: what it should have been, for people.
[[nodiscard]] std::expected<void, std::string_view>
SetClientProxyOption(ClientProxyOptions &options, std::string_view name, const char *arg);

} // namespace ngmasque::examples
