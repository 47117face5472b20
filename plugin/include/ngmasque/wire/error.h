// What can be wrong with bytes that are read, or with a value that is to be written.
#pragma once

#include <cstdint>
#include <string_view>

namespace ngmasque {

/// The errors of all functions in wire/; each function says which of them it has.
enum class WireError : std::uint8_t {
  kEmpty,     ///< Nothing is there, where a packet or a value has to be.
  kTruncated, ///< The input ends before what has to be there does.
  kTooLarge,  ///< An integer or identifier above its largest value.
  kTooLong,   ///< A payload or field value above its longest length.
  kNoSpace,   ///< The output is shorter than what is to be written.

  // QUIC packets, and payloads in datagrams and on streams.
  kWrongForm,        ///< A short header where a long one was asked for, or the reverse.
  kNotRequestStream, ///< The stream id is not that of a request (RFC 9000, section 2.1).
  kIncomplete,       ///< All input is used up and the payload is not there yet: wait for more.

  // Structured fields.
  kUnknownType,       ///< No type begins with this character.
  kNumber,            ///< Not an Integer or Decimal, or one out of range.
  kString,            ///< Not a String.
  kToken,             ///< Not a Token (only when writing).
  kByteSequence,      ///< Not a Byte Sequence, or not base64.
  kBoolean,           ///< Not a Boolean.
  kDate,              ///< Not a Date, or one out of range.
  kDisplayString,     ///< Not a Display String, or not UTF-8.
  kKey,               ///< A parameter without a proper name.
  kTooManyParameters, ///< More than sf::kMaxParameters.
  kTrailing,          ///< Something after what had to be there, for example a list's second member.

  // The Capsule Protocol, and URI templates.
  kResetToken, ///< A stateless reset token that has neither 0 nor 16 bytes.
  kTemplate,   ///< Not a URI template, or not one of a UDP proxy (RFC 9298, section 2).
};

/// The error in words, for logs.
[[nodiscard]] std::string_view ErrorName(WireError error);

} // namespace ngmasque
