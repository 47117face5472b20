#include "certificates.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <format>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

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

// Null if there is no memory.
Credentials Allocate() {
  gnutls_certificate_credentials_t made = nullptr;
  std::ignore = gnutls_certificate_allocate_credentials(&made);
  return {made, gnutls_certificate_free_credentials};
}

} // namespace

Done CheckCertificate(const CertificateAndKey &pair, std::vector<std::string> &warnings) {
  const auto &[certificate, key] = pair;
  for (const auto &file : {certificate, key}) {
    if (auto read = ReadFile(file); !read) {
      return std::unexpected(std::move(read.error()));
    }
  }
  const auto credentials = Allocate();
  const int error = gnutls_certificate_set_x509_key_file2(
    credentials.get(), certificate.c_str(), key.c_str(), GNUTLS_X509_FMT_PEM, nullptr, 0);
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

Done CheckAuthorities(const std::filesystem::path &file) {
  if (auto read = ReadFile(file); !read) {
    return std::unexpected(std::move(read.error()));
  }
  const auto credentials = Allocate();
  const int found =
    gnutls_certificate_set_x509_trust_file(credentials.get(), file.c_str(), GNUTLS_X509_FMT_PEM);
  if (found <= 0) {
    return std::unexpected(
      std::format("{}: {}; certificates in PEM are needed that sign those of clients",
                  file.string(), found == 0 ? "there is none" : gnutls_strerror(found)));
  }
  return {};
}

} // namespace ngmasque::programs
