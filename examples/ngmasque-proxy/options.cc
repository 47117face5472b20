#include "options.h"

#include "option_kinds.h"

#include <ngmasque/quic/packet_size.h>

#include <algorithm>
#include <utility>

namespace ngmasque::programs {

namespace {

constexpr auto kDescription =
  R"(A proxy for UDP over HTTP/3 (CONNECT-UDP, RFC 9298), which forwards short header packets of QUIC
connections without encrypting them again (draft-ietf-masque-quic-proxy).

Clients may use it who are in the file of --users, or have a certificate of --client-ca. Without either
it listens on loopback addresses only, unless --open lets everybody in. Targets are global addresses, on ports that nothing known to
amplify has, and whatever --allow and --ports say.)";

// What SIGHUP takes.
constexpr std::string_view kReloaded[] = {"cert",  "key",           "open",       "users",
                                          "allow", "deny",          "allow-name", "deny-name",
                                          "ports", "drain-timeout", "log-level",  "access-log",
                                          "rate-per-client"};

constexpr auto kSignals =
  R"(SIGHUP reads the configuration again, and takes of it what --help says; what else has changed is
named in the log. If anything is wrong with it, everything stays as it was, and a line in the log says
why.

Who is not in the file of --users any more, or has another secret there, loses connections and tunnels
at once; so does everybody when there are users from now on. All other tunnels stay: what --allow,
--deny and the like say is for new ones. Rates are for all. Who has shown a certificate may stay until
his connection ends.

SIGTERM and SIGQUIT let it drain: no more connections and tunnels are taken, and clients are told so.
It ends when the last tunnel is over, or after --drain-timeout. A second one of these, or SIGINT, ends
it at once.)";

constexpr auto kUsersFile =
  R"(A line for each user: NAME:sha256:HEX, and maybe the name of a policy after a space. HEX is the
SHA-256 of the secret. --add-user draws a secret of 128 bits and prints it with its line: ngmasque-proxy
--add-user=alice >>users 2>alice. Empty lines and those that begin with # are ignored.

After ten wrong secrets from an address nothing from there is looked at, not even the right one, but
for one attempt each six seconds; the answer is 429, and retry-after in it says how long.

A client gives name and secret as Basic credentials, or the secret alone as a Bearer token, in
proxy-authorization or authorization.)";

} // namespace

