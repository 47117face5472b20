// ngmasque-proxy's configuration, and the files that it names.

#include "configured.h"
#include "options.h"
#include "programs_support.h"
#include "quic_issued_certificate.h"
#include "secret_file.h"

#include "ngmasque/manual.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque::programs {
namespace {

class ProgramConfigured : public testing::Test {
protected:
  ProgramConfigured() {
    issuer_.Issue({.dns = {"proxy.example"}}, first_);
    issuer_.Issue({.dns = {"other.example"}, .expired = true}, expired_);
  }
  ~ProgramConfigured() override { std::filesystem::remove_all(directory_); }

  // Its path.
  std::string Write(const char *name, std::string_view text) {
    const auto file = directory_ / name;
    std::ofstream(file) << text;
    return file.string();
  }
  std::expected<Configured, Complaint> Read(std::vector<std::string> words,
                                            const std::vector<int> &passed = {}) {
    ProxyProgramOptions options;
    return Load(ReadWords(ProxyProgram(options), std::move(words)).value(), passed);
  }
  // Besides a listener and a certificate.
  std::expected<Configured, Complaint> ReadMore(std::vector<std::string> words) {
    words.insert(words.begin(), {"--listen=127.0.0.1:0", "--cert", first_.file, "--key", first_.key});
    return Read(std::move(words));
  }
  std::string Wrong(std::vector<std::string> words) {
    const auto configured = ReadMore(std::move(words));
    return configured ? "" : configured.error();
  }

  static std::filesystem::path MakeDirectory() {
    auto name = testing::TempDir() + "/ngmasque-proxy-XXXXXX";
    return ::mkdtemp(name.data()) ? name : "";
  }
  std::filesystem::path directory_ = MakeDirectory();
  quic_test::Issuer issuer_;
  quic_test::Issuer::Issued first_, expired_;
};

TEST_F(ProgramConfigured, SaysWhatIsMissing) {
  const auto wrong = [&](std::vector<std::string> words) { return Read(std::move(words)).error(); };
  EXPECT_EQ(wrong({}), "cert is missing: no client connects without a certificate: --cert=<FILE>");
  EXPECT_EQ(wrong({"--cert", first_.file}),
            "key is missing: no client connects without a certificate: --key=<FILE>");
  EXPECT_EQ(wrong({"--cert", first_.file, "--key", first_.key}),
            "listen is missing: where clients connect to, such as --listen=127.0.0.1:443");
  EXPECT_EQ(wrong({"--cert=/nowhere/c", "--key=/nowhere/k"}), "/nowhere/c: No such file or directory");
  EXPECT_EQ(wrong({"--metrics=192.0.2.1:9100"}),
            "--metrics must be a port of a loopback address, such as 127.0.0.1:9100: everybody who gets there can "
            "read it");
  EXPECT_EQ(wrong({"--min-connection-id=256"}), "--min-connection-id must be a number of 0 to 255");
}

TEST_F(ProgramConfigured, Certificates) {
  const auto both = ReadMore({"--cert", expired_.file, "--key", expired_.key});
  ASSERT_TRUE(both) << both.error();
  ASSERT_EQ(both->certificates.size(), 2U);
  EXPECT_EQ(both->certificates[1].key_file, expired_.key);
  const auto &server = both->options.proxy.server;
  EXPECT_EQ(server.certificate_file, first_.file);
  ASSERT_EQ(server.more_certificates.size(), 1U);
  EXPECT_EQ(server.more_certificates[0].certificate_file, expired_.file);
  ASSERT_EQ(both->warnings.size(), 1U);
  EXPECT_TRUE(both->warnings[0].starts_with(expired_.file.string() + " has expired on "));

  EXPECT_EQ(Wrong({"--key", first_.key}),
            "1 of cert, but 2 of key: the first key is that of the first certificate, and so on");
  EXPECT_TRUE(Wrong({"--cert", expired_.file, "--key", first_.key}).contains("its own key"));
  EXPECT_TRUE(Wrong({"--cert", Write("text", "none"), "--key", first_.key}).contains("a certificate in PEM"));
}

TEST_F(ProgramConfigured, WhoIsAskedForACertificate) {
  const auto asked = [&](std::vector<std::string> words) {
    return ReadMore(std::move(words)).value().options.proxy.server.client_certificates;
  };
  const auto ca = "--client-ca=" + issuer_.file.string();
  EXPECT_EQ(asked({}), ClientCertificates::kNone);
  EXPECT_EQ(asked({ca}), ClientCertificates::kRequired);
  EXPECT_EQ(asked({ca, "--open"}), ClientCertificates::kRequested);
  EXPECT_EQ(asked({ca, "--users", Write("users", "")}), ClientCertificates::kRequested);
  EXPECT_TRUE(Wrong({"--client-ca", Write("empty", "")}).contains("that sign those of clients"));
}

TEST_F(ProgramConfigured, NoOpenProxyByAccident) {
  EXPECT_EQ(Wrong({"--listen=127.5.0.1:0", "--listen=[::1]:0"}), "");
  for (const auto *option : {"--listen=0.0.0.0:0", "--listen=[::]:0", "--listen=192.0.2.1:0", "--alternate-addr=192.0.2.1:0"}) {
    EXPECT_TRUE(Wrong({option}).starts_with("without users everybody could use ")) << option;
    EXPECT_EQ(Wrong({option, "--open"}), "");
    EXPECT_EQ(Wrong({option, "--client-ca", issuer_.file}), "");
    EXPECT_EQ(Wrong({option, "--users", Write("users", "")}), "");
  }
  EXPECT_EQ(Wrong({"--open", "--users", Write("users", "")}),
            "open and users exclude each other: leave one of them out");
  // The same for what a service manager passes.
  const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr *>(&any), sizeof(any)), 0);
  const auto passed = Read({"--cert", first_.file, "--key", first_.key}, {fd});
  ::close(fd);
  ASSERT_FALSE(passed);
  EXPECT_TRUE(passed.error().starts_with("without users everybody could use 0.0.0.0:"));
}

