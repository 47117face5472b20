// What can go wrong in quic/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace ngmasque {

/// The error type of this folder.  Which of the codes a function has stands with it.
struct QuicError {
  enum Code : std::uint8_t {
    kTls,            ///< GnuTLS refused the configuration; see the text.
    kQlog,           ///< A qlog or key log file could not be opened.
    kArgument,       ///< An option is out of its range.
    kClosed,         ///< The connection is closed, or is about to be.
    kNotReady,       ///< The handshake is not complete.
    kStreamsBlocked, ///< The peer allows no more streams now: OnStreamsAvailable.
    kGoingAway,      ///< The peer takes no more requests.
    kUnknownStream,  ///< The stream is not there, or not any more.
    kNoDatagrams,    ///< The peer takes no QUIC datagrams.
    kTooLarge,       ///< It does not fit a packet or buffer, or is more than the peer takes.
    kFull,           ///< Not now: OnWritable.
    kNotSupported,   ///< The peer forbids migration, or has given no connection ID for it.
    kInternal,       ///< A library refused what it should not.  The last one: IoError goes on.
  };

  // Not explicit: a code alone is an error, too.
  QuicError(Code code_in, std::string text_in = {}) : code(code_in), text(std::move(text_in)) {}

  Code code;
  std::string text; ///< More of it, for people; may be empty.

  [[nodiscard]] bool operator==(Code other) const { return code == other; }
};

/// The error in words, for logs.
[[nodiscard]] std::string_view ErrorName(QuicError::Code code);

/// The same, with its text.
[[nodiscard]] std::string ErrorText(const QuicError &error);

} // namespace ngmasque
