#include "configured.h"

#include "certificates.h"
#include "secret_file.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <format>
#include <optional>
#include <span>
#include <utility>

#include <ngmasque/quic/socket_address.h>
#include <sys/socket.h>

namespace ngmasque::programs {

namespace {

using Done = std::expected<void, Complaint>;

Done ReadCertificates(Configured &setup) {
  const auto &[certificates, keys] = std::pair(setup.options.certificates, setup.options.keys);
  for (const auto &[files, name] : {std::pair(&certificates, "cert"), std::pair(&keys, "key")}) {
    if (files->empty()) {
      return std::unexpected(std::format(
        "{0} is missing: no client connects without a certificate: --{0}=<FILE>", name));
    }
  }
  if (certificates.size() != keys.size()) {
    return std::unexpected(std::format(
      "{} of cert, but {} of key: the first key is that of the first certificate, and so on",
      certificates.size(), keys.size()));
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    setup.certificates.push_back({.certificate_file = certificates[i], .key_file = keys[i]});
    if (auto checked = CheckCertificate(setup.certificates.back(), setup.warnings); !checked) {
      return checked;
    }
  }
  const auto &authorities = setup.options.proxy.server.client_ca_file;
  return authorities.empty() ? Done() : CheckAuthorities(authorities);
}

// Whom TLS asks for a certificate.
ClientCertificates AskedOfClients(const Configured &setup) {
  if (setup.options.proxy.server.client_ca_file.empty()) {
    return ClientCertificates::kNone;
  }
  return setup.users || setup.options.open ? ClientCertificates::kRequested
                                           : ClientCertificates::kRequired;
}

Done CheckMoves(const ProxyProgramOptions &options) {
  const bool moves = options.migrate_every.count() > 0 || options.migrate_on_handshake;
  if (moves && options.alternates.empty()) {
    return std::unexpected(
      "there is nowhere to move to: name an address of this machine with --alternate-addr");
  }
  if (!options.alternates.empty() && options.listen.empty()) {
    return std::unexpected("alternate-addr needs listen: sockets of a service manager do not move");
  }
  for (const auto &address : options.alternates) {
    if (IsWildcard(address)) {
      return std::unexpected(std::format(
        "alternate-addr must be one address, and {} is all of them", EndpointText(address)));
    }
  }
  return {};
}

// Where it will listen.
std::expected<std::vector<Endpoint>, Complaint> Listeners(const Configured &setup,
                                                          const std::vector<int> &passed) {
  auto addresses = setup.options.listen;
  addresses.append_range(setup.options.alternates);
  for (const int fd : passed) {
    sockaddr_storage storage{};
    auto *name = reinterpret_cast<sockaddr *>(&storage);
    socklen_t size = sizeof(storage);
    const auto local = ::getsockname(fd, name, &size) == 0 ? ToEndpoint(name) : std::nullopt;
    if (!local) {
      return std::unexpected(std::format(
        "socket {} of the service manager is none of UDP: it needs ListenDatagram=", fd));
    }
    addresses.push_back(*local);
  }
  if (addresses.empty()) {
    return std::unexpected(
      "listen is missing: where clients connect to, such as --listen=127.0.0.1:443");
  }
  return addresses;
}

Done ReadUsers(Configured &setup) {
  const auto &file = setup.options.users;
  if (file.empty()) {
    return {};
  }
  if (setup.options.open) {
    return std::unexpected("open and users exclude each other: leave one of them out");
  }
  const auto text = ReadFile(file);
  if (!text) {
    return std::unexpected(text.error());
  }
  auto users = Users::Parse(*text, file.string());
  if (!users) {
    return std::unexpected(std::move(users.error()));
  }
  for (const auto &[name, user] : users->all()) {
    if (!user.policy.empty() && !setup.policies.contains(user.policy)) {
      return std::unexpected(
        std::format("{}: {} has the policy {}, but the configuration has no [policy.{}]",
                    file.string(), name, user.policy, user.policy));
    }
  }
  setup.users = std::make_shared<const Users>(*std::move(users));
  return {};
}

// What is not in the table is as for everybody: an address that is denied to all stays so.
Done ReadPolicies(Configured &setup) {
  for (const auto &[name, own] : setup.settings.groups) {
    ProxyProgramOptions options;
    const auto program = ProxyProgram(options);
    auto values = own;
    for (const auto &option : program.options) {
      const auto above = setup.settings.values.find(option.name);
      if (option.grouped && above != setup.settings.values.end()) {
        values.insert(*above);
      }
    }
    if (auto applied = Apply(program, values); !applied) {
      return applied;
    }
    const auto rate = values.contains("rate-per-client")
                        ? std::optional(options.proxy.proxy.proxy.max_bytes_per_second_per_client)
                        : std::nullopt;
    setup.policies.emplace(name, UserPolicy{.targets = std::move(options.proxy.proxy.policy),
                                            .max_bytes_per_second = rate});
  }
  return {};
}

Done ReadSecret(Configured &setup) {
  if (setup.options.secret_file.empty()) {
    return {};
  }
  auto secret = ReadSecretFile(setup.options.secret_file);
  if (!secret) {
    return std::unexpected(std::move(secret.error()));
  }
  setup.options.proxy.server.secret = *secret;
  return {};
}

Done ReadAll(Configured &setup, const Settings &command_line, const std::vector<int> &passed) {
  const auto program = ProxyProgram(setup.options);
  auto settings = Complete(program, command_line);
  if (!settings) {
    return std::unexpected(std::move(settings.error()));
  }
  setup.settings = *std::move(settings);
  if (auto applied = Apply(program, setup.settings.values); !applied) {
    return applied;
  }
  if (auto read = ReadCertificates(setup); !read) {
    return read;
  }
  if (auto read = ReadPolicies(setup); !read) {
    return read;
  }
  if (auto read = ReadUsers(setup); !read) {
    return read;
  }
  if (auto read = ReadSecret(setup); !read) {
    return read;
  }
  if (auto checked = CheckMoves(setup.options); !checked) {
    return checked;
  }
  return Listeners(setup, passed).and_then([&](const auto &addresses) {
    return CheckListeners(setup, addresses);
  });
}

// What the library is given of it.
void Fill(Configured &setup) {
  auto &[listener, server, proxy, log] = setup.options.proxy;
  listener.addresses = setup.options.listen;
  listener.addresses.append_range(setup.options.alternates);
  server.certificate_file = setup.certificates.front().certificate_file;
  server.key_file = setup.certificates.front().key_file;
  server.more_certificates.assign(setup.certificates.begin() + 1, setup.certificates.end());
  server.client_certificates = AskedOfClients(setup);
}

} // namespace

std::expected<Configured, Complaint> Load(const Settings &command_line,
                                          const std::vector<int> &passed) {
  Configured setup;
  if (auto read = ReadAll(setup, command_line, passed); !read) {
    return std::unexpected(std::move(read.error()));
  }
  Fill(setup);
  return setup;
}

bool KnowsClients(const Configured &setup) {
  return setup.users || !setup.options.proxy.server.client_ca_file.empty();
}

Done CheckListeners(const Configured &setup, const std::vector<Endpoint> &addresses) {
  const auto far = std::ranges::find_if_not(addresses, IsLoopback);
  if (far == addresses.end() || setup.options.open || KnowsClients(setup)) {
    return {};
  }
  return std::unexpected(std::format(
    "without users everybody could use {}: name them with --users=<FILE> or --client-ca=<FILE>, "
    "listen on a loopback address, or say --open",
    EndpointText(*far)));
}

std::vector<std::string> NeedRestart(const Configured &before, const Configured &after) {
  static const std::vector<Value> kNone;
  std::vector<std::string> names;
  ProxyProgramOptions options;
  for (const auto &option : ProxyProgram(options).options) {
    const auto values = [&](const Configured &setup) -> const std::vector<Value> & {
      const auto found = setup.settings.values.find(option.name);
      return found == setup.settings.values.end() ? kNone : found->second;
    };
    if (!option.reloaded && !option.command_line_only &&
        !std::ranges::equal(values(before), values(after), {}, &Value::text, &Value::text)) {
      names.push_back(option.name);
    }
  }
  if (before.options.proxy.server.secret != after.options.proxy.server.secret &&
      !std::ranges::contains(names, "secret-file")) {
    names.emplace_back("what is in secret-file");
  }
  return names;
}

} // namespace ngmasque::programs
