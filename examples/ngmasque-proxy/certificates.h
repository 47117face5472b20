// Whether files of certificates can be used, before anything is begun with them.
#pragma once

#include "ngmasque/settings.h"

#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include <ngmasque/quic/server_certificates.h>

namespace ngmasque::programs {

/// A certificate and its own key.  One that has expired is a warning.
[[nodiscard]] std::expected<void, Complaint> CheckCertificate(const CertificateAndKey &pair,
                                                              std::vector<std::string> &warnings);

/// Those that sign for clients.
[[nodiscard]] std::expected<void, Complaint> CheckAuthorities(const std::filesystem::path &file);

} // namespace ngmasque::programs
