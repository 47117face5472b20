// The server of the tests of quic/: what it is told to do.

#include "quic_support.h"

#include "ngmasque/quic/socket_address.h"

#include <cstring>
#include <utility>

namespace quic_test {

using ngmasque::SocketAddress;

void Server::SendBody(std::int64_t stream, Bytes bytes) {
  bodies_out_[stream].pieces.push_back(std::move(bytes));
  nghttp3_conn_resume_stream(h3_, stream);
}

void Server::EndBody(std::int64_t stream) {
  bodies_out_[stream].end = true;
  nghttp3_conn_resume_stream(h3_, stream);
}

void Server::Reset(std::int64_t stream, std::uint64_t code) {
  ngtcp2_conn_shutdown_stream_write(conn_, 0, stream, code);
}

void Server::StopReading(std::int64_t stream, std::uint64_t code) {
  ngtcp2_conn_shutdown_stream_read(conn_, 0, stream, code);
}

void Server::GoAway() { ASSERT_EQ(nghttp3_conn_shutdown(h3_), 0); }

void Server::Close(std::uint64_t code, std::string reason) {
  ngtcp2_ccerr error;
  ngtcp2_ccerr_set_application_error(
    &error, code, reinterpret_cast<const std::uint8_t *>(reason.data()), reason.size());
  Bytes bytes(2048);
  ngtcp2_pkt_info pi{};
  const auto written = ngtcp2_conn_write_connection_close(
    conn_, nullptr, &pi, bytes.data(), bytes.size(), &error, ngtcp2_conn_get_timestamp(conn_));
  ASSERT_GT(written, 0);
  bytes.resize(static_cast<std::size_t>(written));
  close_packet_ = {
    .path = {.local = path.remote, .remote = path.local}, .ecn = 0, .bytes = std::move(bytes)};
}

int Server::Announce(const ngmasque::Endpoint &address) {
  const SocketAddress raw(address);
  ngtcp2_sockaddr_in ipv4;
  std::memcpy(&ipv4, raw.get(), sizeof(ipv4));
  return ngtcp2_conn_submit_server_alternate_address(conn_, &ipv4, nullptr, nullptr);
}

ngmasque::FourTuple Server::used() const {
  const auto *used = ngtcp2_conn_get_path2(conn_);
  return {.local = *ngmasque::ToEndpoint(used->local.addr),
          .remote = *ngmasque::ToEndpoint(used->remote.addr)};
}

void Server::SendSettings() {
  ASSERT_EQ(nghttp3_conn_bind_control_stream(h3_, control_stream_), 0);
}

} // namespace quic_test
