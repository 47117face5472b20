// Ownership of the C libraries' objects.
#pragma once

#include <cstdio>
#include <memory>
#include <type_traits>

#include <gnutls/gnutls.h>
#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

template <auto destroy> struct Destroy {
  template <typename T> void operator()(T *object) const { destroy(object); }
};

using QuicConn = std::unique_ptr<ngtcp2_conn, Destroy<ngtcp2_conn_del>>;
using H3Conn = std::unique_ptr<nghttp3_conn, Destroy<nghttp3_conn_del>>;
using TlsSession = std::unique_ptr<std::remove_pointer_t<gnutls_session_t>, Destroy<gnutls_deinit>>;
using TlsCredentials = std::unique_ptr<std::remove_pointer_t<gnutls_certificate_credentials_t>,
                                       Destroy<gnutls_certificate_free_credentials>>;
using File = std::unique_ptr<std::FILE, Destroy<std::fclose>>;

} // namespace ngmasque
