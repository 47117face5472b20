#include "metrics.h"

#include <cerrno>
#include <cstring>
#include <format>
#include <utility>

#include <ev.h>
#include <microhttpd.h>
#include <ngmasque/quic/socket_address.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ngmasque::programs {

struct MetricsServer::State {
  explicit State(struct ev_loop *l, Options o) : loop(l), options(std::move(o)) {
    ev_init(&readable, OnReadable);
    ev_init(&timer, OnTimer);
    ev_prepare_init(&prepare, OnPrepare);
    readable.data = timer.data = prepare.data = this;
  }
  ~State() {
    ev_io_stop(loop, &readable);
    ev_timer_stop(loop, &timer);
    ev_prepare_stop(loop, &prepare);
    if (daemon) {
      MHD_stop_daemon(daemon);
    }
  }

  std::expected<void, std::string> Start();

  static void OnReadable(struct ev_loop *, ev_io *watcher, int) {
    MHD_run(static_cast<State *>(watcher->data)->daemon);
  }
  static void OnTimer(struct ev_loop *, ev_timer *watcher, int) {
    MHD_run(static_cast<State *>(watcher->data)->daemon);
  }
  // Before the loop waits: until when connections may be silent.
  static void OnPrepare(struct ev_loop *loop, ev_prepare *watcher, int) {
    auto &self = *static_cast<State *>(watcher->data);
    MHD_UNSIGNED_LONG_LONG wait = 0; // In milliseconds.
    ev_timer_stop(loop, &self.timer);
    if (MHD_get_timeout(self.daemon, &wait) == MHD_YES) {
      ev_timer_set(&self.timer, double(wait) / 1e3, 0.);
      ev_timer_start(loop, &self.timer);
    }
  }

  static MHD_Result OnRequest(void *self, MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *body,
                              std::size_t *body_size, void **state);
  MHD_Result Answer(MHD_Connection *connection, std::string_view method,
                    std::string_view url) const;

  struct ev_loop *loop;
  Options options;
  Endpoint local;
  MHD_Daemon *daemon = nullptr;
  ev_io readable;
  ev_timer timer;
  ev_prepare prepare;
};

std::expected<void, std::string> MetricsServer::State::Start() {
  // A socket of ours says why it cannot be had, and which port it got.
  SocketAddress name(options.address);
  const int fd = ::socket(name.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  socklen_t size = name.size();
  if (fd == -1 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::bind(fd, name.get(), size) != 0 || ::listen(fd, int(kMaxConnections)) != 0 ||
      ::getsockname(fd, name.get(), &size) != 0) {
    const int error = errno;
    if (fd != -1) {
      ::close(fd);
    }
    return std::unexpected(
      std::format("{}: {}", EndpointText(options.address), std::strerror(error)));
  }
  local = ToEndpoint(name.get()).value_or(options.address);
  daemon = MHD_start_daemon(
    MHD_USE_EPOLL, 0, nullptr, nullptr, OnRequest, this, MHD_OPTION_LISTEN_SOCKET, fd,
    MHD_OPTION_CONNECTION_LIMIT, kMaxConnections, MHD_OPTION_CONNECTION_TIMEOUT, kTimeout,
    MHD_OPTION_CONNECTION_MEMORY_LIMIT, std::size_t{16'384}, MHD_OPTION_END);
  const auto *info = daemon ? MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD) : nullptr;
  if (!info) {
    if (!daemon) {
      ::close(fd);
    }
    return std::unexpected("the HTTP server does not start");
  }
  ev_io_set(&readable, info->listen_fd, EV_READ);
  ev_io_start(loop, &readable);
  ev_prepare_start(loop, &prepare);
  return {};
}

MHD_Result MetricsServer::State::OnRequest(void *self, MHD_Connection *connection, const char *url,
                                           const char *method, const char *, const char *,
                                           std::size_t *body_size, void **state) {
  // First without, then with each part of the body, of which nothing is wanted, then at its end.
  static int seen;
  if (!std::exchange(*state, &seen)) {
    return MHD_YES;
  }
  if (std::exchange(*body_size, 0) > 0) {
    return MHD_YES;
  }
  return static_cast<State *>(self)->Answer(connection, method, url);
}

MHD_Result MetricsServer::State::Answer(MHD_Connection *connection, std::string_view method,
                                        std::string_view url) const {
  unsigned status = MHD_HTTP_OK;
  std::string body;
  const char *type = "text/plain; charset=utf-8";
  if (method != "GET" && method != "HEAD") {
    status = MHD_HTTP_METHOD_NOT_ALLOWED;
    body = "GET /metrics or GET /health\n";
  } else if (url == "/metrics") {
    type = "text/plain; version=0.0.4; charset=utf-8";
    body = options.metrics();
  } else if (url == "/health") {
    const bool healthy = options.healthy();
    status = healthy ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    body = healthy ? "ok\n" : "draining\n";
  } else {
    status = MHD_HTTP_NOT_FOUND;
    body = "GET /metrics or GET /health\n";
  }
  auto *response = MHD_create_response_from_buffer(body.size(), body.data(), MHD_RESPMEM_MUST_COPY);
  if (!response) {
    return MHD_NO;
  }
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
    MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  }
  const auto queued = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return queued;
}

MetricsServer::MetricsServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
MetricsServer::~MetricsServer() = default;

std::expected<std::unique_ptr<MetricsServer>, std::string>
MetricsServer::Create(struct ev_loop *loop, Options options) {
  auto state = std::make_unique<State>(loop, std::move(options));
  if (auto started = state->Start(); !started) {
    return std::unexpected(std::move(started.error()));
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(state)));
}

Endpoint MetricsServer::address() const { return state_->local; }

} // namespace ngmasque::programs