TEST_F(ProgramConfigured, Policies) {
  const auto config = Write("a.toml", "allow = '10.0.0.0/8'\nrate-per-client = 9\n[policy.wide]\n"
                                      "allow = ['0.0.0.0/0']\ndeny-name = '.Example.COM'\n[policy.fast]\n"
                                      "rate-per-client = '1M'\n");
  const auto configured = ReadMore({"--config", config});
  ASSERT_TRUE(configured) << configured.error();
  EXPECT_EQ(configured->options.proxy.proxy.policy.allow.size(), 1U);
  ASSERT_EQ(configured->policies.size(), 2U);
  const auto &wide = configured->policies.find("wide")->second;
  EXPECT_EQ(wide.targets.allow, (std::vector{ParseAddressBlock("0.0.0.0/0").value()}));
  EXPECT_EQ(wide.targets.deny_names, (std::vector<std::string>{"example.com"}));
  EXPECT_EQ(wide.max_bytes_per_second, 9U);
  const auto &fast = configured->policies.find("fast")->second;
  EXPECT_EQ(fast.targets.allow, configured->options.proxy.proxy.policy.allow) << "what is not there is as above";
  EXPECT_EQ(fast.max_bytes_per_second, 1U << 20);

  const auto users = Write("users", "a:sha256:" + std::string(64, '0') + " narrow\n");
  EXPECT_EQ(Wrong({"--config", config, "--users", users}),
            users + ": a has the policy narrow, but the configuration has no [policy.narrow]");
}

TEST_F(ProgramConfigured, Moves) {
  const auto moving = ReadMore({"--alternate-addr=127.0.0.2:0", "--migrate-every=1s"});
  ASSERT_TRUE(moving) << moving.error();
  EXPECT_EQ(moving->options.proxy.listener.addresses.size(), 2U);
  for (const auto *option : {"--migrate-every=1s", "--migrate-on-handshake"}) {
    EXPECT_TRUE(Wrong({option}).starts_with("there is nowhere to move to: "));
  }
  EXPECT_EQ(Wrong({"--open", "--alternate-addr=0.0.0.0:1"}),
            "alternate-addr must be one address, and 0.0.0.0:1 is all of them");
}

TEST_F(ProgramConfigured, SecretFile) {
  const auto file = directory_ / "secret";
  const auto read = [&] {
    return ReadMore({"--secret-file", file}).value().options.proxy.server.secret;
  };
  EXPECT_FALSE(ReadMore({}).value().options.proxy.server.secret);
  EXPECT_FALSE(read()) << "nothing is made";
  EXPECT_FALSE(std::filesystem::exists(file));

  const auto made = MakeSecretFile(file);
  ASSERT_TRUE(made) << made.error();
  using enum std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(file).permissions(), owner_read | owner_write);
  EXPECT_EQ(read(), made.value());
  EXPECT_EQ(MakeSecretFile(file), made) << "never over one that is there";
  std::filesystem::remove(file);
  EXPECT_NE(MakeSecretFile(file).value(), made.value()) << "drawn";
  // The directory has nothing else in it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);

  std::filesystem::permissions(file, others_read, std::filesystem::perm_options::add);
  EXPECT_EQ(Wrong({"--secret-file", file}),
            file.string() + " is no secret, as everybody gets to it: chmod o= " + file.string());
  Write("secret", std::string(31, 'x'));
  std::filesystem::permissions(file, owner_read | group_read);
  EXPECT_TRUE(Wrong({"--secret-file", file}).contains("has to have 32 bytes or more"));
  EXPECT_EQ(Wrong({"--secret-file=/nowhere/secret"}), "/nowhere/secret: No such file or directory");
  EXPECT_EQ(MakeSecretFile("/nowhere/secret").error(), "/nowhere/secret: No such file or directory");
}

TEST_F(ProgramConfigured, SampleAndTableAgree) {
  ProxyProgramOptions options;
  const auto program = ProxyProgram(options);
  const auto read = ParseConfiguration(program, SampleConfiguration(program), "sample");
  ASSERT_TRUE(read) << read.error();
  EXPECT_TRUE(read->values.empty());
  std::set<std::string> names;
  for (const auto &option : program.options) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    EXPECT_TRUE(option.command_line_only || option.set) << option.name;
    // Its own default can be set.
    if (!option.initial.empty()) {
      EXPECT_TRUE(option.set(option.initial)) << option.name;
    }
  }
}

TEST_F(ProgramConfigured, WhatNeedsANewStart) {
  Configured before, after;
  before.settings.values["listen"] = {{.text = "127.0.0.1:1", .where = ""}};
  before.settings.values["cert"] = {{.text = "a", .where = ""}};
  after.settings.values["cert"] = {{.text = "b", .where = ""}};
  after.settings.values["max-sockets"] = {{.text = "5", .where = ""}};
  EXPECT_EQ(NeedRestart(before, after), (std::vector<std::string>{"listen", "max-sockets"}));
  EXPECT_TRUE(NeedRestart(before, before).empty());
  // The file is another one, or there is something else in it.
  after = before;
  after.options.proxy.server.secret.emplace();
  EXPECT_EQ(NeedRestart(before, after), (std::vector<std::string>{"what is in secret-file"}));
  after.settings.values["secret-file"] = {{.text = "a", .where = ""}};
  EXPECT_EQ(NeedRestart(before, after), (std::vector<std::string>{"secret-file"}));
}

} // namespace
} // namespace ngmasque::programs
