// The input is a script: what the peer, the application, the network and the clock do to a
// connection of a client or a server, and when memory fails (ngtcp2_run.cc).  ngtcp2_oracle.h says
// what must hold after each step.
//
// NGMASQUE_FUZZ_LOG=1 in the environment shows what the connection does.

#include "ngtcp2_run.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  ngtcp2_fuzz::Run{ngtcp2_fuzz::Script{{data, size}}}.All();
  return 0;
}
