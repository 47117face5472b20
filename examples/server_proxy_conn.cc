// gtlsserver --connect-udp: one client's connection.
#include "server_proxy.h"

#include "ngmasque/quic/http3_callbacks.h"
#include "ngmasque/wire/quic_header.h"

#include "server.h"
#include "stats.h"
#include "util.h"

#include <cstring>
#include <vector>

extern Config config;

namespace ngmasque::examples {

namespace {

::Handler &HandlerOf(void *user_data) { return *static_cast<::Handler *>(user_data); }

// Null once the connection is closed.
ServerProxyConn *Find(void *user_data) {
  return static_cast<ServerProxyConn *>(HandlerOf(user_data).conn_ext());
}

Http3Connection *FindHttp3(void *user_data) {
  auto *conn = Find(user_data);
  if (!conn) {
    return nullptr;
  }
  conn->OnFrame();
  return &conn->http3();
}

// The server's own, which these go on with.
ngtcp2_callbacks servers;

int HandshakeCompleted(ngtcp2_conn *conn, void *user_data) {
  if (auto *self = Find(user_data)) {
    self->Start();
  }
  return servers.handshake_completed(conn, user_data);
}

int NewId(ngtcp2_conn *conn, ngtcp2_cid *cid, ngtcp2_stateless_reset_token *token,
          std::size_t size, void *user_data) {
  constexpr int kMaxDraws = 8;
  for (int draw = 0; draw < kMaxDraws; ++draw) {
    if (const int rv = servers.get_new_connection_id2(conn, cid, token, size, user_data); rv != 0) {
      return rv;
    }
    if (auto *self = Find(user_data); !self || self->OnNewLocalId(ToConnectionId(*cid))) {
      return 0;
    }
    HandlerOf(user_data).server()->dissociate_cid(cid);
  }
  return NGTCP2_ERR_CALLBACK_FAILURE;
}

int RemoveId(ngtcp2_conn *conn, const ngtcp2_cid *cid, void *user_data) {
  if (auto *self = Find(user_data)) {
    self->OnRetiredLocalId(ToConnectionId(*cid));
  }
  return servers.remove_connection_id(conn, cid, user_data);
}

FourTuple ToFourTuple(const ngtcp2_path &path) {
  // The server has sockets for these families alone.
  return {.local = ToEndpoint(path.local.addr).value_or(Endpoint{}),
          .remote = ToEndpoint(path.remote.addr).value_or(Endpoint{})};
}

// The packet that has brought the server to another path may have no frame for HTTP/3.
int BeginPathValidation(ngtcp2_conn *conn, std::uint32_t flags, const ngtcp2_path *path,
                        const ngtcp2_path *fallback, void *user_data) {
  if (auto *self = Find(user_data)) {
    self->OnProbing(ToFourTuple(*path));
    if (ngtcp2_path_eq(path, ngtcp2_conn_get_path2(conn))) {
      self->OnFrame();
    }
  }
  return servers.begin_path_validation
           ? servers.begin_path_validation(conn, flags, path, fallback, user_data)
           : 0;
}

int PathValidation(ngtcp2_conn *conn, std::uint32_t flags, const ngtcp2_path *path,
                   const ngtcp2_path *old, ngtcp2_path_validation_result result,
                   void *user_data) {
  if (auto *self = Find(user_data);
      self && result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS &&
      ngtcp2_path_eq(path, ngtcp2_conn_get_path2(conn))) {
    self->Validated(*path);
  }
  return servers.path_validation(conn, flags, path, old, result, user_data);
}

// As bytes: other bytes may mean the same address, and are looked at more closely then.
bool SameBytes(const ngtcp2_addr &a, const ngtcp2_addr &b) {
  return a.addrlen == b.addrlen && std::memcmp(a.addr, b.addr, a.addrlen) == 0;
}

} // namespace

ServerHttp3::ServerHttp3(::Handler &handler, ngtcp2_ccerr &last_error)
  : Http3Connection(Role::kServer, {.connect_protocol = true}, kProxyQueueBounds),
    handler_(handler),
    last_error_(last_error) {
  Attach(handler.conn());
}

void ServerHttp3::OnWantWrite() { handler_.signal_write(); }

void ServerHttp3::OnFailure() {
  ngtcp2_ccerr_set_application_error(&last_error_, failure()->code, nullptr, 0);
}

void ServerProxyConn::SetCallbacks(ngtcp2_callbacks &callbacks) {
  servers = callbacks;
  Http3Callbacks<FindHttp3>::Set(callbacks);
  callbacks.handshake_completed = HandshakeCompleted;
  callbacks.get_new_connection_id2 = NewId;
  callbacks.remove_connection_id = RemoveId;
  callbacks.begin_path_validation = BeginPathValidation;
  callbacks.path_validation = PathValidation;
}

ServerProxyConn::ServerProxyConn(ServerProxy &proxy, ::Handler &handler, ngtcp2_ccerr &last_error,
                                 OuterConnection id)
  : ProxyConnection(*proxy.proxy(), id, http3_),
    proxy_(proxy),
    handler_(handler),
    http3_(handler, last_error) {
  ngtcp2_path_storage_zero(&told_);
}

void ServerProxyConn::Start() {
  proxy_.CountConnection();
  auto *conn = handler_.conn();
  std::vector<ngtcp2_cid> scids(ngtcp2_conn_get_scid2(conn, nullptr));
  ngtcp2_conn_get_scid2(conn, scids.data());
  std::vector<ConnectionId> ids;
  for (const auto &scid : scids) {
    ids.push_back(ToConnectionId(scid));
  }
  id_size_ = ids.front().size();
  http3_.SetHandler(this);
  const auto &path = *ngtcp2_conn_get_path2(conn);
  told_path_ = ToFourTuple(path);
  ngtcp2_path_copy(&told_.path, &path);
  endpoint_ = static_cast<const ::Endpoint *>(path.user_data);
  validated_.Add(told_path_);
  OnFrame(); // Where the client begins, and its connection ID there.
  if (const auto registered = Register(told_path_, ids); !registered) {
    proxy_.Complain(ErrorName(registered.error()));
  }
}

void ServerProxyConn::OnRetiredLocalId(const ConnectionId &id) {
  ProxyConnection::OnRetiredLocalId(id);
  moves_.OnRetired(id);
}

// Callbacks of ngtcp2 come when it writes packets, too, and there is nothing that it reads then.
void ServerProxyConn::OnFrame() {
  const auto &[path, packet] = proxy_.arrival();
  const auto bytes = PacketDcid(packet, id_size_);
  const auto &used = *ngtcp2_conn_get_path2(handler_.conn());
  if (!bytes || (moves_.Knows(path, *bytes) && SameBytes(used.local, told_.path.local))) {
    return;
  }
  const auto id = ConnectionId::From(*bytes);
  if (id && moves_.OnFrame(path, *id, ToFourTuple(used))) {
    told_path_ = {}; // Whatever comes of it, where it ends is told.
    ngtcp2_path_storage_zero(&told_);
    OnMigrating();
  }
}

// At once: what the packet says besides may be that the client expects forwarded packets there.  Where
// the server has been before, it is with the client's first packet, which may have no frame for
// HTTP/3.
void ServerProxyConn::Validated(const ngtcp2_path &path) {
  const auto tuple = ToFourTuple(path);
  if (proxy_.arrival().path == tuple) {
    OnFrame();
  }
  validated_.Add(tuple);
  FollowPath();
}

void ServerProxyConn::FollowPath() {
  const auto &used = *ngtcp2_conn_get_path2(handler_.conn());
  if (!SameBytes(used.remote, told_.path.remote) || !SameBytes(used.local, told_.path.local)) {
    if (const auto tuple = ToFourTuple(used); tuple != told_path_ && validated_.Use(tuple)) {
      told_path_ = tuple;
      ngtcp2_path_copy(&told_.path, &used);
      endpoint_ = static_cast<const ::Endpoint *>(used.user_data);
      moves_.OnPath(tuple);
      OnPathChanged(tuple);
    }
  }
}

ngtcp2_ssize ServerProxyConn::write_pkt(ngtcp2_path *path, ngtcp2_pkt_info *pi, std::uint8_t *dest,
                                        std::size_t size, ngtcp2_tstamp now) {
  // After every packet that was read: a connection goes back to a path that it knows without a
  // callback.
  FollowPath();
  http3_.DeliverHttp3();
  if (!http3_.ResumeStreams()) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  return http3_.WritePacket(path, pi, {dest, size}, now);
}

// Not by the server, which takes what the system refuses for sent, and prints a line for each.
SendOutcome ServerProxyConn::Forward(const FourTuple &tuple, const Burst &packets) {
  auto &control = endpoint_->tx_ctrl;
  auto path = tuple;
  if (ToEndpoint(endpoint_->addr.as_sockaddr()) == tuple.local) {
    path.local = {}; // There is no other.  Not all kernels know how to choose.
  }
  SendExtras extras{.gso = !config.no_gso && !control.no_gso, .ecn = !control.no_ecn};
  auto outcome = SendOn(endpoint_->fd, path, packets, extras);
  control = {.no_gso = !extras.gso, .no_ecn = !extras.ecn};
  if (const auto sent = packets.data.size() - outcome.rest.size(); sent != 0 && stats.enabled()) {
    SocketAddress local(tuple.local), remote(tuple.remote);
    stats.datagrams_sent({.addr = local.get(), .addrlen = local.size()},
                         {.addr = remote.get(), .addrlen = remote.size()}, sent, packets.segment);
  }
  return outcome;
}

void ServerProxyConn::OnActivity() {
  ngtcp2_conn_restart_idle_timer(handler_.conn(), util::timestamp());
}

} // namespace ngmasque::examples
