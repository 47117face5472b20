// What the errors of sockets (errno) mean.
#pragma once

#include "ngmasque/session/drop_reason.h"
#include "ngmasque/session/error.h"

namespace ngmasque {

/// A socket cannot be opened: kNoSocket or kUnroutable.
[[nodiscard]] SessionError ToSessionError(int error);

/// Packets cannot be sent; 0 and EAGAIN are that the socket is full.  With kUnreachable nothing gets to the other
/// end, which may be about earlier packets, and said by reading as well.
[[nodiscard]] DropReason ToDropReason(int error);

} // namespace ngmasque
