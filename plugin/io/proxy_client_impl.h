// What a ProxyClient is made of.  proxy_client.cc is the interface, proxy_client_outer.cc the outer
// connection, proxy_client_sockets.cc its sockets, proxy_client_loop.cc what is done when and what is
// told, proxy_client_tunnels.cc the tunnels and their requests, and proxy_client_via.cc what is to be
// done for an outer connection that goes through another proxy.
#pragma once

#include "ngmasque/io/proxy_client.h"
#include "ngmasque/quic/http3_client.h"
#include "ngmasque/routing/siphash.h"
#include "ngmasque/session/client_ids.h"

#include <array>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <ev.h>

#include "common.h"
#include "deadline_timer.h"
#include "outer_link.h"
#include "proxy_tunnel_impl.h"
#include "tunnel_link.h"

namespace ngmasque {

class ProxyClient::Impl : public Http3Client::Handler, private TunnelLinks::Owner {
public:
  Impl(struct ev_loop *loop, Options options, ProxyClient::Handler &handler);
  ~Impl() override;

  // The functions of ProxyClient.
  std::expected<void, IoError> Start();
  std::expected<std::shared_ptr<ProxyTunnel::Impl>, IoError>
  Open(const Authority &target, const ConnectionId &inner_scid, ProxyTunnel::Handler &handler,
       const ProxyTunnel::Options &options, const std::shared_ptr<ClientTunnel> &sibling = {});
  std::expected<void, IoError> ChangeLocalAddress();
  void Close();

  std::size_t tunnels() const { return tunnels_.size(); }
  bool draining() const { return draining_; }
  std::string_view dialect() const { return dialect_ ? dialect_->name() : ""; }
  const ProxyClientStatistics &statistics() const { return statistics_; }
  const std::optional<CloseReason> &close_reason() const { return close_reason_; }
  std::optional<FourTuple> path() const;
  std::optional<ProxyTunnelStatistics> via_statistics() const;
  Nanoseconds silence() const { return heard_ == Nanoseconds{} ? Nanoseconds{} : SteadyNow() - heard_; }

private:
  friend struct ProxyTunnel::Impl;

  struct Socket {
    explicit Socket(std::unique_ptr<OuterLink> made) : link(std::move(made)) {}
    std::unique_ptr<OuterLink> link;
  };

  /// A burst that the socket had no room for.
  struct Blocked {
    FourTuple path;
    unsigned ecn = 0;
    std::vector<std::uint8_t> bytes;
    std::size_t segment = 0;
  };

  /// Of a tunnel, from 0 upwards in the order in which they were opened; none is used twice.
  using TunnelNumber = std::uint64_t;
  /// A request of any of the tunnels.
  using RequestKey = std::pair<TunnelNumber, RequestId>;
  struct RequestAction {
    RequestKey key;
    std::variant<client_action::SendRequest, client_action::SendOnStream,
                 client_action::CloseRequest>
      what;
  };

  // What the program is told from the loop, in this order.
  struct Ready {};
  struct Draining {};
  struct Writable {};
  struct Closed {
    std::string text;
  };
  struct Event {
    std::shared_ptr<ProxyTunnel::Impl> tunnel; ///< Null: of the outer connection.
    std::variant<Ready, Draining, Closed, Writable, client_action::Opened, client_action::ReleaseClientId,
                 client_action::DiscardClientId, TunnelEnd>
      what;
  };

