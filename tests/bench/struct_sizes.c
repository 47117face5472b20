/* Sizes of structures that every connection has, or that are allocated for each
   connection ID or packet, in the library's own headers.  Built and run by
   `migration`. */

#include <stdio.h>

#include "ngtcp2_conn.h"
#include "ngtcp2_frame_chain.h"

#define PRINT(TYPE) printf("\"%s\": %zu,\n", #TYPE, sizeof(TYPE))

int main(void) {
  puts("{");
  PRINT(ngtcp2_callbacks);
  PRINT(ngtcp2_transport_params);
  PRINT(ngtcp2_scid);
  PRINT(ngtcp2_dcid);
  PRINT(ngtcp2_pv);
  PRINT(ngtcp2_rtb);
  PRINT(ngtcp2_frame);
  PRINT(ngtcp2_frame_chain);
  printf("\"ngtcp2_conn\": %zu\n}\n", sizeof(ngtcp2_conn));
  return 0;
}
