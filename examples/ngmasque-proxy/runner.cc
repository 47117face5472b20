#include "runner.h"

#include "secret_file.h"
#include "service.h"

#include <chrono>
#include <csignal>
#include <cstring>
#include <format>
#include <span>
#include <utility>

#include <gnutls/crypto.h>
#include <unistd.h>

namespace ngmasque::programs {

namespace {

// Without randomness nothing else would begin either.
HashKey DrawKey() {
  HashKey key{};
  std::ignore = gnutls_rnd(GNUTLS_RND_KEY, &key, sizeof(key));
  return key;
}

std::uint64_t Now() {
  return std::uint64_t(std::chrono::steady_clock::now().time_since_epoch().count());
}

} // namespace

Runner::Runner(Settings command_line, Configured setup)
  : command_line_(std::move(command_line)), setup_(std::move(setup)),
    log_(setup_.options.log_level), loop_(ev_default_loop(0)), access_(DrawKey()),
    access_log_(log_) {
  const auto watch = [this](ev_signal &watcher, int number, auto callback) {
    ev_signal_init(&watcher, callback, number);
    watcher.data = this;
    ev_signal_start(loop_, &watcher);
  };
  watch(signals_[0], SIGHUP, [](struct ev_loop *, ev_signal *watcher, int) {
    static_cast<Runner *>(watcher->data)->Reload();
  });
  static constexpr auto kStop = [](struct ev_loop *, ev_signal *watcher, int) {
    static_cast<Runner *>(watcher->data)->Stop(watcher->signum);
  };
  watch(signals_[1], SIGINT, kStop);
  watch(signals_[2], SIGTERM, kStop);
  watch(signals_[3], SIGQUIT, kStop);
  ev_init(&drain_timer_, [](struct ev_loop *, ev_timer *watcher, int) {
    auto &self = *static_cast<Runner *>(watcher->data);
    self.log_.Warning(
      std::format("{} tunnels are cut off: --drain-timeout is over", self.proxy_->tunnels()));
    self.End();
  });
  drain_timer_.data = this;
  ev_init(&move_timer_, [](struct ev_loop *, ev_timer *watcher, int) {
    static_cast<Runner *>(watcher->data)->MoveOn();
  });
  move_timer_.data = this;
  // A pipe as access log may lose its reader.
  std::signal(SIGPIPE, SIG_IGN);
}

Runner::~Runner() {
  ev_timer_stop(loop_, &drain_timer_);
  ev_timer_stop(loop_, &move_timer_);
  for (auto &watcher : signals_) {
    ev_signal_stop(loop_, &watcher);
  }
}

// What is the proxy's own is so for everybody: the library sees to it.
Policies Runner::MakePolicies(const Configured &setup) {
  Policies policies;
  for (const auto &[name, policy] : setup.policies) {
    policies.emplace(name,
                     Privileges{.targets = std::make_shared<const TargetPolicy>(policy.targets),
                                .max_bytes_per_second = policy.max_bytes_per_second});
  }
  return policies;
}

// A certificate that TLS has not insisted on may be missing: then users count, or nobody gets in.
void Runner::Admit(const Configured &setup) {
  const bool everybody = !KnowsClients(setup) || setup.options.open;
  access_.Replace(setup.users, MakePolicies(setup), everybody);
}

ProgramCounters Runner::counters() const {
  auto counters = counters_;
  counters.lost_access_lines = access_log_.lost();
  return counters;
}

std::expected<void, Complaint> Runner::Start(std::vector<int> passed) {
  const auto file = AccessLog::Open(setup_.options.access_log);
  if (!file) {
    return std::unexpected(file.error());
  }
  access_log_.Use(*file);

  // Not before: --check makes nothing.
  if (const auto &secret_file = setup_.options.secret_file; !secret_file.empty()) {
    const auto secret = MakeSecretFile(secret_file);
    if (!secret) {
      return std::unexpected(secret.error());
    }
    setup_.options.proxy.server.secret = *secret;
  }

  auto options = setup_.options.proxy;
  options.log = log_.Function();
  passed_ = passed;
  options.listener.sockets = std::move(passed);
  options.proxy.proxy.access = [this](const AccessRequest &request) {
    return access_.Decide(request, Now());
  };
  options.proxy.record = [this](const TunnelRecord &record) { access_log_.Write(record); };
  auto proxy = ConnectUdpProxy::Create(loop_, std::move(options));
  if (!proxy) {
    return std::unexpected(ErrorText(proxy.error()));
  }
  proxy_ = *std::move(proxy);
  Admit(setup_);

  if (auto moved = StartMoves(); !moved) {
    return moved;
  }
  if (!setup_.options.metrics.empty()) {
    auto metrics =
      MetricsServer::Create(loop_, {.address = setup_.options.metrics.front(),
                                    .metrics = [this] { return MetricsText(*proxy_, counters()); },
                                    .healthy = [this] { return !counters_.draining; }});
    if (!metrics) {
      return std::unexpected("metrics: " + metrics.error());
    }
    metrics_ = *std::move(metrics);
    log_.Info(std::format("metrics on {}", EndpointText(metrics_->address())));
  }
  return {};
}

// The sockets are those of --listen, then of --alternate-addr, then passed ones.
std::expected<void, Complaint> Runner::StartMoves() {
  const auto &options = setup_.options;
  const auto addresses = proxy_->addresses();
  const auto alternates =
    std::span(addresses).subspan(options.listen.size(), options.alternates.size());
  ring_.assign(alternates.begin(), alternates.end());
  if (options.migrate_on_handshake) {
    if (auto set = proxy_->MoveOnHandshake(ring_.front()); !set) {
      return std::unexpected(ErrorText(set.error()));
    }
  }
  if (options.migrate_every.count() > 0) {
    if (!IsWildcard(addresses.front())) {
      ring_.push_back(addresses.front());
    }
    const std::chrono::duration<double> every = options.migrate_every;
    ev_timer_set(&move_timer_, every.count(), every.count());
    ev_timer_start(loop_, &move_timer_);
  }
  return {};
}

void Runner::MoveOn() {
  const auto &address = ring_[next_++ % ring_.size()];
  // It listens there.
  if (const auto moved = proxy_->Move(address); !moved) {
    log_.Error(ErrorText(moved.error()));
  } else {
    log_.Write(LogLevel::kDebug, std::format("clients are sent to {}", EndpointText(address)));
  }
}

ExitCode Runner::Run(std::vector<int> passed) {
  if (const auto started = Start(std::move(passed)); !started) {
    log_.Error(started.error());
    return kFailed;
  }
  for (const auto &warning : setup_.warnings) {
    log_.Warning(warning);
  }
  for (const auto &address : proxy_->addresses()) {
    log_.Info(std::format("listening on {}", EndpointText(address)));
  }
  NotifyReady();
  ev_run(loop_, 0);
  // The rest of the loop: what is to be closed has been told so.
  metrics_.reset();
  proxy_.reset();
  return kEnded;
}

std::expected<Configured, Complaint> Runner::TryReload() {
  auto setup = Load(command_line_, passed_);
  if (!setup) {
    return setup;
  }
  // By where it really listens, which a reload does not change.
  if (const auto checked = CheckListeners(*setup, proxy_->addresses()); !checked) {
    return std::unexpected(checked.error());
  }
  const auto file = AccessLog::Open(setup->options.access_log);
  if (!file) {
    return std::unexpected(file.error());
  }
  if (const auto replaced = proxy_->ReplaceCertificates(setup->certificates); !replaced) {
    ::close(*file);
    return std::unexpected(ErrorText(replaced.error()));
  }
  access_log_.Use(*file);
  return setup;
}

void Runner::Reload() {
  NotifyReloading();
  auto setup = TryReload();
  if (!setup) {
    ++counters_.failed_reloads;
    log_.Error(std::format("not reloaded, all stays as it was: {}", setup.error()));
    NotifyReady();
    return;
  }
  ++counters_.reloads;
  for (const auto &warning : setup->warnings) {
    log_.Warning(warning);
  }
  for (const auto &name : NeedRestart(setup_, *setup)) {
    log_.Warning(std::format("{} has changed, which needs a new start", name));
  }
  log_.set_least(setup->options.log_level);
  proxy_->SetPolicy(setup->options.proxy.proxy.policy);
  proxy_->SetRate(setup->options.proxy.proxy.proxy.max_bytes_per_second_per_client);
  Admit(*setup);
  if (const auto revoked =
        proxy_->Review([this](const Admitted &before) { return access_.Review(before); });
      revoked > 0) {
    log_.Info(std::format("{} connections are closed: their users may not use the proxy any more",
                          revoked));
  }
  setup_ = *std::move(setup);
  log_.Info("reloaded");
  NotifyReady();
}

void Runner::Stop(int signal) {
  log_.Info(std::format("{}: {}", ::strsignal(signal),
                        counters_.draining ? "ended at once" : "no more tunnels are taken"));
  if (counters_.draining || signal == SIGINT) {
    End();
  } else {
    Drain();
  }
}

void Runner::Drain() {
  counters_.draining = true;
  NotifyStopping();
  const std::chrono::duration<double> limit = setup_.options.drain_timeout;
  ev_timer_set(&drain_timer_, limit.count(), 0.);
  ev_timer_start(loop_, &drain_timer_);
  log_.Info(std::format("{} tunnels may go on for {}", proxy_->tunnels(),
                        DurationText(setup_.options.drain_timeout)));
  proxy_->Drain([this] {
    log_.Info("the last tunnel is over");
    End();
  });
}

void Runner::End() {
  if (!counters_.draining) {
    NotifyStopping();
  }
  proxy_->Close();
  ev_break(loop_);
}

} // namespace ngmasque::programs
