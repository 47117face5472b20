// What PathTunnels are made of.  path_tunnels.cc has the interface and the paths, path_tunnels_ids.cc
// their connection IDs.
#pragma once

#include "ngmasque/io/path_tunnels.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include <ev.h>

namespace ngmasque {

class PathTunnels::Impl : public std::enable_shared_from_this<PathTunnels::Impl> {
public:
  Impl(struct ev_loop *loop, ProxyClient &client, Handler &handler, const Options &options);
  ~Impl() { Close(); }
  Impl(const Impl &) = delete;
  Impl &operator=(const Impl &) = delete;

  // The functions of PathTunnels.
  std::expected<void, IoError> Open(const Authority &target, const Endpoint &remote,
                                    const ConnectionId &inner_scid);
  std::span<const std::uint8_t> SendBurst(const Endpoint &remote,
                                          std::span<const std::uint8_t> packets,
                                          std::size_t segment, unsigned ecn);
  void AddClientId(const ConnectionId &id);
  void RemoveClientId(const ConnectionId &id);
  void AddServerId(const Endpoint &remote, const ConnectionId &id,
                   const std::optional<ResetToken> &token);
  void RemoveServerId(const ConnectionId &id);
  void Close();
  std::size_t size() const;
  std::uint64_t opened() const { return opened_; }
  ProxyTunnelStatistics statistics() const;

private:
  /// What validates a path: RFC 9000, section 8.2.
  static constexpr std::size_t kMaxHeld = 4;
  struct Held {
    std::vector<std::uint8_t> packets;
    std::size_t segment;
    unsigned ecn;
  };

  /// A tunnel, and its handler.
  struct Path final : ProxyTunnel::Handler, std::enable_shared_from_this<Path> {
    Path(Impl &owner_in, const Endpoint &remote_in) : owner(owner_in), remote(remote_in) {}

    void OnOpened() override;
    void OnPacket(std::span<const std::uint8_t> packet, unsigned ecn) override;
    void OnPacketsDone() override { owner.handler_->OnPacketsDone(); }
    std::chrono::nanoseconds ProbeTimeout() const override { return owner.handler_->ProbeTimeout(); }
    void OnReleaseClientId(const ConnectionId &id) override { OnAnswer(id, true); }
    void OnDiscardClientId(const ConnectionId &id) override { OnAnswer(id, false); }
    void OnWritable() override { owner.handler_->OnWritable(); }
    void OnEnded(const TunnelEnd &end) override;

    bool live() const { return !tunnel->over(); }
    /// Whether answers from the target would come through.
    bool ready() const { return opened && awaited.empty(); }
    void SendHeld();
    void OnAnswer(const ConnectionId &id, bool accepted);
    /// It is not awaited any more.
    void StopAwaiting(const ConnectionId &id);

    Impl &owner; // Its tunnel calls nothing when that is gone.
    const Endpoint remote;
    std::unique_ptr<ProxyTunnel> tunnel;
    ev_tstamp used = 0;  // When something came or went, or when it ended.
    bool first = false;  // See Open.
    bool opened = false; // The proxy has accepted it.
    // Connection IDs that the target may answer to, or needs to answer at all (RFC 9000, section 9.5),
    // which the proxy has not taken yet for this tunnel.
    std::set<ConnectionId> awaited;
    std::vector<Held> held; // Until it is ready; at most kMaxHeld, and what is beyond is lost.
    bool ended = false;  // By the proxy: it is not to be asked again soon.
    bool bare = false;   // The last connection ID that it had was retired, which ends it without a word.
  };
  using Paths = std::map<Endpoint, std::shared_ptr<Path>>;

  struct ClientId {
    ConnectionId id;
    bool told = false;             // The target may know it.
    std::set<const Path *> asked{}; // Those that have not answered yet; none once told.
  };
  struct ServerId {
    Endpoint remote;
    ConnectionId id;
    std::optional<ResetToken> token;
    bool retired = false; // At most one of each path.
  };

  // Of path_tunnels.cc
  /// Null: there is none, and cannot be now.
  Path *Find(const Endpoint &remote);
  Path *OpenPath(const Endpoint &remote);
  /// Any tunnel that is not over, or null.
  Path *Live() const;
  /// Makes room for another path; false if there is none.
  bool MakeRoom();
  Paths::iterator Erase(Paths::iterator path);
  void OnPathEnded(Path &path, const TunnelEnd &end);
  void CloseIdle();

  // Of path_tunnels_ids.cc
  std::vector<ClientId>::iterator FindClientId(const ConnectionId &id);
  void DropServerIds(const std::function<bool(const ServerId &)> &which);
  /// Tells a tunnel that has just been opened with `first` of all others.
  void TellIds(Path &path, const ConnectionId &first);
  void OnAnswer(const Path &path, const ConnectionId &id, bool accepted);
  /// What a path that is over has not answered need not wait for it.
  void StopWaitingFor(const Path &path);
  void TellAnswered();
  /// In the next turn of the loop, when what tells the target of connection IDs has left.
  void SendHeldSoon();

  struct ev_loop *const loop_;
  ProxyClient &client_;
  Handler *handler_; ///< Null: nothing is told any more.
  const Options options_;
  ev_timer idle_{};
  ev_timer held_{};
  ev_prepare tell_{}; ///< Never started, only fed: what is told from the loop.
  Paths paths_;             ///< At most Options::max_paths.
  Path *current_ = nullptr; ///< That which something was sent to last, or null.
  std::vector<ClientId> client_ids_; ///< As they were issued; the connection bounds them.
  std::vector<ServerId> server_ids_; ///< So it does these.
  std::vector<ConnectionId> answered_; ///< Those of client_ids_ that are to be released.
  ProxyTunnelStatistics earlier_;    ///< Of tunnels that are gone.
  std::uint64_t opened_ = 0;
};

} // namespace ngmasque
