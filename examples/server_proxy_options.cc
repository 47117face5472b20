#include "server_proxy_options.h"

#include "proxy_options.h"

#include "util.h"

#include <algorithm>
#include <cstdint>
#include <format>
#include <iterator>
#include <print>
#include <vector>

namespace ngmasque::examples {

namespace {

using Result = std::expected<void, std::string>;
using Options = ServerProxyOptions;

Result SetSwitch(bool &target, std::string_view value) {
  if (value != "on" && value != "off") {
    return std::unexpected("must be on or off");
  }
  target = value == "on";
  return {};
}

template <std::uint64_t least = 1> Result SetNumber(auto &target, const char *arg) {
  const auto value = ngtcp2::util::parse_uint_iec(arg);
  if (!value || *value < least) {
    return std::unexpected(std::format("must be a number of {} or more", least));
  }
  target = *value;
  return {};
}

Result SetMinId(Options &options, const char *arg) {
  auto &least = options.proxy.proxy.routing.min_connection_id;
  const auto set = SetNumber<0>(least, arg);
  if (set && least > kMaxConnectionIdLength) {
    return std::unexpected(std::format("must not exceed {}", kMaxConnectionIdLength));
  }
  return set;
}

Result Allow(Options &options, const char *arg) {
  const auto block = ParseAddressBlock(arg);
  if (!block) {
    return std::unexpected("must be an address or <ADDRESS>/<LENGTH> without further bits");
  }
  options.proxy.policy.allow.push_back(*block);
  return {};
}

Result SetPorts(Options &options, const char *arg) {
  auto ports = ParsePorts(arg);
  if (!ports) {
    return std::unexpected("must be ports of 1 to 65535 and ranges of them, separated by commas");
  }
  options.proxy.policy.ports = *std::move(ports);
  return {};
}

Result SetTemplate(Options &options, const char *arg) {
  auto path = UriTemplate::Parse(arg);
  if (*arg != '/' || !path) {
    return std::unexpected("must be a path, and maybe a query, with {target_host} and {target_port}");
  }
  options.proxy.proxy.path_template = *std::move(path);
  return {};
}

Result SetTransforms(Options &options, const char *arg) {
  auto transforms = ReadTransforms(arg);
  if (!transforms) {
    return std::unexpected("must be scramble-dt, identity, or both with a comma");
  }
  options.proxy.proxy.transforms = *std::move(transforms);
  return {};
}

// How its default is printed.
std::string Number(std::uint64_t value) { return std::to_string(value); }
std::string Mebibytes(std::uint64_t value) { return std::format("{}M", value >> 20); }

struct Row {
  const char *name;
  const char *argument; ///< Null: none.
  const char *help;     ///< Without the default.
  Result (*set)(Options &options, const char *arg);
  std::string (*initial)(const ProxyOptions &options) = nullptr; ///< Null: the help says it.
};

// A number of ProxyOptions.
#define NUMBER(member, least)                                                                      \
  [](Options &options, const char *arg) {                                                          \
    return SetNumber<least>(options.proxy.proxy.member, arg);                                      \
  }
#define DEFAULT(member, print) [](const ProxyOptions &options) { return print(options.member); }

constexpr Row kRows[] = {
  {"connect-udp", nullptr,
   R"(              Be a CONNECT-UDP proxy, of RFC 9298 with the capsules of
              draft-ietf-masque-quic-proxy  (revisions -06, -08, -09),
              and of  draft-pauly-masque-quic-proxy-00,  and nothing
              else:  other  requests are  answered with 501,  and
              --stats counts no requests.)",
   [](Options &options, const char *) {
     options.enabled = true;
     return Result();
   }},
  {"connect-udp-template", "<PATH>",
   R"(              Path and query of the URI template (RFC 9298, section 2).)",
   SetTemplate, [](const ProxyOptions &) { return std::string(kDefaultUdpPath); }},
  {"connect-udp-transforms", "<NAME>[,<NAME>]",
   R"(              Packet transforms that clients may choose from.
              Default: scramble-dt,identity)",
   SetTransforms},
  {"connect-udp-forwarding", "(on|off)",
   R"(              Forward short header packets without  encrypting them
              again.  off: such requests are answered with 403, and in
              RFC 9298's form their clients are told.
              Default: on)",
   [](Options &options, const char *arg) { return SetSwitch(options.proxy.proxy.forwarding, arg); }},
  {"connect-udp-connection-ids", "(on|off)",
   R"(              Look at connection IDs at all.  off: a plain proxy which
              ignores their header fields.
              Default: on)",
   [](Options &options, const char *arg) {
     return SetSwitch(options.proxy.proxy.connection_ids, arg);
   }},
  {"connect-udp-port-sharing", "(on|off)",
   R"(              Use one socket for all flows to the same target.
              Default: on)",
   [](Options &options, const char *arg) {
     return SetSwitch(options.proxy.proxy.port_sharing, arg);
   }},
  {"connect-udp-allow", "<CIDR>",
   R"(              Allow targets in <CIDR>, for example 127.0.0.0/8.  It can
              be repeated.   By default,  only  global  addresses  are
              allowed; all others are answered with 403.   Those that
              this machine has when the server starts  are never  al-
              lowed, except for loopback addresses.)",
   Allow},
  {"connect-udp-ports", "<PORT>[-<PORT>][,...]",
   R"(              Allow targets on these ports only;  all others  are  an-
              swered with 403.
              Default: 80, 443, and those from 1024 on, but  for those
              that are known to amplify)",
   SetPorts},
  {"connect-udp-min-connection-id", "<N>",
   R"(              Requests with  shorter connection IDs are answered with
              409.)",
   SetMinId, DEFAULT(routing.min_connection_id, Number)},
  {"connect-udp-max-connections-per-client", "<N>",
   R"(              Connections of one client: an  IPv4  address, or  an IPv6
              /64.  Requests on any more are answered with 429.)",
   NUMBER(routing.max_connections_per_client, 1),
   DEFAULT(routing.max_connections_per_client, Number)},
  {"connect-udp-max-flows-per-client", "<N>",
   R"(              Flows of one client, on all of its connections.  More are
              answered with 429.)",
   NUMBER(routing.max_flows_per_client, 1), DEFAULT(routing.max_flows_per_client, Number)},
  {"connect-udp-max-connection-ids-per-client", "<N>",
   R"(              Requests of one client, each with one connection ID.  More
              are answered with 429.)",
   NUMBER(routing.max_streams_per_client, 1), DEFAULT(routing.max_streams_per_client, Number)},
  {"connect-udp-max-sockets", "<N>",
   R"(              Sockets towards the targets, of all clients.  A request
              that needs one more is answered with 503.)",
   NUMBER(routing.max_sockets, 1), DEFAULT(routing.max_sockets, Number)},
  {"connect-udp-max-lookups-per-client", "<N>",
   R"(              Names that are looked up at a time for one client.  More
              are answered with 429.)",
   NUMBER(max_lookups_per_client, 1), DEFAULT(max_lookups_per_client, Number)},
  {"connect-udp-max-lookups", "<N>",
   R"(              The same for all clients.  More are answered with 503.)",
   NUMBER(max_lookups, 1), DEFAULT(max_lookups, Number)},
  {"connect-udp-max-early-datagrams", "<N>",
   R"(              Datagrams that are kept for a flow without answer.  More
              are dropped.)",
   NUMBER(max_early_datagrams, 0), DEFAULT(max_early_datagrams, Number)},
  {"connect-udp-rate-per-client", "<SIZE>",
   R"(              Bytes per second of one client, both ways.  What exceeds
              it is dropped.  0 means that there is no limit.)",
   NUMBER(max_bytes_per_second_per_client, 0), DEFAULT(max_bytes_per_second_per_client, Number)},
  {"connect-udp-max-waiting-per-client", "<SIZE>",
   R"(              Bytes that wait to be sent to one client, or until its re-
              quest is there.  More are dropped.)",
   NUMBER(routing.max_waiting_bytes_per_client, 0),
   DEFAULT(routing.max_waiting_bytes_per_client, Mebibytes)},
  {"connect-udp-max-waiting", "<SIZE>",
   R"(              The same for all clients.)",
   NUMBER(routing.max_waiting_bytes, 0), DEFAULT(routing.max_waiting_bytes, Mebibytes)},
};

#undef NUMBER
#undef DEFAULT

} // namespace

std::span<const option> ServerProxyLongOptions() {
  static const auto options = [] {
    std::vector<option> made;
    std::ranges::transform(kRows, std::back_inserter(made), [](const Row &row) {
      return option{row.name, row.argument ? required_argument : no_argument, nullptr, 0};
    });
    return made;
  }();
  return options;
}

Result SetOption(Options &options, std::string_view name, const char *arg) {
  return std::ranges::find(kRows, name, &Row::name)->set(options, arg);
}

void PrintHelp(FILE *out) {
  const ProxyOptions defaults;
  for (const auto &row : kRows) {
    std::println(out, "  --{}{}{}\n{}", row.name, row.argument ? "=" : "",
                 row.argument ? row.argument : "", row.help);
    if (row.initial) {
      std::println(out, "              Default: {}", row.initial(defaults));
    }
  }
}

} // namespace ngmasque::examples