  // Http3Client::Handler; but for OnDatagram and OnData these only take notes.
  void OnReady(std::size_t max_datagram) override;
  void OnHeaders(StreamId stream, std::span<const HeaderField> fields) override;
  void OnData(StreamId stream, std::span<const std::uint8_t> data) override;
  void OnStreamClosed(StreamId stream, StreamEnd end, std::uint64_t code) override;
  std::uint64_t OnDatagram(std::span<const std::uint8_t> datagram) override;
  void OnDatagramDropped(DatagramQueue::Key tunnel, std::span<const std::uint8_t> datagram,
                         QuicError::Code reason) override;
  void OnWritable() override;
  void OnStreamsAvailable() override;
  void OnGoAway() override;
  void OnSettings(const PeerSettings &settings) override;
  bool OnNewLocalId(const ConnectionId &id) override;
  void OnRetiredLocalId(const ConnectionId &id) override;
  std::optional<Endpoint> OnServerAddress(const Endpoint &remote) override;
  void OnPathChanged(const FourTuple &path) override;
  void OnClosed(const CloseReason &reason) override;

  // OuterLink::Owner.
  bool OnPacket(OuterLink &link, std::span<std::uint8_t> packet, unsigned ecn) override;
  void OnPacketsDone(OuterLink &link, int error) override;
  void OnRoom(OuterLink &link) override;

  // TunnelLinks::Owner.
  void OnClientId(const ConnectionId &id, bool usable) override;
  void OnLinksEnded(const TunnelEnd &end) override;
  std::chrono::nanoseconds LinkProbeTimeout() const override {
    return std::chrono::nanoseconds(probe_timeout_);
  }

  // proxy_client_outer.cc, proxy_client_sockets.cc and proxy_client_loop.cc
  /// Fills addresses_.  Error: kResolve.
  std::expected<void, IoError> FindAddresses();
  std::expected<void, IoError> ConnectNext();
  /// Starts the outer connection to an address, with larger packets or with smaller ones.
  std::expected<void, IoError> Connect(const Endpoint &remote, bool small);
  std::expected<Socket *, IoError> OpenSocket(const Endpoint &remote);
  void StopSocket(Socket &socket);
  void StopWatchers();
  void CloseWith(std::uint64_t code);
  /// Does what is to be done, and tells what is to be told.
  void Flush();
  /// Has Flush called before the loop waits.
  void Wake() { ev_feed_event(loop_, &flush_, EV_CUSTOM); }
  template <typename Call> void WithHttp3(const Call &call) {
    in_http3_ = true;
    call(*http3_);
    in_http3_ = false;
    if (close_wanted_) {
      Close();
    }
  }
  void WriteOuter();
  bool SendOuter(const OutgoingBurst &burst);
  SendOutcome SendOn(Socket &socket, const Burst &burst);
  void SendBlocked();
  void DeliverEvents();
  void DeliverEvent(const Event &event);
  void DeliverPacketsDone();
  void SetTimer();
  /// Something has come from the proxy.
  void Hear();
  /// A packet of this handler's tunnel was forwarded, and is to be answered.
  void AwaitAnswer(const ProxyTunnel::Handler &handler);
  void OnNoAnswer();
  /// Has tunnels that wait to be forwarded look again, if nothing else does before.
  void WakeAfter(Nanoseconds time);
  /// Has the proxy see where the client is.
  void Ping();
  void TryNextOrClose(std::string text);
  /// All is over, and each tunnel is to be told.
  void TellEnd(std::string text);
  /// The socket of a local endpoint, or null.
  Socket *FindSocket(const Endpoint &local);
  /// The others are closed before it.
  void KeepSocket(const Socket &socket);

  /// If what is known of the proxy does for that, tunnels begin.
  void ChooseDialect();

  // proxy_client_via.cc
  std::expected<void, IoError> StartBehind();
  /// Of Options::via: it is there, or is not any more.  These only take notes.
  void OnViaReady();
  void OnViaOver(std::string_view text);
  void LeaveVia();
  /// A follower has sent its last packet.
  void WriteLastWords();
  /// Tells those that it is Options::via of that it is over.
  void DismissFollowers(std::string_view text);
  /// The size of UDP payloads in bytes that go through a tunnel of this one, both ways, and not on
  /// a stream.  To be called when the dialect is known.
  std::size_t LinkPayload() const;
  /// The path to an address of the proxy, as it is called.
  FourTuple ViaPath(const Endpoint &remote);
  std::expected<void, IoError> OpenTunnelLinks(const FourTuple &path);
  /// When no socket uses them any more.
  void ForgetTunnelLinks();
  void TellRemoteIds();
  /// Something may have changed of a tunnel's connection IDs.
  void TellLinkIds(ProxyTunnel::Impl &tunnel);
  /// The proxy has moved: so have those of the tunnel that are the same as before.
  void MoveLinkIds(const ProxyTunnel::Impl &tunnel);
  /// Whether a tunnel has said it.
  bool HasLinkId(const LinkId &one) const;

