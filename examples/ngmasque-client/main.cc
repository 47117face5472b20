// ngmasque-client: UDP of any program through a CONNECT-UDP proxy.
#include "network_watch.h"
#include "options.h"
#include "status.h"

#include "ngmasque/exit_code.h"
#include "ngmasque/log.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <format>
#include <memory>
#include <optional>
#include <print>
#include <span>
#include <string>
#include <system_error>
#include <variant>

#include <ev.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace ngmasque::programs {

namespace {

class Client {
public:
  Client(struct ev_loop *loop, ClientOptions options)
    : loop_(loop),
      options_(std::move(options)),
      log_(options_.log_level),
      carrier_(loop, options_.carrier, log_,
               [this](int code, std::string text) {
                 // What comes behind it on the way out is of no interest.
                 if (code_ == kEnded) {
                   code_ = code;
                   log_.Error(text);
                 }
                 ev_break(loop_);
               }),
      watch_(loop, [this] { carrier_.OnNetworkChanged(); }) {
    constexpr int kSignals[]{SIGINT, SIGTERM, SIGUSR1};
    for (std::size_t i = 0; i < signals_.size(); ++i) {
      ev_signal_init(
        &signals_[i],
        [](struct ev_loop *, ev_signal *signal, int) {
          static_cast<Client *>(signal->data)->OnSignal(signal->signum);
        },
        kSignals[i]);
      signals_[i].data = this;
    }
    ev_timer_init(
      &second_,
      [](struct ev_loop *, ev_timer *timer, int) {
        static_cast<Client *>(timer->data)->PrintStatus();
      },
      0., 1.);
    second_.data = this;
  }

  int Run() {
    if (!Begin()) {
      return kFailed;
    }
    carrier_.Start();
    if (code_ == kEnded) {
      ev_run(loop_, 0);
    }
    if (options_.status) {
      PrintStatus();
    }
    WriteStats();
    // Tunnels end before what they are in, and the proxy is told.
    socks_.reset();
    local_.reset();
    carrier_.Close();
    ev_timer_stop(loop_, &second_);
    for (auto &signal : signals_) {
      ev_signal_stop(loop_, &signal);
    }
    return code_;
  }

private:
  bool Begin() {
    for (auto &signal : signals_) {
      ev_signal_start(loop_, &signal);
    }
    if (!options_.local.addresses.empty()) {
      auto local = LocalPorts::Create(carrier_, options_.local, log_);
      if (!local) {
        log_.Error(
          std::format("--listen: {}; is another program there?", ErrorText(local.error())));
        return false;
      }
      local_ = *std::move(local);
      for (const auto &address : local_->addresses()) {
        log_.Info(std::format("UDP {} leads to {}", EndpointText(address),
                              AuthorityText(options_.local.target)));
      }
    }
    if (!options_.socks.addresses.empty()) {
      auto socks = SocksServer::Create(carrier_, options_.socks, log_);
      if (!socks) {
        log_.Error(std::format("--socks: {}; is another program there?", socks.error()));
        return false;
      }
      socks_ = *std::move(socks);
      for (const auto &address : socks_->addresses()) {
        log_.Info(std::format("SOCKS 5 at {}", EndpointText(address)));
      }
    }
    if (!watch_.works()) {
      log_.Warning(
        "the system does not tell when addresses change: the connection to the proxy moves "
        "when nothing comes from it for a while");
    }
    if (options_.status) {
      ev_timer_start(loop_, &second_);
    }
    return true;
  }

  void OnSignal(int number) {
    if (number != SIGUSR1) {
      ev_break(loop_);
      return;
    }
    log_.Info(StatusLine(Now()));
    WriteStats();
  }

  Status Now() {
    return {.proxy = carrier_.state(),
            .targets = carrier_.targets(),
            .peers = local_ ? local_->peers() : 0,
            .associations = socks_ ? socks_->associations() : 0,
            .dropped = (local_ ? local_->dropped() : 0) + (socks_ ? socks_->dropped() : 0),
            .connections = carrier_.connections(),
            .moves = carrier_.moves(),
            .server_migrations = carrier_.server_migrations()};
  }

  void PrintStatus() {
    winsize size{};
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0) {
      // From the upper left corner, and nothing is left of what was there.
      std::print("\x1b[H\x1b[J{}", StatusTable(Now(), size.ws_row, size.ws_col));
    } else {
      std::println("{}", StatusLine(Now()));
    }
    std::fflush(stdout);
  }

  // Whoever reads it finds all of it, or what was there before.
  void WriteStats() {
    if (options_.stats.empty()) {
      return;
    }
    auto part = options_.stats;
    part += ".part";
    auto *const file = std::fopen(part.c_str(), "we");
    const auto text = StatusJson(Now());
    bool written = file && std::fwrite(text.data(), 1, text.size(), file) == text.size();
    written = (!file || std::fclose(file) == 0) && written;
    std::error_code error;
    if (written) {
      std::filesystem::rename(part, options_.stats, error);
    }
    if (!written || error) {
      log_.Error(std::format("--stats: {} cannot be written", options_.stats.string()));
    }
  }

  struct ev_loop *const loop_;
  const ClientOptions options_;
  const Log log_;
  int code_ = kEnded;
  Carrier carrier_;
  NetworkWatch watch_;
  std::unique_ptr<LocalPorts> local_;
  std::unique_ptr<SocksServer> socks_;
  std::array<ev_signal, 3> signals_{};
  ev_timer second_{};
};

// Others can read the command line of a process, so that secrets do not stay there.
void HideSecrets(std::span<char *const> arguments) {
  bool next = false;
  for (char *const argument : arguments) {
    const std::string_view text(argument);
    auto hidden = next ? std::size_t{} : text.size();
    next = false;
    for (const std::string_view name : {"--proxy-user", "--proxy-bearer", "--socks-user"}) {
      if (text == name) {
        next = true;
      } else if (text.starts_with(name) && text[name.size()] == '=') {
        hidden = name.size() + 1;
      }
    }
    std::fill(argument + hidden, argument + text.size(), '*');
  }
}

int Main(int argc, char **argv) {
  ClientOptions options;
  const auto program = ClientProgram(options);
  const auto begun = Begin(program, argc, argv);
  if (const auto *const code = std::get_if<ExitCode>(&begun)) {
    return *code;
  }
  const auto &command_line = std::get<Settings>(begun);
  HideSecrets(std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
  const auto complain = [&](const Complaint &complaint) {
    std::println(stderr, "{}: {}", program.name, complaint);
    return kUsage;
  };
  const auto settings = Complete(program, command_line);
  if (!settings) {
    return complain(settings.error());
  }
  if (const auto applied = Apply(program, settings->values); !applied) {
    return complain(applied.error());
  }
  if (const auto finished = Finish(options); !finished) {
    return complain(finished.error());
  }
  if (settings->values.contains("check")) {
    return kEnded;
  }
  std::signal(SIGPIPE, SIG_IGN);
  return Client(ev_default_loop(0), std::move(options)).Run();
}

} // namespace

} // namespace ngmasque::programs

int main(int argc, char **argv) { return ngmasque::programs::Main(argc, argv); }
