// What a server says who it is with, and how it knows its clients.
#pragma once

#include <filesystem>

namespace ngmasque {

/// A certificate and its key, PEM; those of its issuers follow the certificate.
struct CertificateAndKey {
  std::filesystem::path certificate_file{};
  std::filesystem::path key_file{};
};

/// What is asked of clients, and has to be acceptable if it is shown.
enum class ClientCertificates {
  kNone,
  kRequested, ///< One that has none gets in as well, without a name.
  kRequired,
};

} // namespace ngmasque
