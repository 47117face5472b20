#include "configured.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <format>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <ngmasque/quic/socket_address.h>
#include <sys/socket.h>

namespace ngmasque::programs {

namespace {

using Done = std::expected<void, Complaint>;

using Credentials = std::unique_ptr<std::remove_pointer_t<gnutls_certificate_credentials_t>,
                                    decltype(&gnutls_certificate_free_credentials)>;

// When the first of them expires, in seconds since 1970; nothing if that is not known.
std::optional<std::time_t> Expiry(const Credentials &credentials) {
  gnutls_x509_crt_t *chain = nullptr;
  unsigned size = 0;
  if (gnutls_certificate_get_x509_crt(credentials.get(), 0, &chain, &size) != 0) {
    return std::nullopt;
  }
  std::optional<std::time_t> first;
  for (auto *certificate : std::span(chain, size)) {
    const auto expiry = gnutls_x509_crt_get_expiration_time(certificate);
    first = std::min(first.value_or(expiry), expiry);
    gnutls_x509_crt_deinit(certificate);
  }
  gnutls_free(chain);
  return first;
}

// Whether a certificate and its key can be used.
Done CheckCertificate(const std::filesystem::path &certificate, const std::filesystem::path &key,
                      std::vector<std::string> &warnings) {
  for (const auto &file : {certificate, key}) {
    if (auto read = ReadFile(file); !read) {
      return std::unexpected(std::move(read.error()));
    }
  }
  gnutls_certificate_credentials_t made = nullptr;
  if (const int error = gnutls_certificate_allocate_credentials(&made); error != 0) {
    return std::unexpected(gnutls_strerror(error));
  }
  const Credentials credentials(made, gnutls_certificate_free_credentials);
  const int error = gnutls_certificate_set_x509_key_file2(made, certificate.c_str(), key.c_str(),
                                                          GNUTLS_X509_FMT_PEM, nullptr, 0);
  if (error < 0) {
    return std::unexpected(
      std::format("{} and {}: {}; a certificate in PEM and its own key are needed",
                  certificate.string(), key.string(), gnutls_strerror(error)));
  }
  if (const auto expiry = Expiry(credentials); expiry && *expiry < std::time(nullptr)) {
    warnings.push_back(
      std::format("{} has expired on {:%F}: clients that verify it do not connect; renew it",
                  certificate.string(), std::chrono::system_clock::from_time_t(*expiry)));
  }
  return {};
}

Done CheckListeners(const Configured &setup, const std::vector<int> &passed) {
  auto addresses = setup.options.proxy.listener.addresses;
  for (const int fd : passed) {
    sockaddr_storage storage{};
    auto *name = reinterpret_cast<sockaddr *>(&storage);
    socklen_t size = sizeof(storage);
    const auto local = ::getsockname(fd, name, &size) == 0 ? ToEndpoint(name) : std::nullopt;
    if (!local) {
      return std::unexpected(
        std::format("socket {} of the service manager is none of UDP: it needs "
                    "ListenDatagram=",
                    fd));
    }
    addresses.push_back(*local);
  }
  if (addresses.empty()) {
    return std::unexpected(
      "listen is missing: where clients connect to, such as --listen=127.0.0.1:443");
  }
  const auto far = std::ranges::find_if_not(addresses, IsLoopback);
  if (far != addresses.end() && !setup.users && !setup.options.open) {
    return std::unexpected(std::format(
      "without users everybody could use {}: name them with --users=<FILE>, listen on a "
      "loopback address, or say --open",
      EndpointText(*far)));
  }
  return {};
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

Done ReadPolicies(Configured &setup) {
  for (const auto &[name, values] : setup.settings.groups) {
    ProxyProgramOptions options;
    if (auto applied = Apply(ProxyProgram(options), values); !applied) {
      return applied;
    }
    setup.policies.emplace(name, std::move(options.proxy.proxy.policy));
  }
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
  auto &server = setup.options.proxy.server;
  for (const auto &[file, name] :
       {std::pair(&server.certificate_file, "cert"), std::pair(&server.key_file, "key")}) {
    if (file->empty()) {
      return std::unexpected(
        std::format("{0} is missing: no client connects without a certificate: "
                    "--{0}=<FILE>",
                    name));
    }
  }
  if (auto checked = CheckCertificate(server.certificate_file, server.key_file, setup.warnings);
      !checked) {
    return checked;
  }
  if (auto read = ReadPolicies(setup); !read) {
    return read;
  }
  if (auto read = ReadUsers(setup); !read) {
    return read;
  }
  return CheckListeners(setup, passed);
}

} // namespace

std::expected<Configured, Complaint> Load(const Settings &command_line,
                                          const std::vector<int> &passed) {
  Configured setup;
  if (auto read = ReadAll(setup, command_line, passed); !read) {
    return std::unexpected(std::move(read.error()));
  }
  return setup;
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
  return names;
}

} // namespace ngmasque::programs
