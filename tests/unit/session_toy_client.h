// The client's side of the toy dialect: see session_toy_messages.h.
#pragma once

#include "ngmasque/session/client_dialect.h"
#include "ngmasque/session/client_tunnel.h"

#include "session_toy_messages.h"

#include <map>
#include <memory>
#include <utility>

namespace ngmasque {

class ToyClient final : public ClientDialect {
public:
  static std::unique_ptr<ClientDialect> Make(const ClientDialectOptions &) {
    return std::make_unique<ToyClient>();
  }

  std::string_view name() const override { return "toy"; }
  bool plain() const override { return false; }

  std::unique_ptr<TunnelDialect> Add(ClientTunnel &tunnel) override {
    return std::make_unique<OfTunnel>(*this, tunnel);
  }

  std::expected<ClientPayload, Undelivered>
  OnDatagram(std::span<const std::uint8_t> datagram) const override {
    constexpr std::uint64_t kDatagramError = 0x33;
    const auto read = ReadToyDatagram(datagram);
    if (!read) {
      return std::unexpected(Undelivered{
        .reason = read.error(), .close = kDatagramError, .text = "malformed datagram"});
    }
    const auto found = tunnels_.find(read->key);
    if (found == tunnels_.end()) {
      return std::unexpected(Undelivered{.reason = DropReason::kUnknownFlow});
    }
    return ClientPayload{.tunnel = found->second, .payload = read->payload};
  }

private:
  static constexpr RequestId kRequest = 0; // The only one of a tunnel.

  class OfTunnel final : public TunnelDialect {
  public:
    OfTunnel(ToyClient &connection, ClientTunnel &tunnel)
      : connection_(connection), tunnel_(tunnel) {}
    ~OfTunnel() override { Forget(); }

    void Open(std::optional<MappingId> first, ClientTunnelModel &model) override {
      first_ = first.value();
      model.Request(kRequest, {{.name = ":authority", .value = AuthorityText(model.authority())}});
    }

    void Map(MappingId mapping, ClientTunnelModel &model) override {
      const auto direction = model.Find(mapping)->direction;
      const auto &id = model.Find(mapping)->id;
      const auto number = static_cast<std::uint8_t>(mapping);
      std::vector<std::uint8_t> message{
        'O', static_cast<std::uint8_t>(2 + id.size()), number,
        static_cast<std::uint8_t>(direction == Direction::kToClient ? 'c' : 't')};
      message.insert(message.end(), id.bytes().begin(), id.bytes().end());
      model.Send(kRequest, std::move(message));
    }

    void Unmap(MappingId mapping, ClientTunnelModel &model) override {
      if (opened_) {
        model.Send(kRequest, {'C', 1, static_cast<std::uint8_t>(mapping)});
      }
    }

    void Close(ClientTunnelModel &model) override {
      if (!ended_) {
        model.CloseRequest(kRequest);
      }
      Forget();
    }

    void OnSent(RequestId, StreamId stream) override {
      prefix_ = ToyDatagramPrefix(stream);
      connection_.tunnels_[prefix_.bytes[0]] = &tunnel_;
    }

    void OnResponse(RequestId, std::span<const HeaderField> fields,
                    ClientTunnelModel &model) override {
      if (fields.front().value != "200") {
        model.End({.status = static_cast<unsigned>(std::stoul(fields.front().value))});
        return;
      }
      opened_ = true;
      Map(first_, model);
      model.Opened(true);
    }

    StreamPayload OnStreamData(RequestId, std::span<const std::uint8_t> &input,
                               ClientTunnelModel &model) override {
      const auto message = reader_.Next(input);
      if (message && message->type == 'P') {
        return message->value;
      }
      if (message && !Act(*message, model)) {
        model.End({});
      }
      return std::nullopt;
    }

    void OnRequestClosed(RequestId, std::uint64_t code, ClientTunnelModel &model) override {
      ended_ = true;
      model.End({.code = code});
    }

    const Prefix &datagram_prefix() const override { return prefix_; }
    std::optional<RequestId> payload_request() const override {
      return opened_ ? std::optional(kRequest) : std::nullopt;
    }
    std::expected<Prefix, DropReason> StreamPrefix(std::size_t size) const override {
      return ToyStreamPrefix(size);
    }

  private:
    void Forget() {
      if (prefix_.size != 0) {
        connection_.tunnels_.erase(prefix_.bytes[0]);
      }
    }

    // False if the message makes no sense.
    bool Act(const ToyMessage &message, ClientTunnelModel &model) {
      const auto [type, value] = message;
      if (value.size() != 1 || (type != 'O' && type != 'C')) {
        return false;
      }
      const auto *mapping = model.Find(value[0]);
      if (!mapping) {
        return true; // It may have crossed the client's own 'C'.
      }
      if (type == 'C') {
        model.Refuse(value[0], {.conflict = true});
        return true;
      }
      if (mapping->stage != ClientMapping::Stage::kAsked) {
        return false;
      }
      if (mapping->direction == Direction::kToClient) {
        model.Send(kRequest, {'O', 1, value[0]});
      }
      model.Acknowledge(value[0]);
      return true;
    }

    ToyClient &connection_;
    ClientTunnel &tunnel_;
    MappingId first_ = 0;
    bool opened_ = false, ended_ = false;
    Prefix prefix_; // Once the request has a stream.
    ToyReader reader_;
  };

  std::map<TunnelKey, ClientTunnel *> tunnels_;
};

} // namespace ngmasque
