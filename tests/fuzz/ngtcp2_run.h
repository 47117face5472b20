// What an input of the connection target does.
#pragma once

#include "ngtcp2_addresses.h"
#include "ngtcp2_endpoint.h"
#include "ngtcp2_oracle.h"
#include "ngtcp2_script.h"

#include <array>
#include <cstdint>
#include <optional>

namespace ngtcp2_fuzz {

/// When the connection begins.
inline constexpr ngtcp2_tstamp kStart = NGTCP2_SECONDS;

/// One input.
class Run : Application {
public:
  explicit Run(Script script);
  ~Run() override;

  void All();

private:
  void Step();
  void Read();
  void Write(bool data);
  void WriteAll();
  void Wait(ngtcp2_tstamp until);
  void Settle();
  void ClientCall();
  void ServerCall();
  void AnyCall();
  void CallConnectionIds();

  Path MakePath(std::uint8_t server, std::uint8_t client) const;
  Path ReadPath();
  Path Current() const { return FromPath(conn_->dcid.current.ps.path); }
  bool Result(int rv);
  void Close(int rv);
  void SentDatagram(const ngtcp2_path &path, ngtcp2_ssize size);

  // Application
  void BeginValidation(std::uint32_t flags, const ngtcp2_path &path) override {
    // Of a look back at the path that the peer has left, only the beginning is told.
    if ((conn_->pv->flags & NGTCP2_PV_FLAG_DONT_CARE) == 0) {
      oracle_.BeginValidation(flags, FromPath(path));
    }
  }
  void EndValidation(std::uint32_t flags, const ngtcp2_path &path,
                     ngtcp2_path_validation_result result) override {
    oracle_.EndValidation(flags, FromPath(path), result);
  }
  void CidStatus(ngtcp2_connection_id_status_type type, std::uint64_t seq) override {
    oracle_.CidStatus(type, seq);
  }
  void PreferredAddress(ngtcp2_path &to, const ngtcp2_preferred_addr &address) override;
  bool SelectAddress(ngtcp2_path &to, const ngtcp2_server_alt_addr &address) override;
  bool AddressAcked(std::uint64_t seq) override;
  bool MayIssue() override { return !CallbackFails(); }

  bool CallbackFails();

  void SetPath(ngtcp2_path &to, const Address &remote);

  Script script_;
  Options options_;
  Path initial_;
  FrameWriter writer_;
  Oracle oracle_;
  Memory memory_;
  const Endpoint *endpoint_ = nullptr;
  ngtcp2_conn *conn_ = nullptr;
  ngtcp2_tstamp now_ = kStart;
  std::uint32_t number_ = 0;
  bool key_phase_ = false;
  std::optional<Path> last_sent_;
  std::array<std::uint8_t, 1452> buffer_{};
  std::size_t buffer_size_ = buffer_.size();
  /// How the application answers when it is asked for an address.
  std::uint8_t select_ = 0;
  std::optional<std::uint64_t> submitted_;
  /// The next callback that can fail does so.
  bool fail_callback_ = false;
  bool callback_failed_ = false;
  /// Closing or draining.
  bool closed_ = false;
  /// Nothing more may be called.
  bool over_ = false;
};

} // namespace ngtcp2_fuzz
