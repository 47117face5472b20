// Upstream's TLS session of the server, which with GnuTLS knows no ALPN but that of HTTP/3.
#include "shared.h"

#define H3_ALPN_V1 HQ_ALPN_V1
#include "tls_server_session_gnutls.cc"
