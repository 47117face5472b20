// A certificate with its key, as files.
#pragma once

#include "quic_support.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include <gnutls/x509.h>

namespace quic_test {

struct CertificateFiles : Certificate {
  CertificateFiles() : key(file().string() + ".key") {
    gnutls_x509_privkey_t raw;
    EXPECT_EQ(gnutls_certificate_get_x509_key(credentials(), 0, &raw), 0);
    gnutls_datum_t pem;
    EXPECT_EQ(gnutls_x509_privkey_export2(raw, GNUTLS_X509_FMT_PEM, &pem), 0);
    std::ofstream(key).write(reinterpret_cast<const char *>(pem.data), pem.size);
    gnutls_free(pem.data);
    gnutls_x509_privkey_deinit(raw);
  }
  ~CertificateFiles() {
    std::error_code ignored;
    std::filesystem::remove(key, ignored);
  }
  std::filesystem::path key;
};

} // namespace quic_test
