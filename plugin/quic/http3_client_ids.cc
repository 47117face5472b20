// Http3Client: which connection IDs are told to the server, and which one it is known by.

#include "ngmasque/quic/http3_client.h"

#include "http3_endpoint_impl.h"

#include <algorithm>
#include <tuple>
#include <vector>

namespace ngmasque {

namespace {

ngtcp2_cid ToCid(const ConnectionId &id) {
  ngtcp2_cid cid;
  ngtcp2_cid_init(&cid, id.bytes().data(), id.size());
  return cid;
}

} // namespace

void Http3Client::ReleaseLocalId(const ConnectionId &id) {
  auto &impl = endpoint();
  if (impl.state != Impl::State::kOpen || id.size() > NGTCP2_MAX_CIDLEN) {
    return;
  }
  const auto cid = ToCid(id);
  if (ngtcp2_conn_release_connection_id(impl.conn.get(), &cid) == NGTCP2_ERR_NOMEM) {
    impl.Fail(NGTCP2_ERR_NOMEM);
  }
}

void Http3Client::DiscardLocalId(const ConnectionId &id) {
  auto &impl = endpoint();
  if (impl.state != Impl::State::kOpen || id.size() > NGTCP2_MAX_CIDLEN) {
    return;
  }
  const auto cid = ToCid(id);
  // Ours does not fail.
  std::ignore = ngtcp2_conn_discard_connection_id(impl.conn.get(), &cid);
}

std::optional<Http3Client::RemoteId> Http3Client::remote_id() const {
  const auto &impl = endpoint();
  auto *const conn = impl.conn.get();
  if (impl.state != Impl::State::kOpen || !ngtcp2_conn_get_handshake_completed2(conn)) {
    return std::nullopt;
  }
  const auto *const cid = ngtcp2_conn_get_dcid2(conn);
  const std::span bytes(cid->data, cid->datalen);
  RemoteId remote{.id = *ConnectionId::From(bytes), .token = {}};
  std::vector<ngtcp2_cid_token2> known(ngtcp2_conn_get_active_dcid3(conn, nullptr));
  known.resize(ngtcp2_conn_get_active_dcid3(conn, known.data()));
  for (const auto &one : known) {
    if (one.token_present && std::ranges::equal(std::span(one.cid.data, one.cid.datalen), bytes)) {
      std::ranges::copy(one.token.data, remote.token.emplace().begin());
    }
  }
  return remote;
}

} // namespace ngmasque