  // proxy_client_tunnels.cc
  void BeginTunnels();
  /// Whether a request that was refused like that may be one that the proxy would understand in the
  /// other dialect, and that is wanted.
  bool MayFallBack(unsigned status) const;
  /// Begins all tunnels again, with draft-00.
  void FallBack();
  void EndTunnels();
  /// A tunnel is over.
  void Forget(ProxyTunnel::Impl &tunnel);
  /// For what may change tunnels_.
  std::vector<std::shared_ptr<ProxyTunnel::Impl>> Tunnels() const;
  std::shared_ptr<ProxyTunnel::Impl> FindTunnel(TunnelNumber number) const;
  /// 0 unless the outer connection is there.
  std::size_t MaxPayload(const ProxyTunnel::Impl &tunnel) const;
  void RunRequests();
  /// Returns false if it has to be tried again.
  bool SubmitRequest(RequestKey key, std::vector<HeaderField> fields);
  void SendMessage(RequestKey key, std::span<const std::uint8_t> message);
  /// `held`: requests that wait for a stream, and messages for these.
  void CloseRequest(RequestKey key, std::uint64_t code, std::deque<RequestAction> &held);
  /// While the queue of requests is done: what comes of it is put at its end.  `code`: of HTTP/3.
  void RequestFailed(RequestKey key, std::uint64_t code = 0);
  /// The proxy takes no more requests.  Returns false for one of a tunnel that it has taken: it waits,
  /// for what is never to come.
  bool RejectRequest(RequestKey key);
  void Drop(DropReason reason);
  void Tell(Event event);
  void Log(LogLevel level, std::string_view text) const;
  /// What a peer can bring about.
  void Log(LogLimit &limit, LogLevel level, std::string_view text) const;

  struct ev_loop *const loop_;
  Options options_;
  const bool chained_; ///< There is, or was, Options::via.
  ProxyClient::Handler &handler_;
  ProxyClientStatistics statistics_;
  Nanoseconds heard_{};       // When the proxy was heard of last, at first that of Start.
  // See ProxyTunnel::Handler::ProbeTimeout.  Whatever comes from the proxy shows that it knows the
  // port, whose tunnel's it may be.
  Nanoseconds unanswered_ = kNever; // When the first packet was forwarded since something came.
  Nanoseconds probe_timeout_ = 1'000'000'000; // Of the inner connection that it was of.
  Nanoseconds next_ping_{};         // At most one in a probe timeout.
  ev_timer answer_timer_{};
  ev_timer wait_timer_{}; // See WakeAfter.
  std::uint64_t received_{};  // Http3Client::packets_received, as far as it is in heard_.
  std::optional<HashKey> key_; // Nothing: no randomness, which Start and Open report.
  std::vector<std::uint8_t> read_buffer_;
  std::vector<std::uint8_t> forward_buffer_; ///< Where forwarded packets are written anew.

