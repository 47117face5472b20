#include "ngmasque/io/proxy_connection.h"

#include <algorithm>
#include <cassert>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {

namespace {

DropReason ToDropReason(QuicError::Code code) {
  switch (code) {
  case QuicError::kFull: return DropReason::kQueueFull;
  case QuicError::kTooLarge: return DropReason::kTooLarge;
  case QuicError::kUnknownStream: return DropReason::kUnknownFlow;
  default: return DropReason::kSendError; // The connection is at its end.
  }
}

} // namespace

ProxyConnection::~ProxyConnection() { assert(!registered_); }

void ProxyConnection::Deregister() {
  if (std::exchange(registered_, false)) {
    proxy_.RemoveConnection(id_);
  }
}

std::expected<void, SessionError>
ProxyConnection::Register(const FourTuple &path, std::span<const ConnectionId> local_ids,
                          const std::optional<ClientKey> &client) {
  auto added = proxy_.AddConnection(id_, path, *this, client);
  if (!added) {
    refusal_ = HttpStatus(added.error());
    retry_after_ = RetryAfter(added.error());
    return std::unexpected(added.error());
  }
  registered_ = true;
  // With a conflict the connection has no way to know its own packets from forwarded ones.
  if (!std::ranges::all_of(local_ids,
                           [this](const ConnectionId &id) { return proxy_.Reserve(id_, id); })) {
    Deregister();
    return std::unexpected(SessionError::kTooManyReserved);
  }
  http3_.ShareWith(*std::move(added));
  TellDatagrams();
  return {};
}

//= RFC 9297, section 2.1.1
//# QUIC DATAGRAM frames MUST NOT be sent until the SETTINGS_H3_DATAGRAM setting has been both sent
//# and received with a value of 1.
//
// Draft-00 is content with the transport parameter, so that it depends on what the client asks for.
void ProxyConnection::TellDatagrams() {
  const auto settings = http3_.peer_settings();
  const bool rfc9297 = settings && settings->datagrams;
  proxy_.SetDatagrams(id_, http3_.datagrams() && (!extended_connect_ || rfc9297), rfc9297);
}

void ProxyConnection::OnSettings(const PeerSettings &) {
  if (registered_) {
    TellDatagrams();
  }
}

void ProxyConnection::OnHeaders(StreamId stream, std::span<const HeaderField> fields) {
  if (!registered_) {
    std::vector<HeaderField> answer{{.name = ":status", .value = std::to_string(refusal_)}};
    if (retry_after_) {
      answer.push_back({.name = "retry-after", .value = std::to_string(*retry_after_)});
    }
    Respond(stream, refusal_, answer);
    return;
  }
  if (!extended_connect_ && std::ranges::contains(fields, ":protocol", &HeaderField::name)) {
    extended_connect_ = true;
    TellDatagrams();
  }
  proxy_.OnRequest(Key(stream), fields);
}

void ProxyConnection::OnData(StreamId stream, std::span<const std::uint8_t> data) {
  proxy_.OnStreamData(Key(stream), data);
}

void ProxyConnection::OnStreamClosed(StreamId stream, StreamEnd end, std::uint64_t) {
  proxy_.OnStreamClosed(Key(stream), end == StreamEnd::kFinished);
  // Whoever ends a request does not want its tunnel any more, and the proxy has forgotten it.
  if (end == StreamEnd::kFinished && !http3_.answered(stream)) {
    http3_.CloseStream(stream);
  }
}

std::uint64_t ProxyConnection::OnDatagram(std::span<const std::uint8_t> datagram) {
  return proxy_.OnDatagram(id_, datagram);
}

void ProxyConnection::OnDatagramDropped(DatagramQueue::Key tunnel,
                                        std::span<const std::uint8_t> datagram,
                                        QuicError::Code reason) {
  proxy_.OnDatagramDropped(id_, tunnel, datagram, ToDropReason(reason));
}

bool ProxyConnection::OnNewLocalId(const ConnectionId &id) {
  return !registered_ || proxy_.Reserve(id_, id);
}

void ProxyConnection::OnRetiredLocalId(const ConnectionId &id) {
  if (registered_) {
    proxy_.Unreserve(id_, id);
  }
}

void ProxyConnection::OnProbing(const FourTuple &path) {
  if (registered_) {
    proxy_.Expect(id_, path);
  }
}

void ProxyConnection::OnMigrating() {
  if (registered_) {
    proxy_.OnMigrating(id_);
  }
}

void ProxyConnection::OnPathChanged(const FourTuple &path) {
  if (registered_) {
    proxy_.MoveConnection(id_, path);
  }
}

std::expected<void, DropReason>
ProxyConnection::SendDatagram(std::uint64_t tunnel, std::span<const std::uint8_t> prefix,
                              std::span<const std::uint8_t> payload) {
  return http3_.SendDatagram(tunnel, prefix, payload).transform_error([](const QuicError &error) {
    return ToDropReason(error.code);
  });
}

std::expected<void, DropReason>
ProxyConnection::SendOnStream(StreamId stream, std::span<const std::uint8_t> prefix,
                              std::span<const std::uint8_t> payload) {
  return http3_.SendData(stream, prefix, payload).transform_error([](const QuicError &error) {
    return ToDropReason(error.code);
  });
}

std::expected<void, DropReason>
ProxyConnection::SendMessage(StreamId stream, std::span<const std::uint8_t> message) {
  return http3_.SendMessage(stream, message).transform_error([](const QuicError &error) {
    return ToDropReason(error.code);
  });
}

void ProxyConnection::ShareWith(std::shared_ptr<ByteBudget> waiting) {
  http3_.ShareWith(std::move(waiting));
}

void ProxyConnection::Respond(StreamId stream, unsigned status,
                              std::span<const HeaderField> fields) {
  if (!http3_.Respond(stream, fields, status >= 300)) {
    http3_.CloseStream(stream, kH3InternalError);
  }
}

void ProxyConnection::ResetStream(StreamId stream, std::uint64_t code) {
  http3_.CloseStream(stream, code);
}

} // namespace ngmasque
