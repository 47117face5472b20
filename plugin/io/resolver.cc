#include "ngmasque/io/resolver.h"

#include "ngmasque/quic/socket_address.h"

#include <ares.h>
#include <arpa/inet.h>
#include <ev.h>
#include <sys/time.h>

#include <map>
#include <utility>

namespace ngmasque {

namespace {

// Why there is no address.
SessionError ErrorOf(int status) {
  switch (status) {
  case ARES_ENOTFOUND:
  case ARES_ENODATA:
  case ARES_EBADNAME: return SessionError::kNoName;
  case ARES_ETIMEOUT: return SessionError::kLookupTimeout;
  default: return SessionError::kNoAddress;
  }
}

} // namespace

struct Resolver::State {
  explicit State(struct ev_loop *l) : loop(l) {}
  ~State();

  static void OnSocketState(void *data, ares_socket_t fd, int readable, int writable);
  static void OnReady(struct ev_loop *loop, ev_io *watcher, int events);
  static void OnTimeout(struct ev_loop *loop, ev_timer *watcher, int events);
  static void OnAnswer(void *data, int status, int timeouts, ares_addrinfo *answer);

  // To be called after everything that c-ares has done: its next timeout may have changed.
  void SetTimer();

  struct ev_loop *loop;
  ares_channel channel = nullptr;
  ev_timer timer{};
  std::map<ares_socket_t, ev_io> watchers; // At most two for each server in resolv.conf.
};

Resolver::State::~State() {
  if (channel) {
    ares_destroy(channel); // It calls OnAnswer and OnSocketState.
  }
  for (auto &[fd, watcher] : watchers) {
    ev_io_stop(loop, &watcher);
  }
  ev_timer_stop(loop, &timer);
}

void Resolver::State::OnSocketState(void *data, ares_socket_t fd, int readable, int writable) {
  auto &state = *static_cast<State *>(data);
  if (const auto known = state.watchers.find(fd); known != state.watchers.end()) {
    ev_io_stop(state.loop, &known->second);
    state.watchers.erase(known);
  }
  if (readable || writable) {
    auto &watcher = state.watchers[fd];
    ev_io_init(&watcher, OnReady, fd, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    watcher.data = data;
    ev_io_start(state.loop, &watcher);
  }
}

void Resolver::State::OnReady(struct ev_loop *, ev_io *watcher, int events) {
  auto &state = *static_cast<State *>(watcher->data);
  const auto fd = watcher->fd; // The watcher may go away meanwhile.
  ares_process_fd(state.channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
                  events & EV_WRITE ? fd : ARES_SOCKET_BAD);
  state.SetTimer();
}

void Resolver::State::OnTimeout(struct ev_loop *, ev_timer *watcher, int) {
  auto &state = *static_cast<State *>(watcher->data);
  ares_process_fd(state.channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  state.SetTimer();
}

void Resolver::State::SetTimer() {
  timeval buffer{};
  const auto *left = ares_timeout(channel, nullptr, &buffer);
  if (!left) {
    ev_timer_stop(loop, &timer);
    return;
  }
  timer.repeat = static_cast<double>(left->tv_sec) + static_cast<double>(left->tv_usec) / 1e6 + 1e-3;
  ev_timer_again(loop, &timer);
}

void Resolver::State::OnAnswer(void *data, int status, int, ares_addrinfo *answer) {
  const std::unique_ptr<Done> done(static_cast<Done *>(data));
  const std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> owner(answer,
                                                                           ares_freeaddrinfo);
  if (status == ARES_EDESTRUCTION) {
    return;
  }
  std::vector<Endpoint> found;
  if (status == ARES_SUCCESS) {
    for (const auto *node = answer->nodes; node; node = node->ai_next) {
      if (const auto endpoint = ToEndpoint(node->ai_addr)) {
        found.push_back(*endpoint);
      }
    }
  }
  if (!found.empty()) {
    (*done)(std::move(found));
  } else {
    (*done)(std::unexpected(ErrorOf(status)));
  }
}

Resolver::Resolver(std::unique_ptr<State> state) : state_(std::move(state)) {}
Resolver::~Resolver() = default;

std::unique_ptr<Resolver> Resolver::Create(struct ev_loop *loop, Names names) {
  // Initialising it more than once, and never cleaning up, costs nothing on this system.
  if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
    return nullptr;
  }
  auto state = std::make_unique<State>(loop);
  ev_init(&state->timer, State::OnTimeout);
  state->timer.data = state.get();

  ares_options options{};
  options.flags = ARES_FLAG_NOALIASES | (names == Names::kSearch ? 0 : ARES_FLAG_NOSEARCH);
  options.timeout = kTimeoutMs;
  options.tries = kTries;
  options.sock_state_cb = State::OnSocketState;
  options.sock_state_cb_data = state.get();
  if (ares_init_options(&state->channel, &options,
                        ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                          ARES_OPT_SOCK_STATE_CB) != ARES_SUCCESS) {
    return nullptr;
  }
  return std::unique_ptr<Resolver>(new Resolver(std::move(state)));
}

void Resolver::Lookup(const std::string &host, Done done) {
  // As everywhere on this system, `127.2`, `0x7f000002` and `2130706434` are IPv4 addresses.
  sockaddr_in literal{};
  if (inet_aton(host.c_str(), &literal.sin_addr) != 0) {
    literal.sin_family = AF_INET;
    done(std::vector{*ToEndpoint(reinterpret_cast<const sockaddr *>(&literal))});
    return;
  }
  ares_addrinfo_hints hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  ares_getaddrinfo(state_->channel, host.c_str(), nullptr, &hints, State::OnAnswer,
                   new Done(std::move(done)));
  state_->SetTimer();
}

} // namespace ngmasque
