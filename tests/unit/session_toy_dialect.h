// The proxy's side of the toy dialect: see session_toy_messages.h.
#pragma once

#include "ngmasque/session/dialect.h"

#include "routing_support.h"
#include "session_toy_messages.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ngmasque {

class ToyDialect final : public Dialect {
public:
  static std::unique_ptr<Dialect> Make(const ProxyOptions &, const HashKey &) {
    return std::make_unique<ToyDialect>();
  }

  static constexpr std::size_t kMaxMappings = 6; // Of a tunnel; more are closed at once.

  bool Knows(StreamId stream) const override { return tunnels_.contains(stream); }

  void OnRequest(StreamId stream, std::span<const HeaderField> fields,
                 TunnelModel &model) override {
    const auto authority = fields.size() == 1 && fields[0].name == ":authority"
                             ? ParseAuthority(fields[0].value)
                             : std::unexpected(SessionError::kPseudoHeader);
    if (!model.AddRequest()) {
      Answer(stream, 429, model);
      return;
    }
    const auto added =
      authority ? model.Add(stream / 4, *authority, false) : std::unexpected(SessionError::kEqual);
    if (!added) {
      model.RemoveRequest();
      Answer(stream, authority ? 429 : 400, model);
      return;
    }
    auto &tunnel = **added;
    auto state = std::make_unique<State>();
    state->stream = stream;
    tunnel.dialect = std::move(state);
    tunnel.datagram_prefix = ToyDatagramPrefix(stream);
    tunnel.client_first = false;
    tunnels_[stream] = &tunnel;
    model.Open(tunnel);
  }

  void OnStreamClosed(StreamId stream, bool, TunnelModel &model) override {
    if (const auto known = tunnels_.find(stream); known != tunnels_.end()) {
      model.Close(*known->second, EndReason::kClosed);
    }
  }

  std::expected<TunnelledPayload, DropReason>
  OnDatagram(std::span<const std::uint8_t> datagram) const override {
    return ReadToyDatagram(datagram);
  }

  std::uint64_t datagram_error() const override { return kH3GeneralProtocolError; }

  StreamInput OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                           TunnelModel &model) override {
    const auto known = tunnels_.find(stream);
    if (known == tunnels_.end()) {
      input = {};
      return {.payload = std::unexpected(DropReason::kUnknownFlow)};
    }
    auto &tunnel = *known->second;
    const auto incomplete = StreamInput{.tunnel = &tunnel, .payload = std::nullopt};
    const auto message = StateOf(tunnel).reader.Next(input);
    if (!message) {
      return incomplete;
    }
    if (message->type == 'P') {
      return {.tunnel = &tunnel, .payload = message->value};
    }
    if (!Act(tunnel, *message, model)) {
      model.Reset(stream);
      model.Close(tunnel, EndReason::kClosed);
      return {.payload = std::nullopt};
    }
    return incomplete;
  }

  std::expected<Prefix, DropReason> StreamPrefix(const Tunnel &, std::size_t size) const override {
    return ToyStreamPrefix(size);
  }

  Opened OnOpen(Tunnel &tunnel, TunnelModel &model) override {
    tunnel.stream = StateOf(tunnel).stream;
    Answer(tunnel.stream, 200, model);
    return Opened::kAccepted;
  }

  void OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) override {
    Answer(StateOf(tunnel).stream, HttpStatus(error), model);
  }

  void OnLost(Mapping &mapping, TunnelModel &model) override { Close(mapping, model); }

  void OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) override {
    const auto stream = StateOf(tunnel).stream;
    if (reason == EndReason::kUnreachable) {
      model.Reset(stream);
    }
    tunnels_.erase(stream);
    model.RemoveRequest();
  }

private:
  struct State final : Attachment {
    StreamId stream{};
    ToyReader reader;
    std::map<std::uint8_t, Mapping *> mappings;
  };
  static State &StateOf(Tunnel &tunnel) { return static_cast<State &>(*tunnel.dialect); }

  static void Answer(StreamId stream, unsigned status, TunnelModel &model) {
    model.Respond(stream, status, {{.name = ":status", .value = std::to_string(status)}});
  }

  static void Close(Mapping &mapping, TunnelModel &model) {
    const auto number = static_cast<std::uint8_t>(mapping.reference);
    model.Send(mapping.stream, {'C', 1, number});
    StateOf(*mapping.tunnel).mappings.erase(number);
    model.Unmap(mapping);
  }

  // False if the message makes no sense.
  static bool Act(Tunnel &tunnel, const ToyMessage &message, TunnelModel &model) {
    const auto [type, value] = message;
    if (value.empty() || (type != 'O' && type != 'C')) {
      return false;
    }
    auto &[stream, reader, mappings] = StateOf(tunnel);
    const auto number = value[0];
    const auto known = mappings.find(number);
    if (type == 'C') {
      if (known != mappings.end()) {
        model.Unmap(*known->second);
        mappings.erase(known);
      }
      return true; // It may have crossed the proxy's own.
    }
    if (value.size() == 1) {
      if (known == mappings.end() || known->second->direction != Direction::kToClient ||
          known->second->acknowledged) {
        return false;
      }
      model.Acknowledge(*known->second);
      return true;
    }
    if (known != mappings.end() || (value[1] != 't' && value[1] != 'c')) {
      return false;
    }
    const auto to_client = value[1] == 'c';
    const auto mapped =
      mappings.size() < kMaxMappings
        ? model.Map(tunnel, to_client ? Direction::kToClient : Direction::kToTarget,
                    Id(value.subspan(2)),
                    {.stream = stream, .reference = number, .acknowledged = false})
        : std::unexpected(SessionError::kTooManyIds);
    model.Send(stream, {static_cast<std::uint8_t>(mapped ? 'O' : 'C'), 1, number});
    if (mapped) {
      mappings[number] = *mapped;
      if (!to_client) {
        model.Acknowledge(**mapped);
      }
    }
    return true;
  }

  std::map<StreamId, Tunnel *> tunnels_; // The model bounds them.
};

} // namespace ngmasque
