#include "fields.h"

#include "ngmasque/session/message.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace ngmasque {

FieldLines FindField(std::span<const HeaderField> fields, std::string_view name) {
  FieldLines lines;
  for (const auto &field : fields) {
    if (field.name != name) {
      continue;
    }
    if (lines.first) {
      lines.several = true;
      break;
    }
    lines.first = &field.value;
  }
  return lines;
}

std::optional<PseudoHeaders> ReadPseudoHeaders(std::span<const HeaderField> fields) {
  PseudoHeaders headers;
  bool others = false;
  for (const auto &[name, value] : fields) {
    if (!name.starts_with(':')) {
      others = true;
      continue;
    }
    const auto place = name == ":method"      ? &headers.method
                       : name == ":authority" ? &headers.authority
                       : name == ":scheme"    ? &headers.scheme
                       : name == ":path"      ? &headers.path
                       : name == ":protocol"  ? &headers.protocol
                                              : nullptr;
    if (!place || *place || others) {
      return std::nullopt;
    }
    *place = &value;
  }
  return headers;
}

bool HasContent(std::span<const HeaderField> fields) {
  return std::ranges::any_of(fields, [](const HeaderField &field) {
    return field.name == "content-length" || field.name == "transfer-encoding";
  });
}

std::optional<unsigned> ReadStatus(std::span<const HeaderField> fields) {
  std::optional<unsigned> status;
  bool others = false;
  for (const auto &[name, value] : fields) {
    if (!name.starts_with(':')) {
      others = true;
      continue;
    }
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (name != ":status" || status || others || value.size() != 3 ||
        !std::ranges::all_of(value, is_digit)) {
      return std::nullopt;
    }
    status = static_cast<unsigned>((value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0');
  }
  return status && *status >= 200 && *status <= 599 ? status : std::nullopt;
}

std::string ReadProxyStatus(std::span<const HeaderField> fields) {
  std::string text;
  for (const auto &[name, value] : fields) {
    if (name == kProxyStatusField && text.size() < kMaxProxyStatus) {
      text += text.empty() ? "" : ", ";
      text += std::string_view(value).substr(0, kMaxProxyStatus);
    }
  }
  text.resize(std::min(text.size(), kMaxProxyStatus));
  return text;
}

std::optional<unsigned> ReadRetryAfter(std::span<const HeaderField> fields) {
  const auto [value, several] = FindField(fields, kRetryAfterField);
  if (!value || several) {
    return std::nullopt;
  }
  unsigned seconds = 0;
  const auto *end = value->data() + value->size();
  const auto [rest, error] = std::from_chars(value->data(), end, seconds);
  if (rest != end || error == std::errc::invalid_argument) {
    return std::nullopt;
  }
  return error == std::errc() ? seconds : std::numeric_limits<unsigned>::max();
}

} // namespace ngmasque
