#include "client_proxy_options.h"

#include "proxy_options.h"

#include <filesystem>
#include <optional>

#include <unistd.h>

namespace ngmasque::examples {

namespace {

constexpr option kOptions[] = {
  {"proxy", required_argument, nullptr, 0},
  {"proxy-mode", required_argument, nullptr, 0},
  {"proxy-dialect", required_argument, nullptr, 0},
  {"proxy-template", required_argument, nullptr, 0},
  {"proxy-transform", required_argument, nullptr, 0},
  {"proxy-revision", required_argument, nullptr, 0},
  {"proxy-port-sharing", required_argument, nullptr, 0},
  {"proxy-ca", required_argument, nullptr, 0},
  {"proxy-sni", required_argument, nullptr, 0},
  {"proxy-qlog-dir", required_argument, nullptr, 0},
  {"proxy-via", required_argument, nullptr, 0},
  {"proxy-via-mode", required_argument, nullptr, 0},
  {"proxy-via-dialect", required_argument, nullptr, 0},
  {"proxy-via-ca", required_argument, nullptr, 0},
};

constexpr std::string_view kHelp =
  R"(  --proxy=https://<HOST>:<PORT>
              Reach the server through this CONNECT-UDP proxy, which
              looks up <HOST> of the server.  All other options keep
              their  meaning  for the  connection  to  the  server,
              except that --change-local-addr moves  the connection
              to the proxy.
  --proxy-mode=(forward|tunnel)
              forward: short header packets go past the encryption of
              the connection to the proxy  once it has agreed.  tunnel:
              all packets are  carried  in that connection.
              Default: forward
  --proxy-dialect=(rfc9298|draft-00|draft-03|auto)
              What is said to the proxy:  RFC 9298,  with  the capsules
              of    draft-ietf-masque-quic-proxy;    or    that    of
              draft-pauly-masque-quic-proxy-00;  or  that of  proxies
              between the two,  which forward nothing.  auto:  rfc9298
              if  the  proxy's  SETTINGS  allow  extended  CONNECT and
              it  does not  answer  the first one  with 404, 405 or
              501; otherwise draft-00.
              Default: rfc9298
  --proxy-template=<URI>
              The proxy's  URI template  (RFC 9298, section 2),  with
              {target_host} and {target_port}.
              Default: /.well-known/masque/udp/{target_host}/{target_port}/
              at the proxy
  --proxy-transform=<NAME>[,<NAME>]...
              What becomes of forwarded packets between here and the
              proxy,  the preferred one first:  scramble-dt encrypts
              them,  so  that  they are not  the same on both sides of
              the proxy;  identity leaves them as they are.
              Default: scramble-dt,identity
  --proxy-revision=(06|08|09)
              The revision of draft-ietf-masque-quic-proxy.
              Default: 09
  --proxy-port-sharing=(on|off)
              Whether the proxy may use one UDP port for this
              connection and those of others to the same server.
              Default: on
  --proxy-ca=<PATH>
              The  certificates  (PEM) that  the proxy's  certificate
              must be issued by.  Without it, it is not verified.
  --proxy-sni=<NAME>
              The name that  the proxy is  asked for,  instead of its
              host name.
  --proxy-qlog-dir=<PATH>
              Path to  the directory  where qlog of  the connection to
              the proxy is stored, as <ID>.outer.sqlog.
  --proxy-via=https://<HOST>:<PORT>
              Reach the proxy through this one,  which looks  it up:
              so that it is not told where this client is,  nor this
              one where the server is.  --change-local-addr then moves
              the connection to this one.
  --proxy-via-mode, --proxy-via-dialect, --proxy-via-ca
              As --proxy-mode,  --proxy-dialect  and  --proxy-ca,  of
              that one.  forward:  what the proxy forwards is forwarded
              there as well, and so are the packets of the connection
              to the proxy.)";

// One of several words.
template <typename Value> struct Word {
  std::string_view text;
  Value value;
};

template <typename Value, std::size_t size>
std::optional<Value> Find(const Word<Value> (&words)[size], std::string_view text) {
  for (const auto &word : words) {
    if (word.text == text) {
      return word.value;
    }
  }
  return std::nullopt;
}

constexpr Word<ProxyDialect> kDialects[] = {{"rfc9298", ProxyDialect::kRfc9298},
                                            {"draft-00", ProxyDialect::kDraft00},
                                            {"draft-03", ProxyDialect::kDraft03},
                                            {"auto", ProxyDialect::kAuto}};
constexpr Word<QuicProxyRevision> kRevisions[] = {{"06", QuicProxyRevision::k06},
                                                  {"08", QuicProxyRevision::k08},
                                                  {"09", QuicProxyRevision::k09}};
constexpr Word<bool> kModes[] = {{"forward", true}, {"tunnel", false}};
constexpr Word<bool> kSwitches[] = {{"on", true}, {"off", false}};

template <typename Value, typename Read>
std::expected<void, std::string_view> Take(Value &value, const std::optional<Read> &read,
                                           std::string_view otherwise) {
  if (!read) {
    return std::unexpected(otherwise);
  }
  value = *read;
  return {};
}

} // namespace

