// Sends numbered datagrams with their time through whatever stands between ENTRY and TARGET,
// receives them at the other end, and prints as one JSON object how many came and after which time.
//
//     udp-load ENTRY TARGET up|down SIZE RATE|max COUNT SECONDS
//
// `up` is from a socket that is connected to ENTRY to one that is bound to TARGET, `down` the way
// back.  SIZE is in bytes (16 to 1472).  At most COUNT datagrams are sent, in at most SECONDS: RATE
// a second, in batches every half of a millisecond; with `max` as fast as they arrive, so that no
// more than kWindow are on their way.  Without that bound the sender would measure what queues throw
// away.  Both ends are one thread, so the times are of one clock, and the program takes one core at
// most.
#include "socket.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/uio.h>

namespace {

using Clock = std::chrono::steady_clock;
using Microseconds = std::chrono::duration<double, std::micro>;
using namespace std::chrono_literals;

// Default receive buffers of Linux take that many datagrams of 1200 bytes, but not 100.
constexpr std::uint64_t kWindow = 64;
constexpr std::size_t kBatch = 64;
constexpr auto kTick = 500us;
// With `max`, what has not come after so long without any other is lost.
constexpr auto kLost = 20ms;
// So long nothing comes at the end, and it is over.
constexpr auto kSilence = 500ms;
constexpr auto kHelloEvery = 20ms;
constexpr auto kHelloFor = 30s;
constexpr std::size_t kMaxSize = 1472;
constexpr int kReceiveBuffer = 4 << 20;

struct Header {
  std::uint64_t number;
  std::int64_t time; // of Clock
};
// Not counted: finds out whether there is a way, and makes it.
constexpr auto kHello = ~std::uint64_t{0};

struct Load {
  std::size_t size;
  std::optional<std::uint64_t> rate; // none: as fast as they arrive
  std::uint64_t count;
  std::chrono::duration<double> seconds;
};

// Datagrams of one size that one system call sends or receives.
class Batch {
public:
  explicit Batch(std::size_t size) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      data_[i] = {.iov_base = bytes_[i].data(), .iov_len = size};
      messages_[i].msg_hdr.msg_iov = &data_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  // The datagrams first, first + 1, ...; false for an error that is no loss.
  bool Send(int fd, std::uint64_t first, std::size_t count) {
    for (std::size_t done = 0; done < count;) {
      const auto now = Clock::now().time_since_epoch().count();
      for (std::size_t i = done; i < count; ++i) {
        const Header header{first + i, now};
        std::memcpy(bytes_[i].data(), &header, sizeof header);
      }
      const auto sent = sendmmsg(fd, &messages_[done], static_cast<unsigned>(count - done), 0);
      if (sent < 0 && !relays::Passing(errno)) {
        return relays::Complain("sendmmsg");
      }
      // One that was refused is lost.
      done += sent < 0 ? 1 : static_cast<std::size_t>(sent);
    }
    return true;
  }

