#include "ngmasque/wire/quic_header.h"

namespace ngmasque {

namespace {

// RFC 9000, section 14.
constexpr std::size_t kLeastPathPayload = 1200;

/// Checks the form and returns what follows the first byte.
std::expected<std::span<const std::uint8_t>, WireError>
AfterFirstByte(std::span<const std::uint8_t> packet, HeaderForm wanted) {
  const auto form = PeekHeaderForm(packet);
  if (!form) {
    return std::unexpected(form.error());
  }
  if (*form != wanted) {
    return std::unexpected(WireError::kWrongForm);
  }
  return packet.subspan(1);
}

/// Takes a connection ID and its length off the front of `data`.
std::expected<std::span<const std::uint8_t>, WireError>
TakeConnectionId(std::span<const std::uint8_t> &data) {
  if (data.empty() || data.size() - 1 < data[0]) {
    return std::unexpected(WireError::kTruncated);
  }
  const auto id = data.subspan(1, data[0]);
  data = data.subspan(1 + id.size());
  return id;
}

} // namespace

std::expected<HeaderForm, WireError> PeekHeaderForm(std::span<const std::uint8_t> packet) {
  if (packet.empty()) {
    return std::unexpected(WireError::kEmpty);
  }
  return (packet[0] & 0x80) != 0 ? HeaderForm::kLong : HeaderForm::kShort;
}

bool IsForStream(std::span<const std::uint8_t> payload) {
  const auto form = PeekHeaderForm(payload);
  return payload.size() <= kLeastPathPayload || (form && *form == HeaderForm::kLong);
}

std::expected<LongHeader, WireError> ParseLongHeader(std::span<const std::uint8_t> packet) {
  auto data = AfterFirstByte(packet, HeaderForm::kLong);
  if (!data) {
    return std::unexpected(data.error());
  }
  constexpr std::size_t version_length = 4;
  if (data->size() < version_length) {
    return std::unexpected(WireError::kTruncated);
  }
  LongHeader header;
  for (const auto byte : data->first(version_length)) {
    header.version = header.version << 8 | byte;
  }
  auto rest = data->subspan(version_length);
  const auto dcid = TakeConnectionId(rest);
  if (!dcid) {
    return std::unexpected(dcid.error());
  }
  const auto scid = TakeConnectionId(rest);
  if (!scid) {
    return std::unexpected(scid.error());
  }
  header.dcid = *dcid;
  header.scid = *scid;
  header.rest = rest;
  return header;
}

std::expected<std::span<const std::uint8_t>, WireError>
ShortHeaderDcid(std::span<const std::uint8_t> packet, std::size_t length) {
  const auto data = AfterFirstByte(packet, HeaderForm::kShort);
  if (!data) {
    return std::unexpected(data.error());
  }
  if (data->size() < length) {
    return std::unexpected(WireError::kTruncated);
  }
  return data->first(length);
}

std::expected<std::span<const std::uint8_t>, WireError>
PacketDcid(std::span<const std::uint8_t> packet, std::size_t length) {
  if (PeekHeaderForm(packet) == HeaderForm::kLong) {
    return ParseLongHeader(packet).transform([](const LongHeader &header) { return header.dcid; });
  }
  return ShortHeaderDcid(packet, length);
}

} // namespace ngmasque
