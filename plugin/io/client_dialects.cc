#include "ngmasque/io/client_dialects.h"

#include "ngmasque/session/draft00.h"

#include <format>
#include <memory>
#include <utility>

namespace ngmasque {

namespace {

// RFC 9298, section 2: what a client uses that is told a host and a port.
std::string DefaultTemplate(std::string_view host, std::string_view port) {
  const bool is_v6 = host.contains(':');
  return std::format("https://{}{}{}{}{}{}", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
                     port == "443" ? "" : ":", port == "443" ? "" : port, kDefaultUdpPath);
}

} // namespace

std::expected<ClientDialectFactory, IoError>
MakeClientDialects(const ClientDialectChoice &choice, std::string_view host, std::string_view port,
                   const HashKey &key) {
  if (choice.dialect == ProxyDialect::kDraft00) {
    return MakeDraft00Client;
  }
  if (choice.dialect == ProxyDialect::kDraft03) {
    return MakeDraft03Client;
  }
  auto uri = UriTemplate::Parse(choice.uri_template.empty() ? DefaultTemplate(host, port)
                                                            : choice.uri_template);
  if (!uri || uri->authority().empty()) {
    return std::unexpected(IoError(IoError::kArgument));
  }
  return [falls_back = choice.dialect == ProxyDialect::kAuto,
          options = Rfc9298ClientOptions{.uri = *std::move(uri),
                                         .key = key,
                                         .transforms = choice.transforms,
                                         .revision = choice.revision,
                                         .port_sharing = choice.port_sharing}](
           const ClientDialectOptions &connection) -> std::unique_ptr<ClientDialect> {
    if (connection.settings && !connection.settings->connect_protocol && falls_back) {
      return MakeDraft00Client(connection);
    }
    return MakeRfc9298Client(options, connection);
  };
}

} // namespace ngmasque
