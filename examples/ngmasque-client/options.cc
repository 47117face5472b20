// What ngmasque-client's options mean together.
#include "options.h"

#include <ngmasque/session/proxy_authorization.h>

#include <algorithm>
#include <format>
#include <utility>

namespace ngmasque::programs {

namespace {

// Its first line.
std::expected<std::string, Complaint> ReadSecret(const std::filesystem::path &file) {
  return ReadFile(file).transform([](const std::string &text) {
    auto line = text.substr(0, text.find('\n'));
    return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
  });
}

// A value, or what is in a file; both is a mistake.
std::expected<std::string, Complaint>
Secret(const std::string &value, const std::filesystem::path &file, std::string_view option) {
  if (file.empty()) {
    return value;
  }
  if (!value.empty()) {
    return std::unexpected(std::format("--{0} and --{0}-file: give one of them", option));
  }
  return ReadSecret(file);
}

std::expected<std::pair<std::string, std::string>, Complaint> SplitUser(std::string_view user,
                                                                        std::string_view option) {
  const auto colon = user.find(':');
  if (colon == std::string_view::npos) {
    return std::unexpected(std::format("--{} must be <NAME>:<SECRET>", option));
  }
  return std::pair(std::string(user.substr(0, colon)), std::string(user.substr(colon + 1)));
}

std::expected<void, Complaint> FinishAuthorization(ClientOptions &options) {
  const auto user = Secret(options.proxy_user, options.proxy_user_file, "proxy-user");
  const auto bearer = Secret(options.proxy_bearer, options.proxy_bearer_file, "proxy-bearer");
  if (!user || !bearer) {
    return std::unexpected((user ? bearer : user).error());
  }
  auto &authorization = options.carrier.proxy.authorization;
  if (!user->empty() && !bearer->empty()) {
    return std::unexpected("--proxy-user and --proxy-bearer: give one of them");
  }
  if (!user->empty()) {
    const auto pair = SplitUser(*user, "proxy-user");
    if (!pair) {
      return std::unexpected(pair.error());
    }
    const auto value = BasicAuthorization(pair->first, pair->second);
    if (!value) {
      return std::unexpected("--proxy-user must have no control characters in it");
    }
    authorization = *value;
  } else if (!bearer->empty()) {
    const auto value = BearerAuthorization(*bearer);
    if (!value) {
      return std::unexpected(
        "--proxy-bearer must be letters, digits and -._~+/, with = at the end only");
    }
    authorization = *value;
  }
  return {};
}

std::expected<void, Complaint> FinishSocks(ClientOptions &options) {
  const auto user = Secret(options.socks_user, options.socks_user_file, "socks-user");
  if (!user) {
    return std::unexpected(user.error());
  }
  if (!user->empty()) {
    auto pair = SplitUser(*user, "socks-user");
    if (!pair) {
      return std::unexpected(pair.error());
    }
    if (pair->first.empty() || pair->first.size() > 255 || pair->second.size() > 255) {
      return std::unexpected(
        "--socks-user must have a name, and at most 255 bytes on either side of the "
        "colon");
    }
    options.socks.association.credentials = {.name = pair->first, .secret = pair->second};
    return {};
  }
  for (const auto &address : options.socks.addresses) {
    if (!IsLoopback(address)) {
      return std::unexpected(std::format(
        "--socks={} is for others than this machine, who could use the proxy in your name: "
        "set --socks-user, or listen on 127.0.0.1",
        EndpointText(address)));
    }
  }
  return {};
}

} // namespace

std::expected<void, Complaint> Finish(ClientOptions &options) {
  auto &proxy = options.carrier.proxy;
  if (proxy.host.empty()) {
    return std::unexpected("which proxy? Give --proxy=https://<HOST>:<PORT>");
  }
  if (options.local.addresses.empty() && options.socks.addresses.empty()) {
    return std::unexpected(
      "nothing to do: give --listen=<ADDRESS>:<PORT> and a target, or --socks");
  }
  if (options.local.addresses.empty() != options.local.target.host.empty()) {
    return std::unexpected(options.local.addresses.empty()
                             ? "a target is for --listen: give that, too"
                             : "where to? --listen needs a target: <HOST>:<PORT>");
  }
  if (auto finished = FinishAuthorization(options); !finished) {
    return finished;
  }
  if (auto finished = FinishSocks(options); !finished) {
    return finished;
  }
  if (options.proxy_insecure && !proxy.ca_file.empty()) {
    return std::unexpected("--proxy-insecure and --proxy-cacert: give one of them");
  }
  proxy.system_roots = !options.proxy_insecure;
  const auto milliseconds = [](std::chrono::nanoseconds time) {
    return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(time),
                    std::chrono::milliseconds(1));
  };
  proxy.idle_timeout = milliseconds(options.proxy_timeout);
  proxy.handshake_timeout = milliseconds(options.handshake_timeout);
  proxy.max_tunnels = 2 * options.max_tunnels;
  options.local.max_peers = options.socks.max_tunnels = options.max_tunnels;
  options.local.idle_timeout = options.socks.association.idle_timeout = options.idle_timeout;
  options.carrier.single_target = options.socks.addresses.empty();
  return {};
}

} // namespace ngmasque::programs
