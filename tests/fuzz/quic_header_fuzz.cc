// The first byte is the length of a short header's connection ID, the rest a packet.

#include "ngmasque/wire/quic_header.h"

#include "check.h"

using namespace ngmasque;

namespace {

/// A long header says everything but its first byte and version by the places it points to.
void Long(std::span<const std::uint8_t> packet) {
  const auto header = ParseLongHeader(packet);
  if (!header) {
    CHECK(header.error() == WireError::kTruncated);
    // RFC 8999, section 5.1, the other way round: the lengths do not fit.
    CHECK(packet.size() < 7 || packet.size() < 7u + packet[5] ||
          packet.size() < 7u + packet[5] + packet[6 + packet[5]]);
    return;
  }
  CHECK(header->dcid.data() == packet.data() + 6 && header->dcid.size() == packet[5]);
  const auto *const scid = header->dcid.data() + header->dcid.size();
  CHECK(header->scid.data() == scid + 1 && header->scid.size() == *scid);
  CHECK(header->rest.data() == header->scid.data() + header->scid.size());
  CHECK(header->rest.data() + header->rest.size() == packet.data() + packet.size());
  CHECK(header->version == (std::uint32_t{packet[1]} << 24 | std::uint32_t{packet[2]} << 16 |
                            std::uint32_t{packet[3]} << 8 | packet[4]));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::size_t length = data[0];
  const std::span<const std::uint8_t> packet{data + 1, size - 1};
  const auto form = PeekHeaderForm(packet);
  const auto dcid = ShortHeaderDcid(packet, length);
  if (!form) {
    CHECK(packet.empty());
    CHECK(ParseLongHeader(packet).error() == WireError::kEmpty);
    CHECK(dcid.error() == WireError::kEmpty);
  } else if (*form == HeaderForm::kLong) {
    Long(packet);
    CHECK(dcid.error() == WireError::kWrongForm);
  } else {
    CHECK(ParseLongHeader(packet).error() == WireError::kWrongForm);
    CHECK(dcid.has_value() == (packet.size() > length));
    CHECK(!dcid || (dcid->data() == packet.data() + 1 && dcid->size() == length));
  }
  return 0;
}
