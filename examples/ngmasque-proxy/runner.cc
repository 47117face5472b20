#include "runner.h"

#include "service.h"

#include <chrono>
#include <csignal>
#include <cstring>
#include <format>
#include <utility>

#include <gnutls/crypto.h>
#include <ngmasque/io/local_addresses.h>
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
    static_cast<Runner *>(watcher->data)->End(::strsignal(watcher->signum));
  };
  watch(signals_[1], SIGINT, kStop);
  watch(signals_[2], SIGTERM, kStop);
  watch(signals_[3], SIGQUIT, kStop);
  // A pipe as access log may lose its reader.
  std::signal(SIGPIPE, SIG_IGN);
}

Runner::~Runner() {
  for (auto &watcher : signals_) {
    ev_signal_stop(loop_, &watcher);
  }
}

// As ConnectUdpProxy does with its own: no user gets to what only this machine should get to.
Policies Runner::MakePolicies(const Configured &setup) const {
  Policies policies;
  for (const auto &[name, options] : setup.policies) {
    auto whole = options;
    whole.own = proxy_->addresses();
    whole.local = LocalAddresses();
    policies.emplace(name, std::make_shared<const TargetPolicy>(std::move(whole)));
  }
  return policies;
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
  access_.Replace(setup_.users, MakePolicies(setup_));

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
  const auto file = AccessLog::Open(setup->options.access_log);
  if (!file) {
    return std::unexpected(file.error());
  }
  const auto &server = setup->options.proxy.server;
  if (const auto replaced = proxy_->ReplaceCertificate(server.certificate_file, server.key_file);
      !replaced) {
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
  access_.Replace(setup->users, MakePolicies(*setup));
  setup_ = *std::move(setup);
  log_.Info("reloaded");
  NotifyReady();
}

void Runner::End(const char *why) {
  log_.Info(std::format("ended by a signal: {}", why));
  NotifyStopping();
  proxy_->Close();
  ev_break(loop_);
}

} // namespace ngmasque::programs
