#include "ngmasque/wire/structured_field.h"

#include "base64.h"
#include "sf_chars.h"
#include "utf8.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace ngmasque::sf {

namespace {

using Result = std::expected<void, WireError>;

/// The algorithms of RFC 8941, section 4.1, one function for each type: append to the output.
class Writer {
public:
  Result operator()(Integer value) {
    if (!InRange(value)) {
      return std::unexpected(WireError::kNumber);
    }
    out += std::to_string(value);
    return {};
  }

  Result operator()(Decimal value) {
    if (!InRange(value.thousandths)) {
      return std::unexpected(WireError::kNumber);
    }
    const auto magnitude = std::abs(value.thousandths);
    auto fraction = std::to_string(1000 + magnitude % 1000).substr(1);
    while (fraction.size() > 1 && fraction.back() == '0') {
      fraction.pop_back();
    }
    out += value.thousandths < 0 ? "-" : "";
    out += std::to_string(magnitude / 1000) + '.' + fraction;
    return {};
  }

  Result operator()(const String &value) {
    if (!std::ranges::all_of(value, IsPrintable)) {
      return std::unexpected(WireError::kString);
    }
    out += '"';
    for (const auto c : value) {
      if (c == '"' || c == '\\') {
        out += '\\';
      }
      out += c;
    }
    out += '"';
    return {};
  }

  Result operator()(const Token &token) {
    if (token.value.empty() || !IsTokenStart(token.value.front()) ||
        !std::ranges::all_of(token.value, IsTokenChar)) {
      return std::unexpected(WireError::kToken);
    }
    out += token.value;
    return {};
  }

  Result operator()(const ByteSequence &bytes) {
    out += ':' + EncodeBase64(bytes) + ':';
    return {};
  }

  Result operator()(Boolean value) {
    out += value ? "?1" : "?0";
    return {};
  }

  // RFC 9651, section 4.1.10.
  Result operator()(Date date) {
    if (!InRange(date.seconds)) {
      return std::unexpected(WireError::kDate);
    }
    out += '@' + std::to_string(date.seconds);
    return {};
  }

  // RFC 9651, section 4.1.11.
  Result operator()(const DisplayString &text) {
    constexpr std::string_view hex = "0123456789abcdef";
    if (!IsUtf8(text.value)) {
      return std::unexpected(WireError::kDisplayString);
    }
    out += "%\"";
    for (const auto c : text.value) {
      if (IsPrintable(c) && c != '%' && c != '"') {
        out += c;
      } else {
        const auto byte = static_cast<unsigned char>(c);
        out += {'%', hex[byte >> 4], hex[byte & 0xf]};
      }
    }
    out += '"';
    return {};
  }

  Result operator()(const Parameter &parameter) {
    if (parameter.key.empty() || !IsKeyStart(parameter.key.front()) ||
        !std::ranges::all_of(parameter.key, IsKeyChar)) {
      return std::unexpected(WireError::kKey);
    }
    out += ';' + parameter.key;
    //= RFC 8941, section 3.1.2
    //# Parameters whose value is Boolean true MUST omit that value when
    //# serialized.
    if (parameter.value == BareItem{true}) {
      return {};
    }
    out += '=';
    return std::visit(*this, parameter.value);
  }

  std::string out;

private:
  static bool InRange(std::int64_t value) { return value >= -kMaxInteger && value <= kMaxInteger; }
};

} // namespace

std::expected<std::string, WireError> SerializeItem(const Item &item) {
  Writer writer;
  if (const auto written = std::visit(writer, item.value); !written) {
    return std::unexpected(written.error());
  }
  for (const auto &parameter : item.parameters) {
    if (const auto written = writer(parameter); !written) {
      return std::unexpected(written.error());
    }
  }
  return std::move(writer.out);
}

} // namespace ngmasque::sf