Program ProxyProgram(ProxyProgramOptions &o) {
  auto &proxy = o.proxy.proxy.proxy;
  auto &routing = proxy.routing;
  auto &server = o.proxy.server;
  auto &policy = o.proxy.proxy.policy;
  Program program{.name = "ngmasque-proxy",
                  .purpose = "proxy for UDP over HTTP/3 that forwards QUIC packets",
                  .description = kDescription};
  program.options = {
    Endpoints(Row("Network", "listen", "<ADDRESS:PORT>",
                  "Listen there. Port 0 is one that the system chooses."),
              o.listen),
    Paths(
      Row("Network", "cert", "<FILE>",
          "A certificate, with those of its issuers, in PEM. Of several a client gets the one for "
          "the name that it asks for, or else the first one."),
      o.certificates),
    Paths(Row("Network", "key", "<FILE>", "Its private key, in PEM: as many, in the same order."),
          o.keys),
    Template(Row("Network", "template", "<PATH>",
                 "Path and query of the URI template (RFC 9298, section 2)."),
             proxy.path_template),
    Duration(Row("Network", "timeout", "<DURATION>",
                 "Connections end that nothing has come on for so long."),
             server.idle_timeout),
    Number(Row("Network", "max-udp-payload-size", "<SIZE>",
               "UDP payload of packets to clients, 1200 to 65527. A tunnelled packet may have some "
               "45 bytes less; longer ones are dropped. Where the path does not take that much, "
               "connections find out what it takes."),
           server.max_udp_payload, kMinUdpPayload),
    Duration(Row("Network", "handshake-timeout", "<DURATION>", "Handshakes end that take longer."),
             server.handshake_timeout),
    Duration(Row("Network", "drain-timeout", "<DURATION>",
                 "When it is to end, tunnels may go on for so long: see SIGNALS."),
             o.drain_timeout),
    Path({.section = "Network",
          .name = "secret-file",
          .argument = "<FILE>",
          .help =
            "Make stateless resets, address tokens and session tickets with what is in <FILE>: after "
            "a new start connections of before are reset at once, and not after --timeout, and "
            "clients that come back need no Retry and no certificate. It is made, for its owner "
            "alone, if it is not there. Any 32 bytes or more will do that nobody else knows and no "
            "other proxy has.",
          .environment = "NGMASQUE_SECRET_FILE"},
         o.secret_file),

    Path(Row("Clients", "users", "<FILE>", "Who may use the proxy: see USERS FILE."), o.users),
    Path(
      Row(
        "Clients", "client-ca", "<FILE>",
        "Ask clients for a certificate that one in <FILE> has signed, PEM: a user is who it names. "
        "With neither --users nor --open those without one do not get in. SIGHUP reads <FILE> "
        "again."),
      server.client_ca_file),
    Switch(Row("Clients", "open", "",
               "Let everybody in, without users, on other than loopback addresses, too."),
           o.open),

    Blocks(
      Row("Targets", "allow", "<CIDR>",
          "Allow targets in <CIDR>, for example 10.0.0.0/8. Otherwise only global addresses are; "
          "all others are answered with 403. Those of this machine never are, except for loopback "
          "ones."),
      policy.allow),
    Blocks(Row("Targets", "deny", "<CIDR>", "Deny them, whatever allows them."), policy.deny),
    Names(
      Row(
        "Targets", "allow-name", "<NAME>",
        "Allow targets only by names that are equal to <NAME> or end with a dot and <NAME>; where "
        "they lead to has to be allowed as well. Targets that are addresses have to be in "
        "--allow."),
      policy.allow_names),
    Names(Row("Targets", "deny-name", "<NAME>",
              "Deny such names. It keeps nobody from an address that has another name as well: "
              "that takes "
              "--deny."),
          policy.deny_names),
    Ports(Row("Targets", "ports", "<PORT>[-<PORT>][,...]",
              "Allow targets on these ports only. Otherwise they are 80, 443, and those from 1024 "
              "on, but for "
              "those that are known to amplify."),
          policy.ports),

    Endpoints(
      Row("Moves", "alternate-addr", "<ADDRESS:PORT>",
          "Listen there as well, to send clients there in the middle of their connections, if "
          "they enable server migration (draft-saa-ali-quic)."),
      o.alternates),
    Duration(Row("Moves", "migrate-every", "<DURATION>",
                 "Send them to the next address, in turn: those of --alternate-addr, and then the "
                 "first of --listen, unless that is all addresses."),
             o.migrate_every),
    Switch(Row("Moves", "migrate-on-handshake", "",
               "Send each new client to the first of --alternate-addr, so that whatever balances "
               "connections has to carry their handshakes only."),
           o.migrate_on_handshake),
    Switch(Row("Moves", "alternate-addr-same-path", "",
               "They share the path to clients: congestion state is kept when a connection moves."),
           server.same_path),

    Switch(
      Row("Forwarding", "forwarding", "",
          "Forward short header packets without encrypting them again. If false, such requests are "
          "answered with 403, and in RFC 9298's form their clients are told."),
      proxy.forwarding),
    Switch(Row("Forwarding", "connection-ids", "",
               "Look at connection IDs at all. If false, it is a plain proxy which ignores their "
               "header fields."),
           proxy.connection_ids),
    Switch(
      Row("Forwarding", "port-sharing", "", "Use one socket for all flows to the same target."),
      proxy.port_sharing),
    Transforms(Row("Forwarding", "transforms", "<NAME>[,<NAME>]",
                   "Packet transforms that clients may choose from."),
               proxy.transforms),
    MinConnectionId(Row("Forwarding", "min-connection-id", "<N>",
                        "Requests with shorter connection IDs are answered with 409."),
                    routing.min_connection_id),

    Number(Row("Bounds", "max-connections", "<N>", "Connections of all clients. More are refused."),
           routing.max_connections),
    Number(Row("Bounds", "max-connections-per-client", "<N>",
               "The same of one client: a user, or else an IPv4 address or an IPv6 /64. Requests "
               "on any more are "
               "answered with 429."),
           routing.max_connections_per_client),
    Number(Row("Bounds", "max-flows-per-client", "<N>",
               "Tunnels of one client, on all of its connections. More are answered with 429."),
           routing.max_flows_per_client),
    Number(Row("Bounds", "max-connection-ids-per-client", "<N>",
               "Connection IDs that one client has registered. More are answered with 429."),
           routing.max_streams_per_client),
    Number(Row("Bounds", "max-sockets", "<N>",
               "Sockets towards the targets, of all clients. A request that needs one more is "
               "answered with 503."),
           routing.max_sockets),
    Number(Row("Bounds", "max-lookups-per-client", "<N>",
               "Names that are looked up at a time for one client. More are answered with 429."),
           proxy.max_lookups_per_client),
    Number(
      Row("Bounds", "max-lookups", "<N>", "The same for all clients. More are answered with 503."),
      proxy.max_lookups),
    Number(Row("Bounds", "max-early-datagrams", "<N>",
               "Datagrams that are kept for a tunnel without answer. More are dropped."),
           proxy.max_early_datagrams, 0),
    Grouped(
      Number(Row("Bounds", "rate-per-client", "<SIZE>",
                 "Bytes per second of one client, both ways. What exceeds it is dropped. 0 means "
                 "that there is "
                 "no limit."),
             proxy.max_bytes_per_second_per_client, 0)),
    Number(Row("Bounds", "max-waiting-per-client", "<SIZE>",
               "Bytes that wait to be sent to one client, or until its request is there. More are "
               "dropped."),
           routing.max_waiting_bytes_per_client, 0),
    Number(Row("Bounds", "max-waiting", "<SIZE>", "The same for all clients."),
           routing.max_waiting_bytes, 0),
    Number(
      Row("Bounds", "max-handshakes", "<N>", "Handshakes at a time. More connections are refused."),
      server.max_handshakes),
    Number(Row("Bounds", "retry-from", "<N>",
               "From so many handshakes at a time on clients have to show by Retry that they are "
               "where they say."),
           server.retry_from, 0),

    Level(Row("Logs", "log-level", "<LEVEL>",
              "Lines that are less important are left out: debug, info, warning, "
              "error. They go to stderr."),
          o.log_level),
  };
  program.options.push_back(Path(
    {.section = "Logs",
     .name = "qlog-dir",
     .argument = "<DIR>",
     .help =
       "Write a qlog of each connection there whose handshake has been completed, without bound: to "
       "look for an error, and not for every day. Of those that have failed before that there is "
       "one a second.",
     .environment = "QLOGDIR"},
    server.qlog_dir));
  program.options.push_back(Path(
    {.section = "Logs",
     .name = "key-log",
     .argument = "<FILE>",
     .help = "Append the secrets of all connections there, with which others can decrypt them.",
     .environment = "SSLKEYLOGFILE"},
    server.key_log_file));
  program.options.push_back(Path(Row("Logs", "access-log", "<FILE>",
                                     "Append a line of JSON there for each tunnel that has ended "
                                     "and each request that was refused."),
                                 o.access_log));
  program.options.push_back(Metrics(Row("Logs", "metrics", "<ADDRESS:PORT>",
                                        "Answer there, over HTTP/1.1: /metrics is for Prometheus, "
                                        "/health says 200, or 503 as soon as no more "
                                        "tunnels are taken."),
                                    o.metrics));
  auto add_user =
    Text(Row("Program", "add-user", "<NAME>",
             "Draw a secret for a user, print the line for the file of --users on stdout and "
             "<NAME>:SECRET, which nobody keeps, on stderr, and end."),
         o.add_user);
  add_user.command_line_only = true;
  program.options.push_back(std::move(add_user));
  AddStandardOptions(program);
  for (auto &option : program.options) {
    option.reloaded = std::ranges::contains(kReloaded, option.name);
  }
  program.group = "policy";
  program.group_help =
    "Of the users whose line in the file of --users has this name at its end. What is "
    "not set there is as above; what is, counts instead.";
  program.notes = {{.title = "SIGNALS", .text = kSignals},
                   {.title = "USERS FILE", .text = kUsersFile}};
  return program;
}

} // namespace ngmasque::programs