  // The outer connection.
  std::vector<Endpoint> addresses_; ///< Of the proxy, those that are yet to be tried.
  std::unique_ptr<TunnelLinks> links_; ///< With Options::via, what sockets_ are made of.
  /// At most kMaxSockets, the one that was used last at the end; the others for what is still on its
  /// way, and for where the proxy may be again.
  std::list<Socket> sockets_;
  Socket *current_ = nullptr;       ///< That of the path in use.
  const OuterLink *reading_ = nullptr; ///< Stays for now.
  std::unique_ptr<Http3Client> http3_;
  std::set<ConnectionId> local_ids_; ///< Those in use; ngtcp2 bounds them.
  std::optional<Blocked> blocked_;
  std::array<LogLimit, std::tuple_size_v<decltype(ProxyTunnelStatistics::fallbacks)>>
    fallback_lines_;
  LogLimit unsent_lines_;
  LogLimit refused_lines_; ///< Of addresses that the proxy wants the client to go to.
  LogLimit moved_lines_;
  std::set<std::string> gave_up_; ///< What has been logged of SendOutcome::gave_up, a few texts.
  bool ready_ = false;
  bool draining_ = false;        ///< The proxy takes no more requests on it.
  bool over_ = false;            ///< The connection is, and the program is being told.
  bool closed_ = false;
  bool in_http3_ = false;        ///< Within a call of http3_, which is not to be called then.
  bool close_wanted_ = false;    ///< Close was called meanwhile.
  bool final_ = false;           ///< No other address is to be tried.
  bool small_ = false;           ///< The connection to this address has begun with small packets.
  bool may_be_size_ = false;     ///< Those of failure_ may be too large for the path.
  bool forwarding_ = false;      ///< A packet was forwarded.
  bool room_ = false;            ///< There is room again, for whom of the tunnels ever.
  std::optional<CloseReason> close_reason_; ///< Of the latest address.
  std::string failure_;          ///< Why the connection to this address is over; empty: it is not.
  std::uint64_t failure_code_ = kH3NoError; ///< What the peer is told of it, if it is not known.

  // With Options::via.
  struct Behind {
    Authority proxy; ///< As a target ...
    Endpoint remote; ///< ... and as it is called: without an address where that is not known.
    std::uint16_t names = 0;       ///< Local ports that paths were told apart by.
    ProxyTunnelStatistics earlier; ///< Of links_ before these.
    std::vector<Http3Client::RemoteId> remote_ids; ///< Those that links_ were told of.
    /// Of forwarded packets: what ClientTunnel::LinkIds has said, which is what they were told of.
    std::map<TunnelNumber, std::set<LinkId>> ids;
    std::set<ConnectionId> usable; ///< Of these, those with kToClient that they have said yes to.
    int retries = 0;
    int discards = 0;
    bool again = false; ///< failure_ is worth another try.
    bool full = false;  ///< They take no more connection IDs of tunnels, which forward nothing.
  } behind_;
  std::set<Impl *> followers_; ///< Those that this is Options::via of; the program has them.

  DeadlineTimer timer_;
  ev_prepare flush_{}; ///< Never started, only fed: see Wake.

  // The tunnels.
  ClientIds ids_;
  ClientDialectFactory make_dialect_;
  bool accepted_ = false; ///< The proxy has opened a tunnel.
  /// When the connection ends without a dialect: the handshake is over, and SETTINGS have to come.
  Nanoseconds settings_due_ = kNever;
  std::unique_ptr<ClientDialect> dialect_; ///< Null before ChooseDialect: no tunnel has begun.
  /// Options::max_tunnels at most.
  std::map<TunnelNumber, std::shared_ptr<ProxyTunnel::Impl>> tunnels_;
  std::vector<std::shared_ptr<ProxyTunnel::Impl>> delivered_; ///< Those to be told OnPacketsDone.
  TunnelNumber next_tunnel_ = 0;
  std::deque<RequestAction> requests_; ///< To be done; ClientTunnelLimits bounds what tunnels send.
  std::map<RequestKey, StreamId> streams_;
  std::map<StreamId, RequestKey> by_stream_;
  std::vector<StreamId> abandoned_; ///< By FallBack: to be closed.
  std::deque<Event> events_;       ///< What is told is as bounded as what causes it.
};

} // namespace ngmasque
