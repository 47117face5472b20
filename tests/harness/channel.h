// The way of results between the processes of a program; guardian.h.
//
// A SOCK_SEQPACKET pair: each record is one packet, whole or not there, whichever thread or process
// of the test sends it; and what was sent before a crash arrives.
#pragma once

#include "harness.h"

#include <cstdint>
#include <optional>

namespace harness {

struct Record {
  enum class Kind : std::uint8_t {
    part,  ///< An assertion's result.
    leak,  ///< LeakSanitizer has just reported on stderr.
    over,  ///< A test's own process came to its end, and all its records are sent.
    suite, ///< A suite, or such a test, begins.
    done,  ///< A suite came to its end.
    begin, ///< A function of the suite is about to be called,
    end,   ///< and has returned.
  };
  Kind kind;
  Part part;              ///< Kind::part's; Kind::end has its own use for line and message.
  unsigned int count = 0; ///< Only for Kind::end.
};

/// Longest file name plus message, in bytes, that a record carries.  What is longer is cut, to less
/// if need be: it has to fit into the socket's buffer in one piece.
inline constexpr std::size_t kMaxRecordText = 65536;

/// Sends a record; blocks while the buffer is full.  Errors are ignored: the runner notices that
/// the last record is missing.
void Send(int fd, const Record &record);

/// Receives the next record.  None: `again` says whether there may be one later or the other end is
/// closed.  Never blocks.
[[nodiscard]] std::optional<Record> Receive(int fd, bool &again);

} // namespace harness