std::span<const option> ClientProxyTable() { return kOptions; }
std::string_view ClientProxyHelp() { return kHelp; }

std::expected<void, std::string_view>
SetClientProxyOption(ClientProxyOptions &options, std::string_view name, const char *arg) {
  const std::string_view value(arg);
  auto &client = options.client;
  auto &said = client.dialects;
  if (name == "proxy") {
    const auto proxy = ParseProxyUri(value);
    if (!proxy) {
      return std::unexpected("must be https://<HOST>:<PORT>");
    }
    client.host = proxy->host;
    client.port = std::to_string(proxy->port);
  } else if (name == "proxy-via") {
    const auto proxy = ParseProxyUri(value);
    if (!proxy) {
      return std::unexpected("must be https://<HOST>:<PORT>");
    }
    options.via.host = proxy->host;
    options.via.port = std::to_string(proxy->port);
  } else if (name == "proxy-via-mode") {
    return Take(client.via_tunnel.forward, Find(kModes, value), "must be forward or tunnel");
  } else if (name == "proxy-via-dialect") {
    return Take(options.via.dialects.dialect, Find(kDialects, value),
                "must be rfc9298, draft-00, draft-03 or auto");
  } else if (name == "proxy-via-ca") {
    options.via.ca_file = value;
  } else if (name == "proxy-mode") {
    return Take(options.tunnel.forward, Find(kModes, value), "must be forward or tunnel");
  } else if (name == "proxy-dialect") {
    return Take(said.dialect, Find(kDialects, value),
                "must be rfc9298, draft-00, draft-03 or auto");
  } else if (name == "proxy-template") {
    const auto uri = UriTemplate::Parse(value);
    if (!uri || uri->authority().empty()) {
      return std::unexpected("must be an https URI with {target_host} and {target_port}");
    }
    said.uri_template = value;
  } else if (name == "proxy-transform") {
    return Take(said.transforms, ReadTransforms(value),
                "must be scramble-dt, identity, or both with a comma");
  } else if (name == "proxy-revision") {
    return Take(said.revision, Find(kRevisions, value), "must be 06, 08 or 09");
  } else if (name == "proxy-port-sharing") {
    return Take(said.port_sharing, Find(kSwitches, value), "must be on or off");
  } else if (name == "proxy-ca") {
    client.ca_file = value;
  } else if (name == "proxy-sni") {
    if (value.empty()) {
      return std::unexpected("must not be empty");
    }
    client.sni = value;
  } else if (name == "proxy-qlog-dir") {
    std::error_code ec;
    if (!std::filesystem::is_directory(value, ec) || access(arg, W_OK | X_OK) != 0) {
      return std::unexpected("is not a writable directory");
    }
    client.qlog_dir = value;
  }
  return {};
}

} // namespace ngmasque::examples
