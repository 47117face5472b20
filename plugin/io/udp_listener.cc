#include "ngmasque/io/udp_listener.h"

#include "batch_reader.h"
#include "common.h"
#include "listener_socket.h"
#include "socket_error.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <format>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <ev.h>
#include <unistd.h>

namespace ngmasque {

namespace {

std::size_t PacketsOf(std::span<const std::uint8_t> data, std::size_t segment) {
  return std::max((data.size() + segment - 1) / segment, std::size_t{1});
}

} // namespace

struct UdpListener::State {
  struct Socket {
    Socket() = default;
    ~Socket() {
      if (fd != -1) {
        ::close(fd);
      }
    }
    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;

    State *state = nullptr;
    int fd = -1;
    Endpoint local;
    bool wildcard = false;
    SendExtras extras;
    ev_io readable{};
    ev_io writable{}; // Active as long as `kept` waits.
    // Of one burst that the full socket did not take: at most what there is of a burst.
    OutgoingBurst kept;
    std::vector<std::uint8_t> kept_bytes;
  };

  State(struct ev_loop *l, Options o, Handler &h)
    : loop(l), options(std::move(o)), handler(h) {}
  ~State();

  void Add(const ListenerSocket &bound);

  static void OnReadable(struct ev_loop *loop, ev_io *watcher, int events);
  static void OnWritable(struct ev_loop *loop, ev_io *watcher, int events);
  void Read(Socket &socket);
  void Split(const Socket &socket, const ReceivedBurst &burst, Nanoseconds now);

  Socket *Find(const Endpoint &local) const;
  // Counts and logs, but for drops.
  SendOutcome SendOnce(Socket &socket, FourTuple path, const Burst &burst);
  // Returns what is left because the socket is full.
  std::span<const std::uint8_t> SendNow(Socket &socket, const OutgoingBurst &burst);
  void Drop(DropReason reason, std::size_t packets, std::string_view what);

