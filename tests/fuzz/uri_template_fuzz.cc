// The first line is a template, the second one a path to be read with it; and with the third one
// they are a target, for which a path is made of the template.

#include "ngmasque/wire/uri_template.h"

#include "check.h"

#include <algorithm>
#include <cstdint>

using namespace ngmasque;

namespace {

std::string_view TakeLine(std::string_view &text) {
  const auto line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

// As a request can have it.
void CheckPath(std::string_view path) {
  CHECK(path.starts_with('/'));
  CHECK(std::ranges::all_of(path, [](char c) { return c > 0x20 && c < 0x7f && c != '#'; }));
}

void Read(const UriTemplate &proxy, std::string_view path) {
  const auto target = proxy.Match(path);
  if (!target) {
    return;
  }
  CHECK(path.size() <= kMaxTemplateLength);
  CheckPath(path);
  CHECK(target->host.size() + target->port.size() <= path.size());
  // Expanded, it may be longer than what came, which need not have been encoded as much, but not
  // another one.
  const auto again = proxy.Expand(target->host, target->port);
  CHECK(again.size() > kMaxTemplateLength || proxy.Match(again) == target);
}

void Make(const UriTemplate &made_of, bool is_proxys, const UdpTarget &target) {
  const auto path = made_of.Expand(target.host, target.port);
  CheckPath(path);
  const auto read = made_of.Match(path);
  if (read) {
    CHECK(*read == target);
  } else {
    CHECK(!is_proxys || path.size() > kMaxTemplateLength);
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  std::string_view text{reinterpret_cast<const char *>(data), size};
  const auto line = TakeLine(text);
  const auto made_of = UriTemplate::Parse(line);
  if (!made_of) {
    CHECK(made_of.error() == WireError::kTemplate || made_of.error() == WireError::kTooLong);
    CHECK(made_of.error() != WireError::kTooLong || line.size() > kMaxTemplateLength);
    return 0;
  }
  const bool is_proxys = line.starts_with('/');
  CHECK(is_proxys == made_of->authority().empty());
  const auto path = TakeLine(text);
  Read(*made_of, path);
  Make(*made_of, is_proxys, {.host = std::string(path), .port = std::string(text)});
  return 0;
}
