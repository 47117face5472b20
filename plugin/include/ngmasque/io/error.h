// What can go wrong in io/.
#pragma once

#include "ngmasque/quic/error.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace ngmasque {

/// The error type of this folder.  Which of the codes a function has stands with it.
struct IoError {
  enum Code : std::uint8_t {
    // QuicError, of the outer connection.
    kTls = QuicError::kTls,           ///< GnuTLS refused the configuration, such as the CA file.
    kQlog = QuicError::kQlog,         ///< A qlog or key log file could not be opened.
    kArgument = QuicError::kArgument, ///< An option is out of its range.
    kClosed = QuicError::kClosed,     ///< The outer connection is over.
    kNotReady = QuicError::kNotReady, ///< It is not there yet, or cannot do it just now.
    kGoingAway = QuicError::kGoingAway, ///< The proxy takes no more tunnels on this connection.
    kNotSupported = QuicError::kNotSupported, ///< The proxy does not want its clients to migrate.
    kInternal = QuicError::kInternal,         ///< A library refused what it should not.

    kResolve,        ///< The proxy's name has no address.
    kSocket,         ///< The system refused something about a socket: `system` says why.
    kTooManyTunnels, ///< ProxyClient::Options::max_tunnels.
    kIdConflict,     ///< The inner connection ID is equal to, a prefix of or begins with one of the
                     ///< outer connection or of another tunnel: choose another one.
  };

  // Not explicit: a code alone is an error, too, and so is what quic/ says.
  IoError(Code code_in, int system_in = 0) : code(code_in), system(system_in) {}
  IoError(QuicError error) : code(Code(error.code)), text(std::move(error.text)) {}

  Code code;
  int system = 0;   ///< errno, with kSocket; otherwise 0.
  std::string text; ///< More of it, for people; may be empty.

  [[nodiscard]] bool operator==(Code other) const { return code == other; }
};

/// The error in words, for logs.
[[nodiscard]] std::string_view ErrorName(IoError::Code code);

/// The same, with what the system said and its text.
[[nodiscard]] std::string ErrorText(const IoError &error);

} // namespace ngmasque
