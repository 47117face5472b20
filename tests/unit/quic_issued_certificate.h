// Certificates that somebody has issued, as files.
#pragma once

#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <gnutls/x509.h>
#include <unistd.h>

namespace quic_test {

/// Who issues; its own certificate is in `file`.
class Issuer {
public:
  struct Subject {
    std::vector<std::string> dns{};
    std::string email{};
    std::string common_name{};
    const char *purpose = nullptr; ///< An OID; null: any.
    bool expired = false;
  };

  /// A certificate and its key, deleted with this object.
  struct Issued {
    Issued() = default;
    ~Issued() {
      std::error_code ignored;
      std::filesystem::remove(file, ignored);
      std::filesystem::remove(key, ignored);
    }
    Issued(Issued &&) = delete;
    std::filesystem::path file, key;
  };

  Issuer() {
    Key(key_);
    gnutls_x509_crt_init(&certificate_);
    Fill(certificate_, key_, {.common_name = Number("issuer ")});
    gnutls_x509_crt_set_basic_constraints(certificate_, 1, -1);
    EXPECT_EQ(gnutls_x509_crt_sign2(certificate_, certificate_, key_, GNUTLS_DIG_SHA256, 0), 0);
    file = Write(certificate_);
  }
  ~Issuer() {
    gnutls_x509_crt_deinit(certificate_);
    gnutls_x509_privkey_deinit(key_);
    std::error_code ignored;
    std::filesystem::remove(file, ignored);
  }
  Issuer(const Issuer &) = delete;
  Issuer &operator=(const Issuer &) = delete;

  void Issue(const Subject &subject, Issued &issued) const {
    gnutls_x509_privkey_t key;
    Key(key);
    gnutls_x509_crt_t certificate;
    gnutls_x509_crt_init(&certificate);
    Fill(certificate, key, subject);
    EXPECT_EQ(gnutls_x509_crt_sign2(certificate, certificate_, key_, GNUTLS_DIG_SHA256, 0), 0);
    issued.file = Write(certificate);
    issued.key = issued.file.string() + ".key";
    gnutls_datum_t pem;
    EXPECT_EQ(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
    WritePem(issued.key, pem);
    gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
  }

  std::filesystem::path file;

private:
  static std::string Number(std::string_view text) {
    static int count = 0;
    return std::string(text) + std::to_string(++count);
  }

  static void Key(gnutls_x509_privkey_t &key) {
    gnutls_x509_privkey_init(&key);
    EXPECT_EQ(gnutls_x509_privkey_generate(
                key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
              0);
  }

  static void Fill(gnutls_x509_crt_t certificate, gnutls_x509_privkey_t key,
                   const Subject &subject) {
    constexpr int kDay = 24 * 60 * 60;
    const auto now = std::time(nullptr);
    const auto serial = Number("");
    gnutls_x509_crt_set_version(certificate, 3);
    gnutls_x509_crt_set_serial(certificate, serial.data(), serial.size());
    gnutls_x509_crt_set_activation_time(certificate, now - 2 * kDay);
    gnutls_x509_crt_set_expiration_time(certificate, subject.expired ? now - kDay : now + kDay);
    gnutls_x509_crt_set_key(certificate, key);
    if (const auto &name = subject.common_name; !name.empty()) {
      gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, name.data(),
                                    static_cast<unsigned>(name.size()));
    }
    const auto add = [certificate](gnutls_x509_subject_alt_name_t type, const std::string &name) {
      EXPECT_EQ(gnutls_x509_crt_set_subject_alt_name(certificate, type, name.data(),
                                                     static_cast<unsigned>(name.size()),
                                                     GNUTLS_FSAN_APPEND),
                0);
    };
    if (!subject.email.empty()) {
      add(GNUTLS_SAN_RFC822NAME, subject.email);
    }
    for (const auto &name : subject.dns) {
      add(GNUTLS_SAN_DNSNAME, name);
    }
    if (subject.purpose) {
      gnutls_x509_crt_set_key_purpose_oid(certificate, subject.purpose, 0);
    }
  }

  static void WritePem(const std::filesystem::path &file, gnutls_datum_t pem) {
    std::ofstream(file).write(reinterpret_cast<const char *>(pem.data), pem.size);
    gnutls_free(pem.data);
  }

  static std::filesystem::path Write(gnutls_x509_crt_t certificate) {
    const auto file = std::filesystem::temp_directory_path() /
                      Number("ngmasque-issued-" + std::to_string(::getpid()) + "-");
    gnutls_datum_t pem;
    EXPECT_EQ(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), 0);
    WritePem(file, pem);
    return file;
  }

  gnutls_x509_privkey_t key_;
  gnutls_x509_crt_t certificate_;
};

} // namespace quic_test
