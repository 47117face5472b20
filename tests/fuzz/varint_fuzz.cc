// Reads integers until the input ends; each is written and read again.

#include "ngmasque/wire/varint.h"

#include "check.h"

#include <array>

using namespace ngmasque;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  std::span<const std::uint8_t> rest{data, size};
  while (true) {
    const auto read = DecodeVarint(rest);
    if (!read) {
      CHECK(read.error() == WireError::kTruncated);
      CHECK(rest.size() < kVarintMaxLength);
      break;
    }
    CHECK(read->value <= kVarintMax);
    CHECK(read->length >= VarintLength(read->value) && read->length <= rest.size());
    std::array<std::uint8_t, kVarintMaxLength> out;
    const auto written = EncodeVarint(read->value, out);
    CHECK(written && *written == VarintLength(read->value));
    CHECK(DecodeVarint(std::span{out}.first(*written)) == (Varint{read->value, *written}));
    CHECK(!EncodeVarint(read->value, std::span{out}.first(*written - 1)));
    rest = rest.subspan(read->length);
  }
  return 0;
}
