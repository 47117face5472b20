#include "status.h"

#include <algorithm>
#include <format>
#include <ranges>
#include <utility>
#include <vector>

namespace ngmasque::programs {

namespace {

std::uint64_t Packets(const TargetStatistics &target) {
  const auto &[tunnelled_tx, tunnelled_rx, forwarded_tx, forwarded_rx, on_tx, on_rx, drops,
               fallbacks] = target.traffic;
  return tunnelled_tx.packets + tunnelled_rx.packets + forwarded_tx.packets + forwarded_rx.packets;
}

std::string Bytes(std::uint64_t bytes) {
  constexpr std::string_view kUnits = "kMGT";
  if (bytes < 1000) {
    return std::format("{} B", bytes);
  }
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (value /= 1000; value >= 999.5 && unit + 1 < kUnits.size(); value /= 1000) {
    ++unit;
  }
  return std::format("{:.{}f} {}B", value, value < 9.95 ? 1 : 0, kUnits[unit]);
}

std::string Way(const Traffic &traffic) {
  return std::format("{:>8} {:>8}", traffic.packets, Bytes(traffic.bytes));
}

std::string ToJson(const Traffic &traffic) {
  return std::format(R"({{"packets":{},"bytes":{},"long_headers":{}}})", traffic.packets,
                     traffic.bytes, traffic.long_headers);
}

// Texts of ours, and of a proxy in what it answers.
std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      quoted += std::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

// Those that are not 0.
template <typename Reason> std::string Counts(const auto &counts) {
  std::string text;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] != 0) {
      text += std::format("{}{}:{}", text.empty() ? "" : ",",
                          Quoted(ReasonName(static_cast<Reason>(i))), counts[i]);
    }
  }
  return "{" + text + "}";
}

std::string ToJson(const TargetStatistics &target) {
  const auto &traffic = target.traffic;
  return std::format(
    R"({{"tunnels":{},"open":{},"plain":{},"not_sent":{},"unseen_to_target":{},)"
    R"("unseen_to_client":{},"tunnelled_tx":{},"tunnelled_rx":{},"forwarded_tx":{},)"
    R"("forwarded_rx":{},"on_stream_tx":{},"on_stream_rx":{},"dropped":{},"fallbacks":{}}})",
    target.tunnels, target.open, target.plain, target.not_sent, target.unseen_to_target,
    target.unseen_to_client, ToJson(traffic.tunnelled_tx), ToJson(traffic.tunnelled_rx),
    ToJson(traffic.forwarded_tx), ToJson(traffic.forwarded_rx), traffic.on_stream_tx,
    traffic.on_stream_rx, Counts<DropReason>(traffic.dropped), Counts<Fallback>(traffic.fallbacks));
}

} // namespace

TargetStatistics Status::total() const {
  TargetStatistics sum;
  for (const auto &[name, target] : targets) {
    sum += target;
  }
  return sum;
}

std::string StatusLine(const Status &status) {
  const auto sum = status.total();
  const auto &[tunnelled_tx, tunnelled_rx, forwarded_tx, forwarded_rx, on_tx, on_rx, drops,
               fallbacks] = sum.traffic;
  return std::format(
    "{}; {} tunnels; tunnelled {} packets ({}) to targets, {} ({}) back; forwarded {} "
    "({}) and {} ({}); not sent {}; connection IDs that cannot be seen {} and {}",
    status.proxy, sum.open, tunnelled_tx.packets, Bytes(tunnelled_tx.bytes), tunnelled_rx.packets,
    Bytes(tunnelled_rx.bytes), forwarded_tx.packets, Bytes(forwarded_tx.bytes),
    forwarded_rx.packets, Bytes(forwarded_rx.bytes), sum.not_sent + status.dropped,
    sum.unseen_to_target, sum.unseen_to_client);
}

std::string StatusTable(const Status &status, std::size_t rows, std::size_t columns) {
  std::vector<std::pair<std::string, TargetStatistics>> targets(status.targets.begin(),
                                                                status.targets.end());
  std::ranges::sort(
    targets, [](const auto &a, const auto &b) { return Packets(a.second) > Packets(b.second); });
  std::vector<std::string> lines{status.proxy, StatusLine(status).substr(status.proxy.size() + 2)};
  lines.push_back(std::format("{:<28} {:>4} {:>17} {:>17} {:>17} {:>17} {:>8}", "target", "open",
                              "tunnelled to", "and from", "forwarded to", "and from", "unseen"));
  const auto kept = rows > lines.size() + 1 ? rows - lines.size() - 1 : 0;
  for (const auto &[name, target] : targets | std::views::take(kept)) {
    const auto &traffic = target.traffic;
    lines.push_back(std::format("{:<28.28} {:>4} {} {} {} {} {:>8}", name, target.open,
                                Way(traffic.tunnelled_tx), Way(traffic.tunnelled_rx),
                                Way(traffic.forwarded_tx), Way(traffic.forwarded_rx),
                                target.unseen_to_target + target.unseen_to_client));
  }
  std::string text;
  for (const auto &line : lines | std::views::take(rows)) {
    text += line.substr(0, columns) + "\n";
  }
  return text;
}

std::string StatusJson(const Status &status) {
  std::string targets;
  for (const auto &[name, target] : status.targets) {
    targets += std::format("{}{}:{}", targets.empty() ? "" : ",", Quoted(name), ToJson(target));
  }
  return std::format(
    R"({{"proxy":{},"connections":{},"moves":{},"server_migrations":{},"peers":{},)"
    R"("associations":{},"dropped":{},"total":{},"targets":{{{}}}}})"
    "\n",
    Quoted(status.proxy), status.connections, status.moves, status.server_migrations, status.peers,
    status.associations, status.dropped, ToJson(status.total()), targets);
}

} // namespace ngmasque::programs
