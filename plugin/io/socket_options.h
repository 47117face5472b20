// What UDP sockets are told when they are made.
#pragma once

#include <cstddef>

namespace ngmasque {

/// No ECN, DF or speed without it, but packets all the same: errors are ignored.
void SetOption(int fd, int level, int name, int value);

/// Packets are never fragmented, what ICMP says about the path's MTU is not believed, and what
/// arrives comes with its ECN bits and as many at once as the kernel has put together.
void PrepareUdp(int fd, bool ipv4);

/// Makes room for `bytes` in SO_RCVBUF or SO_SNDBUF (`option`), or as much as the system allows;
/// `force`: the option that goes beyond what others may have.  Never less than there was.
void GrowBuffer(int fd, int option, int force, std::size_t bytes);

} // namespace ngmasque