  struct ev_loop *loop;
  Options options;
  Handler &handler;
  std::vector<std::unique_ptr<Socket>> sockets; // One for each of Options::addresses.
  BatchReader reader;
  Statistics statistics;
  std::array<LogLimit, kDropReasons> drop_lines;
  LogLimit read_lines;
  std::set<std::string> gave_up; // What has been logged of SendOutcome::gave_up, a few texts.
};

UdpListener::State::~State() {
  for (const auto &socket : sockets) {
    ev_io_stop(loop, &socket->readable);
    ev_io_stop(loop, &socket->writable);
  }
}

void UdpListener::State::Add(const ListenerSocket &bound) {
  auto socket = std::make_unique<Socket>();
  socket->state = this;
  socket->fd = bound.fd;
  socket->local = bound.local;
  socket->wildcard = bound.wildcard;
  ev_io_init(&socket->readable, OnReadable, socket->fd, EV_READ);
  ev_io_init(&socket->writable, OnWritable, socket->fd, EV_WRITE);
  socket->readable.data = socket->writable.data = socket.get();
  ev_io_start(loop, &socket->readable);
  sockets.push_back(std::move(socket));
}

void UdpListener::State::OnReadable(struct ev_loop *, ev_io *watcher, int) {
  auto &socket = *static_cast<Socket *>(watcher->data);
  socket.state->Read(socket);
}

// Once: the loop calls again if more is there, after others have had their turn.
void UdpListener::State::Read(Socket &socket) {
  ++statistics.received.calls;
  const auto got = reader.Read(socket.fd, false);
  if (!got) {
    if (const auto end = got.error().system != EAGAIN && options.log
                           ? read_lines.Take(SteadyNow())
                           : std::nullopt) {
      options.log(LogLevel::kWarning, std::format("{}: {}{}", ToText(socket.local),
                                                  std::strerror(got.error().system), *end));
    }
    return;
  }
  const auto now = SteadyNow();
  for (const auto &burst : *got) {
    Split(socket, burst, now);
  }
  handler.OnBatchEnd(now);
}

void UdpListener::State::Split(const Socket &socket, const ReceivedBurst &burst, Nanoseconds now) {
  const auto packets = PacketsOf(burst.data, burst.segment);
  statistics.received.packets += packets;
  statistics.received.bytes += burst.data.size();
  // Port 0 is nobody's: what is sent there is refused by the system.
  if (burst.remote.port == 0) {
    Drop(DropReason::kWrongSource, packets, "received from port 0");
    return;
  }
  FourTuple path{.local = socket.local, .remote = burst.remote};
  if (socket.wildcard) {
    path.local = burst.local;
    path.local.port = socket.local.port;
  }
  auto rest = burst.data;
  do {
    const auto packet = rest.first(std::min(burst.segment, rest.size()));
    rest = rest.subspan(packet.size());
    handler.OnPacket(path, burst.ecn, packet, now);
  } while (!rest.empty());
}

UdpListener::State::Socket *UdpListener::State::Find(const Endpoint &local) const {
  Socket *found = nullptr;
  for (const auto &socket : sockets) {
    if (socket->local == local) {
      return socket.get();
    }
    if (socket->wildcard && socket->local.port == local.port &&
        IsIpv4(socket->local) == IsIpv4(local)) {
      found = socket.get();
    }
  }
  return found;
}

SendOutcome UdpListener::State::SendOnce(Socket &socket, FourTuple path, const Burst &burst) {
  if (!socket.wildcard) {
    path.local = {}; // It is the only one.
  }
  auto outcome = SendOn(socket.fd, path, burst, socket.extras);
  statistics.sent.calls += outcome.calls;
  if (IsNews(outcome, gave_up) && options.log) {
    options.log(LogLevel::kWarning, std::format("{}: {}", ToText(socket.local), outcome.gave_up));
  }
  const auto left = outcome.sent ? 0 : PacketsOf(outcome.rest, burst.segment);
  statistics.sent.packets += PacketsOf(burst.data, burst.segment) - left;
  statistics.sent.bytes += burst.data.size() - (outcome.sent ? 0 : outcome.rest.size());
  return outcome;
}

std::span<const std::uint8_t> UdpListener::State::SendNow(Socket &socket,
                                                          const OutgoingBurst &burst) {
  auto rest = burst.data;
  // An error is about the full-sized ones: a shorter one at the end may leave all the same.
  for (bool again = true; again;) {
    again = false;
    const auto segment = std::max(burst.segment, std::size_t{1});
    const auto outcome =
      SendOnce(socket, burst.path, {.data = rest, .segment = segment, .ecn = burst.ecn});
    if (outcome.sent) {
      return {};
    }
    if (outcome.error == 0) {
      // An empty payload that waits could not be told from none, and is worth nothing.
      if (outcome.rest.empty()) {
        Drop(DropReason::kBlocked, 1, "to be sent");
      }
      return outcome.rest;
    }
    const auto reason = ToDropReason(outcome.error);
    const auto left = PacketsOf(outcome.rest, segment);
    const auto last = outcome.rest.size() % segment;
    again = last > 0 && outcome.rest.size() > segment && reason != DropReason::kUnreachable;
    Drop(reason, again ? left - 1 : left, "to be sent");
    rest = outcome.rest.last(last);
  }
  return {};
}

void UdpListener::State::Drop(DropReason reason, std::size_t packets, std::string_view what) {
  const auto index = static_cast<std::size_t>(reason);
  statistics.dropped[index] += packets;
  if (!options.log) {
    return;
  }
  if (const auto end = drop_lines[index].Take(SteadyNow())) {
    options.log(LogLevel::kWarning,
                std::format("packets {} are dropped: {}{}", what, ReasonName(reason), *end));
  }
}

void UdpListener::State::OnWritable(struct ev_loop *loop, ev_io *watcher, int) {
  auto &socket = *static_cast<Socket *>(watcher->data);
  socket.kept.data = socket.state->SendNow(socket, socket.kept);
  if (socket.kept.data.empty()) {
    ev_io_stop(loop, watcher);
    socket.state->handler.OnWritable();
  }
}

UdpListener::UdpListener(std::unique_ptr<State> state) : state_(std::move(state)) {}
UdpListener::~UdpListener() = default;

std::expected<std::unique_ptr<UdpListener>, IoError>
UdpListener::Create(struct ev_loop *loop, Options options, Handler &handler) {
  if (options.addresses.empty() && options.sockets.empty()) {
    return std::unexpected(IoError(IoError::kArgument));
  }
  auto state = std::make_unique<State>(loop, std::move(options), handler);
  std::optional<IoError> error;
  const auto add = [&](std::expected<ListenerSocket, IoError> made) {
    if (made) {
      state->Add(*made);
    } else if (!error) {
      error = std::move(made.error());
    }
  };
  for (const auto &address : state->options.addresses) {
    add(BindListenerSocket(address, state->options));
  }
  // All of them, whatever happens, as they are the listener's.
  for (const int fd : state->options.sockets) {
    add(AdoptListenerSocket(fd, state->options));
  }
  if (error) {
    return std::unexpected(*std::move(error));
  }
  return std::unique_ptr<UdpListener>(new UdpListener(std::move(state)));
}

std::vector<Endpoint> UdpListener::addresses() const {
  std::vector<Endpoint> bound;
  for (const auto &socket : state_->sockets) {
    bound.push_back(socket->local);
  }
  return bound;
}

bool UdpListener::Send(const OutgoingBurst &burst) {
  auto *socket = state_->Find(burst.path.local);
  const auto packets = PacketsOf(burst.data, std::max(burst.segment, std::size_t{1}));
  if (!socket) {
    state_->Drop(DropReason::kUnknownSocket, packets, "to be sent");
    return true;
  }
  if (ev_is_active(&socket->writable)) {
    state_->Drop(DropReason::kBlocked, packets, "to be sent");
    return false;
  }
  const auto left = state_->SendNow(*socket, burst);
  if (left.empty()) {
    return true;
  }
  socket->kept = burst;
  socket->kept_bytes.assign(left.begin(), left.end());
  socket->kept.data = socket->kept_bytes;
  ev_io_start(state_->loop, &socket->writable);
  return false;
}

SendOutcome UdpListener::Forward(const FourTuple &path, const Burst &packets) {
  auto *socket = state_->Find(path.local);
  if (!socket || ev_is_active(&socket->writable)) {
    return {.rest = packets.data, .error = socket ? 0 : EBADF};
  }
  return state_->SendOnce(*socket, path, packets);
}

bool UdpListener::waiting() const {
  return std::ranges::any_of(state_->sockets,
                             [](const auto &socket) { return ev_is_active(&socket->writable); });
}

const UdpListener::Statistics &UdpListener::statistics() const { return state_->statistics; }

} // namespace ngmasque
