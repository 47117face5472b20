// Http3Client: which connection IDs are told to the server, and which ones it is known by.

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

std::vector<Http3Client::RemoteId> Http3Client::remote_ids() const {
  const auto &impl = endpoint();
  std::vector<RemoteId> ids;
  if (impl.state != Impl::State::kOpen) {
    return ids;
  }
  std::vector<ngtcp2_cid_token2> known(ngtcp2_conn_get_active_dcid3(impl.conn.get(), nullptr));
  known.resize(ngtcp2_conn_get_active_dcid3(impl.conn.get(), known.data()));
  for (const auto &one : known) {
    auto &id = ids.emplace_back(RemoteId{.remote = ToFourTuple(one.ps.path).remote,
                                         .id = *ConnectionId::From({one.cid.data, one.cid.datalen}),
                                         .token = {}});
    if (one.token_present) {
      std::ranges::copy(one.token.data, id.token.emplace().begin());
    }
  }
  return ids;
}

} // namespace ngmasque
