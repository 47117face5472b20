#include "ngmasque/session/any_dialect.h"

#include "ngmasque/session/draft00.h"
#include "ngmasque/session/proxy.h"
#include "ngmasque/session/udp_request.h"

#include "rfc9298_proxy.h"

namespace ngmasque {

namespace {

// For a request that is of no dialect, or of the other one, too.
using rfc9298::Refuse;

class AnyDialect final : public Dialect {
public:
  AnyDialect(const ProxyOptions &options, const HashKey &key) : options_(options), key_(key) {
    Become(false);
  }

  bool Knows(StreamId stream) const override { return dialect_->Knows(stream); }

  void OnRequest(StreamId stream, std::span<const HeaderField> fields,
                 TunnelModel &model) override {
    const bool modern = IsUdpRequest(fields);
    if (!modern && !IsConnectUdp(fields)) {
      Refuse(stream, SessionError::kMethod, model);
      return;
    }
    if (modern != modern_) {
      if (decided_ || !model.idle()) {
        Refuse(stream, SessionError::kOtherDialect, model);
        return;
      }
      Become(modern);
      model.ForgetKeys();
    }
    dialect_->OnRequest(stream, fields, model);
  }

  // What datagrams are taken for that come before the first request.
  void OnDatagramForm(bool rfc9297, TunnelModel &model) override {
    if (!decided_ && model.idle() && rfc9297 != modern_) {
      Become(rfc9297);
      model.ForgetKeys();
    }
  }

  void OnStreamClosed(StreamId stream, bool finished, TunnelModel &model) override {
    dialect_->OnStreamClosed(stream, finished, model);
  }
  std::expected<TunnelledPayload, DropReason>
  OnDatagram(std::span<const std::uint8_t> datagram) const override {
    return dialect_->OnDatagram(datagram);
  }
  std::uint64_t datagram_error() const override { return dialect_->datagram_error(); }
  void OnBadDatagram(std::span<const std::uint8_t> datagram, TunnelModel &model) override {
    dialect_->OnBadDatagram(datagram, model);
  }
  StreamInput OnStreamData(StreamId stream, std::span<const std::uint8_t> &input,
                           TunnelModel &model) override {
    return dialect_->OnStreamData(stream, input, model);
  }
  std::expected<Prefix, DropReason> StreamPrefix(const Tunnel &tunnel,
                                                 std::size_t size) const override {
    return dialect_->StreamPrefix(tunnel, size);
  }
  Opened OnOpen(Tunnel &tunnel, TunnelModel &model) override {
    const auto opened = dialect_->OnOpen(tunnel, model);
    decided_ = decided_ || opened == Opened::kAccepted;
    return opened;
  }
  void OnRefused(Tunnel &tunnel, SessionError error, TunnelModel &model) override {
    dialect_->OnRefused(tunnel, error, model);
  }
  void OnLost(Mapping &mapping, TunnelModel &model) override { dialect_->OnLost(mapping, model); }
  void OnMigrating(Tunnel &tunnel, TunnelModel &model) override {
    dialect_->OnMigrating(tunnel, model);
  }
  void OnEnded(Tunnel &tunnel, EndReason reason, TunnelModel &model) override {
    dialect_->OnEnded(tunnel, reason, model);
  }

private:
  void Become(bool modern) {
    dialect_ = modern ? MakeRfc9298(options_, key_) : MakeDraft00(options_, key_);
    modern_ = modern;
  }

  const ProxyOptions &options_;
  const HashKey key_;
  std::unique_ptr<Dialect> dialect_;
  bool modern_ = false;
  bool decided_ = false; // A request was accepted: it stays like that.
};

} // namespace

std::unique_ptr<Dialect> MakeAnyDialect(const ProxyOptions &options, const HashKey &key) {
  return std::make_unique<AnyDialect>(options, key);
}

} // namespace ngmasque
