// What it costs to find the owner of a packet: one table of plugin/routing with 1, 1,000 and
// 100,000 connection IDs of one or of several lengths.  Run by hand; nothing depends on it.
//
//     ninja -C build tests/unit/routing-bench && build/tests/unit/routing-bench
//
// It prints nanoseconds per look-up, of packets in random order, the best of 25 rounds:
//
//     hit     the packet's connection ID is there
//     miss    it is not: exactly one hash probe for each length in use
//     exact   a long header, which says how long the ID is
//     insert  the check for conflicts and all that belongs to a new mapping
//
// Look-ups in a large table wait for memory more than they compute.  Instructions per look-up do
// not depend on what else the machine does:
//
//     valgrind --tool=callgrind --toggle-collect='MeasuredLookUps*' --callgrind-out-file=/dev/null
//       build/tests/unit/routing-bench --ids=100000 --lengths=3 --look-ups=100000 [--miss]
//
// "Collected" divided by the number of look-ups is the result; about ten of that is this program's
// own loop.

#include "ngmasque/routing/connection_id_table.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <span>
#include <tuple>
#include <string_view>
#include <vector>

namespace {

using ngmasque::ConnectionId;
using Table = ngmasque::ConnectionIdTable<const void *>;
using Packet = std::array<std::uint8_t, 32>; // What follows the first byte.

// Of gtlsserver, of servers that use as few as possible, and others; the first ones are used.
constexpr std::size_t kLengths[] = {18, 8, 20, 4, 17, 16, 12, 10};

struct Scene {
  Scene(std::size_t count, std::size_t lengths, std::size_t look_ups)
    : table({.k0 = 1, .k1 = 2}, {.max_ids = count}) {
    std::mt19937_64 random(1);
    while (ids.size() < count) {
      const auto bytes = Draw(random);
      const auto id = *ConnectionId::From(std::span(bytes).first(kLengths[ids.size() % lengths]));
      if (table.Check(id)) {
        ids.push_back(id);
        std::ignore = table.Insert(id, this);
      }
    }
    for (std::size_t i = 0; i < look_ups; ++i) {
      auto packet = Draw(random);
      while (table.Find(packet)) { // Four bytes are found by chance.
        packet = Draw(random);
      }
      misses.push_back(packet);
      const auto id = ids[random() % count].bytes();
      sizes.push_back(id.size());
      std::ranges::copy(id, packet.begin());
      hits.push_back(packet);
    }
  }

  static Packet Draw(std::mt19937_64 &random) {
    Packet bytes;
    std::ranges::generate(bytes, [&] { return static_cast<std::uint8_t>(random()); });
    return bytes;
  }

  Table table;
  std::vector<ConnectionId> ids;
  std::vector<Packet> hits, misses;
  std::vector<std::size_t> sizes; // Of the IDs in hits.
};

} // namespace

// Not static and not inlined, for callgrind.
[[gnu::noinline]] std::size_t MeasuredLookUps(const Table &table, std::span<const Packet> packets) {
  std::size_t found = 0;
  for (const auto &packet : packets) {
    found += table.Find(packet) != nullptr;
  }
  return found;
}

namespace {

constexpr int kRounds = 25;

// Nanoseconds for each of `count`.
double Time(std::size_t count, auto &&work) {
  auto best = std::chrono::nanoseconds::max();
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min<std::chrono::nanoseconds>(best, std::chrono::steady_clock::now() - start);
  }
  return static_cast<double>(best.count()) / static_cast<double>(count);
}

void Require(bool condition) {
  if (!condition) {
    std::fputs("routing-bench: a look-up gave a wrong answer\n", stderr);
    std::exit(1);
  }
}

void Row(std::size_t count, std::size_t lengths) {
  constexpr std::size_t kLookUps = 20'000;
  const Scene scene(count, lengths, kLookUps);
  const auto hit =
    Time(kLookUps, [&] { Require(MeasuredLookUps(scene.table, scene.hits) == kLookUps); });
  const auto miss =
    Time(kLookUps, [&] { Require(MeasuredLookUps(scene.table, scene.misses) == 0); });
  const auto exact = Time(kLookUps, [&] {
    std::size_t found = 0;
    for (std::size_t i = 0; i < kLookUps; ++i) {
      const auto id = std::span(scene.hits[i]).first(scene.sizes[i]);
      found += scene.table.FindExact(id) != nullptr;
    }
    Require(found == kLookUps);
  });
  // With the time to take it all down again.
  const auto insert = Time(count, [&] {
    Table table({.k0 = 1, .k1 = 2}, {.max_ids = count});
    for (const auto &id : scene.ids) {
      Require(table.Insert(id, nullptr).has_value());
    }
  });
  std::uint64_t probes = 0;
  std::ignore = scene.table.Find(scene.misses.front(), &probes);
  std::printf("%9zu %9zu %9llu %9.1f %9.1f %9.1f %9.1f\n", count, scene.table.lengths(),
              static_cast<unsigned long long>(probes), hit, miss, exact, insert);
  std::fflush(stdout);
}

std::optional<std::size_t> Value(std::string_view argument, std::string_view option) {
  std::size_t value = 0;
  if (!argument.starts_with(option)) {
    return std::nullopt;
  }
  argument.remove_prefix(option.size());
  const auto [end, error] =
    std::from_chars(argument.data(), argument.data() + argument.size(), value);
  if (error != std::errc() || end != argument.data() + argument.size() || value == 0 ||
      value > 10'000'000) {
    return std::nullopt;
  }
  return value;
}

} // namespace

int main(int argc, char **argv) {
  std::size_t ids = 1'000, lengths = 3, look_ups = 0;
  bool miss = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (const auto n = Value(argument, "--ids=")) {
      ids = *n;
    } else if (const auto l = Value(argument, "--lengths="); l && *l <= std::size(kLengths)) {
      lengths = *l;
    } else if (const auto k = Value(argument, "--look-ups=")) {
      look_ups = *k;
    } else if (argument == "--miss") {
      miss = true;
    } else {
      std::fprintf(stderr,
                   "routing-bench: bad argument '%s'; usage: routing-bench [--look-ups=N "
                   "[--ids=N] [--lengths=1..%zu] [--miss]]\n",
                   argv[i], std::size(kLengths));
      return 2;
    }
  }
  if (look_ups != 0) {
    const Scene scene(ids, lengths, look_ups);
    const auto found = MeasuredLookUps(scene.table, miss ? scene.misses : scene.hits);
    std::printf("%zu of %zu found\n", found, look_ups);
    return 0;
  }

  std::puts("      IDs   lengths    probes   hit, ns  miss, ns exact, ns insert,ns");
  for (const std::size_t count : {1, 1'000, 100'000}) {
    for (const std::size_t l : {1, 3, 8}) {
      if (l <= count) {
        Row(count, l);
      }
    }
  }
  return 0;
}
