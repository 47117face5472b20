// ProxyClient: what is done when, and what the program is told.

#include "proxy_client_impl.h"

#include "ngmasque/session/draft00.h"
#include "ngmasque/wire/quic_header.h"

#include <algorithm>
#include <format>

namespace ngmasque {

ProxyClient::Impl::Impl(struct ev_loop *loop, Options options, ProxyClient::Handler &handler)
  : loop_(loop),
    options_(std::move(options)),
    chained_(options_.via != nullptr),
    handler_(handler),
    key_(DrawHashKey()),
    read_buffer_(kReadBufferSize),
    forward_buffer_(kBurstBuffer + ClientTunnel::kMaxGrowth),
    timer_(loop,
           [this] {
             WithHttp3([](Http3Client &http3) { http3.HandleExpiry(SteadyNow()); });
             Wake();
           }),
    ids_(key_.value_or(HashKey{})) {
  ev_init(&flush_, [](struct ev_loop *, ev_prepare *watcher, int) {
    static_cast<Impl *>(watcher->data)->Flush();
  });
  ev_init(&answer_timer_, [](struct ev_loop *, ev_timer *watcher, int) {
    static_cast<Impl *>(watcher->data)->OnNoAnswer();
  });
  ev_init(&wait_timer_, [](struct ev_loop *, ev_timer *watcher, int) {
    static_cast<Impl *>(watcher->data)->OnWritable();
  });
  flush_.data = answer_timer_.data = wait_timer_.data = this;
  // After all others that are pending: what they have to send goes into the same packets.
  ev_set_priority(&flush_, EV_MINPRI);
}

ProxyClient::Impl::~Impl() {
  StopWatchers();
  EndTunnels(); // The program may still have them.
  DismissFollowers("it is not there any more");
  LeaveVia();
}

void ProxyClient::Impl::Flush() {
  if (closed_ || (!http3_ && failure_.empty())) {
    return;
  }
  RunRequests();
  WriteOuter();
  if (closed_) {
    return;
  }
  TellRemoteIds();
  if (!dialect_ && failure_.empty() && SteadyNow() >= settings_due_) {
    failure_ = "the proxy has sent no SETTINGS, which the dialect depends on";
    failure_code_ = kH3MissingSettings;
    final_ = true;
  }
  if (!failure_.empty()) {
    TryNextOrClose(std::exchange(failure_, {}));
  }
  if (std::exchange(room_, false)) {
    for (const auto &[number, tunnel] : tunnels_) {
      if (std::exchange(tunnel->writable_wanted, false)) {
        events_.push_back({.tunnel = tunnel, .what = Writable{}});
      }
    }
  }
  DeliverEvents();
  SetTimer();
}

void ProxyClient::Impl::DeliverEvents() {
  while (!events_.empty() && !closed_) {
    const auto event = std::move(events_.front());
    events_.pop_front();
    if (!event.tunnel || event.tunnel->handler) {
      DeliverEvent(event);
    }
  }
}

void ProxyClient::Impl::DeliverEvent(const Event &event) {
  auto *const tunnel = event.tunnel.get();
  std::visit(
    Overloaded{
      [&](const Ready &) {
        for (auto *const follower : followers_) {
          follower->OnViaReady();
        }
        handler_.OnReady();
      },
      [&](const Draining &) { handler_.OnDraining(); },
      [&](const Closed &what) {
        CloseWith(failure_code_);
        handler_.OnClosed(what.text);
      },
      [&](const Writable &) { tunnel->handler->OnWritable(); },
      [&](const client_action::Opened &) { tunnel->handler->OnOpened(); },
      [&](const client_action::ReleaseClientId &what) {
        tunnel->handler->OnReleaseClientId(what.id);
      },
      [&](const client_action::DiscardClientId &what) {
        tunnel->handler->OnDiscardClientId(what.id);
      },
      [&](const TunnelEnd &what) { std::exchange(tunnel->handler, nullptr)->OnEnded(what); },
    },
    event.what);
}

void ProxyClient::Impl::DeliverPacketsDone() {
  for (const auto &tunnel : std::exchange(delivered_, {})) {
    tunnel->delivered = false;
    if (!closed_ && tunnel->handler) {
      tunnel->handler->OnPacketsDone();
    }
  }
}

void ProxyClient::Impl::SetTimer() {
  if (closed_ || !http3_) {
    timer_.Stop();
    return;
  }
  const auto expiry = dialect_ ? http3_->Expiry() : std::min(http3_->Expiry(), settings_due_);
  // While a burst waits for the socket, nothing can be written, and it would expire again at once.
  timer_.Set(blocked_ ? kNever : expiry);
}

void ProxyClient::Impl::Hear() {
  heard_ = SteadyNow();
  unanswered_ = kNever;
}

// The timer goes on when something comes, so that it is not set for each packet.
void ProxyClient::Impl::AwaitAnswer(const ProxyTunnel::Handler &handler) {
  forwarding_ = true;
  if (unanswered_ != kNever) {
    return;
  }
  unanswered_ = SteadyNow();
  probe_timeout_ = static_cast<Nanoseconds>(handler.ProbeTimeout().count());
  if (!ev_is_active(&answer_timer_)) {
    OnNoAnswer();
  }
}

void ProxyClient::Impl::OnNoAnswer() {
  if (unanswered_ == kNever || closed_) {
    return;
  }
  const auto now = SteadyNow();
  const auto due = std::max(unanswered_ + probe_timeout_, next_ping_);
  if (now >= due) {
    Ping(); // Which the outer connection repeats until it has an answer.
    return;
  }
  ev_now_update(loop_);
  ev_timer_set(&answer_timer_, static_cast<ev_tstamp>(due - now) / 1e9, 0.);
  ev_timer_start(loop_, &answer_timer_);
}

void ProxyClient::Impl::WakeAfter(Nanoseconds time) {
  if (!ev_is_active(&wait_timer_)) {
    ev_now_update(loop_);
    ev_timer_set(&wait_timer_, static_cast<ev_tstamp>(time) / 1e9, 0.);
    ev_timer_start(loop_, &wait_timer_);
  }
}

void ProxyClient::Impl::Ping() {
  if (const auto now = SteadyNow(); now >= next_ping_) {
    next_ping_ = now + probe_timeout_;
    http3_->Ping();
    Wake();
  }
}

std::size_t ProxyClient::Impl::MaxPayload(const ProxyTunnel::Impl &tunnel) const {
  if (!ready_ || over_ || closed_ || !tunnel.session) {
    return 0;
  }
  if (!dialect_->datagrams()) {
    return kMaxUdpPayload;
  }
  const auto max = http3_->max_datagram();
  const std::size_t header = tunnel.session->dialect().datagram_prefix().size;
  return header != 0 && max > header ? max - header : 0;
}

void ProxyClient::Impl::OnReady(std::size_t) {
  ready_ = true;
  Log(LogLevel::kInfo, "connected to the proxy");
  ChooseDialect();
  if (!dialect_) {
    settings_due_ = SteadyNow() + static_cast<Nanoseconds>(
                                    std::chrono::nanoseconds(options_.handshake_timeout).count());
  }
}

void ProxyClient::Impl::OnSettings(const PeerSettings &) {
  if (!dialect_) {
    ChooseDialect();
  }
}

void ProxyClient::Impl::ChooseDialect() {
  const ClientDialectOptions options{.datagrams = http3_->datagrams(),
                                     .settings = http3_->peer_settings()};
  dialect_ = make_dialect_(options);
  if (dialect_) {
    Log(LogLevel::kInfo, std::format("dialect {}", dialect_->name()));
    Tell({.tunnel = nullptr, .what = Ready{}});
    room_ = true; // For what was to be sent before.
    BeginTunnels();
  } else if (const auto &settings = options.settings; settings && failure_.empty()) {
    failure_ = std::format("the proxy speaks neither dialect of CONNECT-UDP that it could: its "
                           "SETTINGS have ENABLE_CONNECT_PROTOCOL {:d}, H3_DATAGRAM {:d}, and {:d} "
                           "of the draft",
                           settings->connect_protocol, settings->datagrams,
                           settings->draft_datagrams);
    final_ = true;
  }
}

void ProxyClient::Impl::OnWritable() {
  room_ = true;
  Wake();
}

void ProxyClient::Impl::OnStreamsAvailable() {
  room_ = true; // For payloads on a stream that could not be opened.
  Wake();
}

void ProxyClient::Impl::OnGoAway() {
  Log(LogLevel::kWarning, "the proxy takes no more tunnels on this connection: it is going away");
  draining_ = true;
  Tell({.tunnel = nullptr, .what = Draining{}});
}

bool ProxyClient::Impl::OnNewLocalId(const ConnectionId &id) {
  if (!ids_.Check(id) || !ids_.Reserve(id)) {
    return false;
  }
  local_ids_.insert(id);
  if (links_) {
    links_->AddClientId(id);
  }
  return true;
}

void ProxyClient::Impl::OnRetiredLocalId(const ConnectionId &id) {
  local_ids_.erase(id);
  ids_.Release(id);
  if (links_) {
    links_->RemoveClientId(id);
  }
}

// The path is validated, and nothing but probes has left on it: what was forwarded until now has left
// from the old socket, and what would have been from here on is tunnelled, before the proxy can have
// noticed.
void ProxyClient::Impl::OnPathChanged(const FourTuple &path) {
  auto *socket = FindSocket(path.local);
  if (!socket) {
    return;
  }
  const auto *const from = std::exchange(current_, socket);
  KeepSocket(*socket);
  if (from->link->remote() == path.remote) {
    Log(LogLevel::kInfo, "moved to a new local address");
  } else {
    ++statistics_.server_migrations;
    Log(moved_lines_, LogLevel::kInfo,
        std::format("the proxy has moved to {}", ToText(path.remote)));
  }
  for (const auto &tunnel : Tunnels()) {
    if (tunnel->session) {
      tunnel->Run(tunnel->session->OnMigrated());
      MoveLinkIds(*tunnel);
    }
  }
}

void ProxyClient::Impl::OnClosed(const CloseReason &reason) {
  close_reason_ = reason;
  failure_ = reason.text;
  final_ = reason.kind == CloseKind::kCertificate;
  // A path that drops large packets looks as if nobody were there.
  may_be_size_ = reason.kind == CloseKind::kHandshakeTimeout;
  Wake();
}

void ProxyClient::Impl::Tell(Event event) {
  events_.push_back(std::move(event));
  Wake();
}

void ProxyClient::Impl::Log(LogLevel level, std::string_view text) const {
  if (options_.log) {
    options_.log(level, text);
  }
}

void ProxyClient::Impl::Log(LogLimit &limit, LogLevel level, std::string_view text) const {
  if (const auto end = limit.Take(SteadyNow())) {
    Log(level, std::string(text) + *end);
  }
}

} // namespace ngmasque
