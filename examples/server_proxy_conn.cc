// gtlsserver --connect-udp: one client's connection.
#include "server_proxy.h"

#include "proxy_options.h"

#include "ngmasque/quic/packet_size.h"

#include "server.h"
#include "stats.h"
#include "util.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

extern Config config;

namespace ngmasque::examples {

ServerProxyConn::ServerProxyConn(ServerProxy &proxy, Handler &handler, OuterConnection id)
  : proxy_(proxy),
    handler_(handler),
    id_(id),
    queue_(kMaxQueue, [this](DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram) {
      Drop(tunnel, datagram, DropReason::kQueueFull);
    }) {}

ServerProxyConn::~ServerProxyConn() {
  if (registered_ && proxy_.proxy()) {
    proxy_.proxy()->RemoveConnection(id_);
  }
}

void ServerProxyConn::Register() {
  auto *conn = handler_.conn();
  const auto &path = *ngtcp2_conn_get_path2(conn);
  const auto tuple = ToFourTuple(path);
  if (!tuple) {
    return;
  }
  auto added = proxy_.proxy()->AddConnection(id_, *tuple, *this);
  if (!added) {
    proxy_.Complain(ErrorName(added.error()));
    refusal_ = HttpStatus(added.error());
    return;
  }
  registered_ = true;
  waiting_ = *std::move(added);
  queue_.ShareWith(waiting_);
  validated_.push_back(*tuple);
  endpoint_ = static_cast<const ::Endpoint *>(path.user_data);
  const auto *params = ngtcp2_conn_get_remote_transport_params2(conn);
  proxy_.proxy()->SetDatagrams(id_, params && params->max_datagram_frame_size > 0);

  std::vector<ngtcp2_cid> scids(ngtcp2_conn_get_scid2(conn, nullptr));
  ngtcp2_conn_get_scid2(conn, scids.data());
  for (const auto &scid : scids) {
    // With a conflict the connection has no way to know its own packets from forwarded ones.
    if (!new_scid(scid)) {
      proxy_.Complain("a connection ID of another client's target is in the way");
      proxy_.proxy()->RemoveConnection(id_);
      registered_ = false;
      return;
    }
  }
}

void ServerProxyConn::recv_request(int64_t stream_id, const ngtcp2::HTTPFields &fields) {
  const auto stream = static_cast<StreamId>(stream_id);
  if (!registered_ || !proxy_.proxy()) {
    const HeaderField status[] = {{":status", std::to_string(refusal_)}};
    Respond(stream, refusal_, status);
    return;
  }
  std::vector<HeaderField> request;
  request.reserve(fields.size());
  for (const auto &[name, value] : fields) {
    request.push_back({.name = name, .value = value});
  }
  proxy_.proxy()->OnRequest({.connection = id_, .stream = stream}, request);
}

void ServerProxyConn::recv_data(int64_t stream_id, std::span<const uint8_t> data) {
  if (proxy_.proxy()) {
    proxy_.proxy()->OnStreamData({.connection = id_, .stream = static_cast<StreamId>(stream_id)},
                                 data);
  }
}

void ServerProxyConn::stream_closed(int64_t stream_id) {
  Refresh(static_cast<StreamId>(stream_id));
  if (proxy_.proxy()) {
    proxy_.proxy()->OnStreamClosed({.connection = id_, .stream = static_cast<StreamId>(stream_id)});
  }
}

std::expected<void, uint64_t> ServerProxyConn::recv_datagram(std::span<const uint8_t> data) {
  if (proxy_.proxy() && !proxy_.proxy()->OnDatagram(id_, data)) {
    proxy_.Complain("malformed datagram");
    return std::unexpected(NGHTTP3_H3_GENERAL_PROTOCOL_ERROR);
  }
  return {};
}

std::span<const uint8_t> ServerProxyConn::datagram() { return queue_.Front(); }

void ServerProxyConn::datagram_done(bool sent) {
  if (!sent) {
    Drop(queue_.front_tunnel(), queue_.Front(), DropReason::kTooLarge);
  }
  queue_.Pop();
}

void ServerProxyConn::Drop(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram,
                           DropReason reason) {
  if (proxy_.proxy()) {
    proxy_.proxy()->OnDatagramDropped(id_, tunnel, datagram, reason);
  }
}

void ServerProxyConn::path_validated(const ngtcp2_path &path) {
  const auto tuple = ToFourTuple(path);
  if (tuple && registered_ && proxy_.proxy()) {
    std::erase(validated_, *tuple);
    if (validated_.size() == kMaxValidated) {
      validated_.pop_front();
    }
    validated_.push_back(*tuple);
    endpoint_ = static_cast<const ::Endpoint *>(path.user_data);
    proxy_.proxy()->MoveConnection(id_, *tuple);
  }
}

// Back to a path that was validated before the connection goes without path_validated.
void ServerProxyConn::packet_read() {
  if (!registered_) {
    return;
  }
  const auto &path = *ngtcp2_conn_get_path2(handler_.conn());
  // The path that it uses now may not be validated yet.
  if (const auto tuple = ToFourTuple(path);
      tuple && *tuple != validated_.back() && std::ranges::contains(validated_, *tuple)) {
    path_validated(path);
  }
}

bool ServerProxyConn::new_scid(const ngtcp2_cid &cid) {
  return !registered_ || !proxy_.proxy() || proxy_.proxy()->Reserve(id_, ToConnectionId(cid));
}

void ServerProxyConn::remove_scid(const ngtcp2_cid &cid) {
  if (registered_ && proxy_.proxy()) {
    proxy_.proxy()->Unreserve(id_, ToConnectionId(cid));
  }
}

std::expected<void, DropReason>
ServerProxyConn::SendDatagram(std::uint64_t tunnel, std::span<const std::uint8_t> prefix,
                              std::span<const std::uint8_t> payload) {
  if (prefix.size() + payload.size() > MaxDatagram(handler_.conn())) {
    return std::unexpected(DropReason::kTooLarge);
  }
  if (!queue_.Push(tunnel, prefix, payload)) {
    return std::unexpected(DropReason::kQueueFull);
  }
  handler_.signal_write();
  return {};
}

std::expected<void, DropReason>
ServerProxyConn::SendOnStream(StreamId stream, std::span<const std::uint8_t> prefix,
                              std::span<const std::uint8_t> payload) {
  // The server does not say when data is acknowledged: it is looked at as more comes, of this stream
  // and of the others in turn.
  Refresh(stream);
  if (auto next = on_streams_.upper_bound(refreshed_); next != on_streams_.end()) {
    Refresh(refreshed_ = next->first);
  } else {
    refreshed_ = 0;
  }
  const auto size = prefix.size() + payload.size();
  if (waiting_->room() < size) {
    return std::unexpected(DropReason::kQueueFull);
  }
  std::vector<std::uint8_t> data(prefix.begin(), prefix.end());
  data.insert(data.end(), payload.begin(), payload.end());
  if (!handler_.send_ext_data(static_cast<int64_t>(stream), std::move(data))) {
    return std::unexpected(DropReason::kQueueFull);
  }
  auto &taken = on_streams_.try_emplace(stream, waiting_).first->second;
  std::ignore = taken.Resize(taken.bytes() + size); // There is room.
  handler_.signal_write();
  return {};
}

void ServerProxyConn::Refresh(StreamId id) {
  const auto known = on_streams_.find(id);
  if (known == on_streams_.end()) {
    return;
  }
  const auto *stream = handler_.find_stream(static_cast<int64_t>(id));
  auto &taken = known->second;
  const auto left = stream && stream->ext ? std::min(stream->ext->datalen, taken.bytes()) : 0;
  if (left == 0) {
    on_streams_.erase(known);
  } else {
    std::ignore = taken.Resize(left);
  }
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

void ServerProxyConn::Respond(StreamId stream, unsigned status,
                              std::span<const HeaderField> fields) {
  ngtcp2::HTTPFields response;
  response.reserve(fields.size());
  for (const auto &field : fields) {
    response.emplace_back(field.name, field.value);
  }
  if (!handler_.submit_ext_response(static_cast<int64_t>(stream), response, status >= 300)) {
    handler_.reset_ext_stream(static_cast<int64_t>(stream), NGHTTP3_H3_INTERNAL_ERROR);
  }
  handler_.signal_write();
}

void ServerProxyConn::ResetStream(StreamId stream) {
  handler_.reset_ext_stream(static_cast<int64_t>(stream), NGHTTP3_H3_CONNECT_ERROR);
  handler_.signal_write();
}

} // namespace ngmasque::examples
