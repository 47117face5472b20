// The rows of ngmasque-client's options.
#include "options.h"

#include "exit.h"

#include <ngmasque/quic/packet_size.h>
#include <ngmasque/wire/uri_template.h>

#include <algorithm>
#include <format>
#include <functional>
#include <ranges>
#include <utility>

namespace ngmasque::programs {

namespace {

using Result = std::expected<void, Wrong>;

struct DialectName {
  std::string_view name;
  ProxyDialect dialect;
};
constexpr DialectName kDialects[] = {{"rfc9298", ProxyDialect::kRfc9298},
                                            {"draft-00", ProxyDialect::kDraft00},
                                            {"auto", ProxyDialect::kAuto}};

Option Dialect(Option row, ProxyDialect &member) {
  row.initial = std::ranges::find(kDialects, member, &DialectName::dialect)->name;
  row.set = [&member](std::string_view text) -> Result {
    const auto *const found = std::ranges::find(kDialects, text, &DialectName::name);
    if (found == std::end(kDialects)) {
      return std::unexpected("one of rfc9298, draft-00, auto");
    }
    member = found->dialect;
    return {};
  };
  return row;
}

Option Proxy(Option row, ProxyClient::Options &proxy) {
  row.set = [&proxy](std::string_view text) -> Result {
    constexpr std::string_view kScheme = "https://";
    if (!text.starts_with(kScheme)) {
      return std::unexpected("https://<HOST>:<PORT>");
    }
    text.remove_prefix(kScheme.size());
    text = text.ends_with('/') ? text.substr(0, text.size() - 1) : text;
    auto authority = ParseAuthority(text);
    if (!authority) {
      authority = ParseAuthority(std::format("{}:443", text));
    }
    if (!authority) {
      return std::unexpected("https://<HOST>:<PORT>");
    }
    proxy.host = authority->host;
    proxy.port = std::to_string(authority->port);
    return {};
  };
  return row;
}

Option Target(Option row, Authority &target) {
  row.set = [&target](std::string_view text) -> Result {
    auto authority = ParseAuthority(text);
    if (!authority) {
      return std::unexpected("<HOST>:<PORT>, such as dns.example:53 or [2001:db8::1]:443");
    }
    target = *std::move(authority);
    return {};
  };
  return row;
}

Option Template(Option row, std::string &member) {
  row.set = [&member](std::string_view text) -> Result {
    const auto uri = UriTemplate::Parse(text);
    if (!uri || uri->authority().empty()) {
      return std::unexpected("an https URI with {target_host} and {target_port}");
    }
    member = text;
    return {};
  };
  return row;
}

void AddProxyOptions(std::vector<Option> &rows, ClientOptions &options) {
  auto &proxy = options.carrier.proxy;
  const auto row = std::bind_front(Row, "Proxy");
  rows.push_back(Proxy(row("proxy", "https://<HOST>:<PORT>",
                           "The CONNECT-UDP proxy. The port is 443 if it is left out."),
                       proxy));
  rows.push_back(Path(row("proxy-cacert", "<FILE>",
                          "The certificates (PEM) that the proxy's certificate must be issued by. "
                          "Without it, those that the system trusts."),
                      proxy.ca_file));
  rows.push_back(
    Switch(row("proxy-insecure", "",
               "Do not verify the proxy's certificate: whoever is on the way can read and "
               "change everything that is tunnelled, and the credentials."),
           options.proxy_insecure));
  rows.push_back(
    Text(row("proxy-sni", "<NAME>",
             "The name that the proxy is asked for and that its certificate must have, "
             "instead of its host name."),
         proxy.sni));
  rows.push_back(Path(row("proxy-cert", "<FILE>", "A certificate (PEM) to show to the proxy."),
                      proxy.certificate_file));
  rows.push_back(
    Path(row("proxy-key", "<FILE>", "The key of --proxy-cert. Without it, it is in the same file."),
         proxy.key_file));
  auto user =
    Text(row("proxy-user", "<NAME>:<SECRET>",
             "Credentials for the proxy (HTTP Basic). On the command line others can see them "
             "for a moment: a file or the environment is better."),
         options.proxy_user);
  user.environment = "NGMASQUE_PROXY_USER";
  rows.push_back(std::move(user));
  rows.push_back(Path(row("proxy-user-file", "<FILE>", "The same, the first line of a file."),
                      options.proxy_user_file));
  auto bearer = Text(row("proxy-bearer", "<TOKEN>", "A token for the proxy (HTTP Bearer)."),
                     options.proxy_bearer);
  bearer.environment = "NGMASQUE_PROXY_BEARER";
  rows.push_back(std::move(bearer));
  rows.push_back(Path(row("proxy-bearer-file", "<FILE>", "The same, the first line of a file."),
                      options.proxy_bearer_file));
  rows.push_back(
    Dialect(row("proxy-dialect", "<DIALECT>",
               "rfc9298: RFC 9298, with the capsules of draft-ietf-masque-quic-proxy. "
               "draft-00: draft-pauly-masque-quic-proxy-00. auto: what the proxy speaks. "
               "Forwarded mode is with rfc9298 only."),
           proxy.dialects.dialect));
  rows.push_back(
    Template(row("proxy-template", "<URI>",
                 "The proxy's URI template (RFC 9298, section 2). Without it, that of RFC "
                 "9298, section 3.1, at the proxy."),
             proxy.dialects.uri_template));
  rows.push_back(
    Number(row("max-udp-payload-size", "<SIZE>",
               "UDP payload of packets to the proxy, 1200 to 65527. A tunnelled packet may have "
               "some 45 bytes less; longer ones are dropped, and the proxy has the same option for "
               "the way back. Where the path does not take that much, the connection finds out "
               "what it takes."),
           proxy.max_udp_payload, kMinUdpPayload));
  rows.push_back(
    Duration(row("proxy-timeout", "<DURATION>",
                 "The connection to the proxy is over when nothing has come for so long; a "
                 "third of it without packets makes one."),
             options.proxy_timeout));
  rows.push_back(Duration(row("handshake-timeout", "<DURATION>",
                              "For each address of the proxy; the next one is tried then."),
                          options.handshake_timeout));
  rows.push_back(
    Duration(row("retry-pause", "<DURATION>",
                 "The longest pause between two attempts to connect. The first one is half "
                 "a second, and each is twice the one before."),
             options.carrier.longest_pause));
}

void AddLocalOptions(std::vector<Option> &rows, ClientOptions &options) {
  const auto row = std::bind_front(Row, "Local side");
  auto target = Target(
    row("target", "<HOST>:<PORT>", "Where packets of --listen go. The proxy looks the name up."),
    options.local.target);
  target.operand = true;
  rows.push_back(std::move(target));
  rows.push_back(
    Endpoints(row("listen", "<ADDRESS>:<PORT>",
                  "A UDP port whose packets go to the target. Each local address and port "
                  "that sends there has a tunnel of its own. Whoever gets to the port can use "
                  "it. Port 0 is one that the system chooses."),
              options.local.addresses));
  rows.push_back(
    Endpoints(row("socks", "<ADDRESS>:<PORT>",
                  "A SOCKS 5 port (RFC 1928) for UDP ASSOCIATE: programs name their targets "
                  "themselves."),
              options.socks.addresses));
  auto user =
    Text(row("socks-user", "<NAME>:<SECRET>",
             "What SOCKS clients have to know (RFC 1929). It can be left out where only this "
             "machine gets to."),
         options.socks_user);
  user.environment = "NGMASQUE_SOCKS_USER";
  rows.push_back(std::move(user));
  rows.push_back(Path(row("socks-user-file", "<FILE>", "The same, the first line of a file."),
                      options.socks_user_file));
  rows.push_back(
    Switch(row("forward", "",
               "Have the proxy forward short header packets of QUIC connections, past the "
               "encryption of the connection to it."),
           options.carrier.forward));
  rows.push_back(
    Number(row("max-tunnels", "<N>",
               "Tunnels at a time, of all --listen together, and again of all --socks. What "
               "would need a further one is dropped."),
           options.max_tunnels));
  rows.push_back(Duration(
    row("idle-timeout", "<DURATION>", "A tunnel that nothing goes through for so long is closed."),
    options.idle_timeout));
}

void AddOutputOptions(std::vector<Option> &rows, ClientOptions &options) {
  const auto row = std::bind_front(Row, "What it does");
  rows.push_back(
    Switch(row("status", "",
               "Print what goes which way: in a terminal a table that is kept up to date, "
               "otherwise a line a second."),
           options.status));
  rows.push_back(Path(
    row("stats", "<FILE>", "Write the same as JSON to <FILE>, at the end and with each SIGUSR1."),
    options.stats));
  auto qlog =
    Path(row("qlog-dir", "<DIR>", "qlog of the connection to the proxy: <ID>.outer.sqlog."),
         options.carrier.proxy.qlog_dir);
  qlog.environment = "QLOGDIR";
  rows.push_back(std::move(qlog));
  auto keys =
    Path(row("key-log", "<FILE>",
             "The keys of the connection to the proxy are appended to it, for Wireshark."),
         options.carrier.proxy.key_log_file);
  keys.environment = "SSLKEYLOGFILE";
  rows.push_back(std::move(keys));
  rows.push_back(Level(row("log-level", "<LEVEL>",
                           "The least important lines on stderr: debug, info, warning or error."),
                       options.log_level));
}

} // namespace

Program ClientProgram(ClientOptions &options) {
  auto &proxy = options.carrier.proxy;
  proxy.dialects.dialect = ProxyDialect::kRfc9298;
  // Connection IDs that the two ends agree on later are in encrypted frames: with a socket of its
  // own a tunnel gets those packets, too.
  proxy.dialects.port_sharing = false;
  Program program{.name = "ngmasque-client",
                  .purpose = "sends UDP of any program through a CONNECT-UDP proxy",
                  .description = "Packets that come to a local UDP port (--listen) go through the "
                                 "proxy to one target, and its "
                                 "answers back to whoever has sent them; with --socks, programs "
                                 "that speak SOCKS 5 have a target "
                                 "for each packet. Local ports stay when the connection to the "
                                 "proxy is lost: it is made again, "
                                 "and moves when this machine's addresses change.\n\n"
                                 "Short header packets of QUIC connections are forwarded past the "
                                 "encryption of the connection to "
                                 "the proxy where that agrees, as far as their connection IDs can "
                                 "be seen: in the long headers of "
                                 "the handshake. Those that the two ends agree on later are "
                                 "encrypted, and packets with them are "
                                 "tunnelled; the status counts them. Programs that choose none for "
                                 "themselves, as browsers do, are "
                                 "forwarded towards the target alone.\n\n"
                                 "SIGINT and SIGTERM end it. SIGUSR1 logs one line on what has "
                                 "gone which way, and writes --stats."};
  AddLocalOptions(program.options, options);
  AddProxyOptions(program.options, options);
  AddOutputOptions(program.options, options);
  AddStandardOptions(program);
  program.notes.push_back(
    {.title = "FURTHER EXIT CODES",
     .text = std::format(
       "If nothing has worked yet, and trying again would not help:\n\n"
       "{}: the proxy wants credentials or a certificate, or others than it was given.\n\n"
       "{}: the proxy's certificate is not acceptable.\n\n"
       "{}: the proxy's policy does not allow the target of --listen.\n\n"
       "{}: there is no proxy for UDP: its name does not exist, or it speaks another dialect.",
       static_cast<int>(kCredentialsRefused), static_cast<int>(kProxyNotTrusted),
       static_cast<int>(kTargetDenied), static_cast<int>(kNoProxy))});
  program.notes.push_back({.title = "EXAMPLE",
                           .text =
                             "ngmasque-client --proxy=https://proxy.example "
                             "--proxy-user-file=secret --listen=127.0.0.1:5353 192.0.2.53:53\n\n"
                             "dig @127.0.0.1 -p 5353 example.com"});
  return program;
}

} // namespace ngmasque::programs