  // What is there, without waiting; null for an error.
  std::optional<std::size_t> Receive(int fd) {
    const auto got = recvmmsg(fd, messages_.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (got >= 0) {
      return static_cast<std::size_t>(got);
    }
    if (relays::Passing(errno)) {
      return 0;
    }
    relays::Complain("recvmmsg");
    return std::nullopt;
  }
  // Of what was received; none if it is too short to be ours.
  std::optional<Header> At(std::size_t i) const {
    if (messages_[i].msg_len < sizeof(Header)) {
      return std::nullopt;
    }
    Header header;
    std::memcpy(&header, bytes_[i].data(), sizeof header);
    return header;
  }

private:
  std::array<std::array<std::uint8_t, kMaxSize>, kBatch> bytes_{};
  std::array<iovec, kBatch> data_;
  std::array<mmsghdr, kBatch> messages_{};
};

bool Wait(int fd, Clock::duration time) {
  const auto ns = std::max<std::int64_t>(0, std::chrono::nanoseconds(time).count());
  const timespec limit{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
  pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
  return ppoll(&waiting, 1, &limit, nullptr) > 0;
}

// Says hello through `near` until it is answered from `far`, which is connected then.
bool Greet(relays::Socket &near, relays::Socket &far, std::size_t size) {
  std::array<std::uint8_t, kMaxSize> hello{}, received;
  std::memcpy(hello.data(), &kHello, sizeof kHello);
  const auto until = Clock::now() + kHelloFor;
  for (bool connected = false; Clock::now() < until;) {
    // Refused as long as nobody listens there.
    if (send(near.fd(), hello.data(), size, 0) < 0 && !relays::Passing(errno)) {
      return relays::Complain("send");
    }
    if (!Wait(far.fd(), kHelloEvery)) {
      continue;
    }
    sockaddr_in source{};
    socklen_t length = sizeof source;
    if (recvfrom(far.fd(), received.data(), received.size(), MSG_DONTWAIT,
                 reinterpret_cast<sockaddr *>(&source), &length) < 0) {
      continue;
    }
    if (!connected && !far.Connect(source)) {
      return false;
    }
    connected = true;
    send(far.fd(), hello.data(), size, 0);
    if (Wait(near.fd(), kHelloEvery) &&
        recv(near.fd(), received.data(), received.size(), MSG_DONTWAIT) > 0) {
      return true;
    }
  }
  std::fprintf(stderr, "nothing comes through\n");
  return false;
}

class Run {
public:
  Run(const Load &load, int from, int to)
    : load_(load), from_(from), to_(to), sending_(load.size), receiving_(kMaxSize),
      seen_(load.count) {}

  bool operator()() {
    began_ = last_ = Clock::now();
    while (!Done()) {
      if (!SendDue() || !Receive()) {
        return false;
      }
    }
    return true;
  }

  void Print() {
    std::ranges::sort(latencies_);
    const auto quantile = [&](double share) {
      const auto last = static_cast<double>(latencies_.size() - 1);
      return latencies_[static_cast<std::size_t>(share * last)];
    };
    std::printf("{\"sent\": %llu, \"received\": %zu, \"seconds\": %.9f",
                static_cast<unsigned long long>(sent_), latencies_.size(),
                std::chrono::duration<double>(last_ - began_).count());
    if (latencies_.empty()) {
      std::printf(", \"p50_us\": null, \"p99_us\": null}\n");
    } else {
      std::printf(", \"p50_us\": %.1f, \"p99_us\": %.1f}\n", quantile(0.5), quantile(0.99));
    }
  }

private:
  bool Sending() const {
    return sent_ < load_.count && Clock::now() - began_ < load_.seconds;
  }
  bool Done() const {
    return !Sending() && (latencies_.size() == sent_ || Clock::now() - last_ > kSilence);
  }

  // How many may go now.
  std::uint64_t Due() const {
    if (!Sending()) {
      return 0;
    }
    if (!load_.rate) {
      // In halves of the window, so that a system call is worth it
      const auto on_their_way = sent_ - gone_;
      return on_their_way <= kWindow / 2 ? kWindow - on_their_way : 0;
    }
    const std::chrono::duration<double> since = Clock::now() - began_ + kTick;
    return static_cast<std::uint64_t>(since.count() * static_cast<double>(*load_.rate)) - sent_;
  }

  bool SendDue() {
    if (load_.rate && Clock::now() < next_) {
      return true;
    }
    next_ = Clock::now() + kTick;
    for (auto due = std::min(Due(), load_.count - sent_); due;) {
      const auto count = std::min<std::uint64_t>(due, kBatch);
      if (!sending_.Send(from_, sent_, count)) {
        return false;
      }
      sent_ += count;
      due -= count;
    }
    return true;
  }

  bool Receive() {
    const auto patience = !Sending() ? kSilence + 1ms : load_.rate ? next_ - Clock::now() : kLost;
    if (!Wait(to_, patience)) {
      gone_ = sent_;
      return true;
    }
    const auto got = receiving_.Receive(to_);
    if (!got) {
      return false;
    }
    const auto now = Clock::now();
    for (std::size_t i = 0; i < *got; ++i) {
      const auto header = receiving_.At(i);
      if (!header || header->number >= sent_ || seen_[header->number]) {
        continue;
      }
      seen_[header->number] = true;
      // Nothing overtakes on the way: those before it are lost.
      gone_ = std::max(gone_, header->number + 1);
      const Clock::time_point sent{Clock::duration(header->time)};
      latencies_.push_back(Microseconds(now - sent).count());
      last_ = now;
    }
    return true;
  }

  const Load load_;
  const int from_;
  const int to_;
  Batch sending_;
  Batch receiving_;
  std::vector<bool> seen_;
  std::vector<double> latencies_;
  std::uint64_t sent_ = 0;
  std::uint64_t gone_ = 0; // arrived or lost: all below
  Clock::time_point began_;
  Clock::time_point last_; // arrival
  Clock::time_point next_; // batch
};

std::optional<Load> ParseLoad(std::span<char *> args) {
  const auto size = relays::ParseNumber<std::size_t>(args[0]);
  const auto rate = relays::ParseNumber<std::uint64_t>(args[1]);
  const auto count = relays::ParseNumber<std::uint64_t>(args[2]);
  const auto seconds = relays::ParseNumber<std::uint32_t>(args[3]);
  if (!size || *size < sizeof(Header) || *size > kMaxSize || !count || !*count || !seconds ||
      (!rate && std::string_view(args[1]) != "max") || (rate && !*rate)) {
    return std::nullopt;
  }
  return Load{*size, rate, *count, std::chrono::seconds(*seconds)};
}

} // namespace

int main(int argc, char **argv) {
  const std::span args(argv, static_cast<std::size_t>(argc));
  const auto entry = argc == 8 ? relays::ParseAddress(args[1]) : std::nullopt;
  const auto target = argc == 8 ? relays::ParseAddress(args[2]) : std::nullopt;
  const std::string_view direction = argc == 8 ? args[3] : "";
  const auto load = argc == 8 ? ParseLoad(args.subspan(4)) : std::nullopt;
  if (!entry || !target || (direction != "up" && direction != "down") || !load) {
    std::fprintf(stderr, "usage: udp-load ENTRY TARGET up|down SIZE RATE|max COUNT SECONDS\n");
    return 2;
  }
  relays::Socket near, far;
  // What is lost shall not be lost here.
  if (!near.Set(SOL_SOCKET, SO_RCVBUF, kReceiveBuffer) ||
      !far.Set(SOL_SOCKET, SO_RCVBUF, kReceiveBuffer) || !far.Bind(*target) ||
      !near.Connect(*entry) || !Greet(near, far, load->size)) {
    return 1;
  }
  const bool up = direction == "up";
  Run run(*load, (up ? near : far).fd(), (up ? far : near).fd());
  if (!run()) {
    return 1;
  }
  run.Print();
  return 0;
}
