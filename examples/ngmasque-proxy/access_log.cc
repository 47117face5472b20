#include "access_log.h"

#include "ngmasque/values.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <format>
#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace ngmasque::programs {

namespace {

using Json = nlohmann::ordered_json;

Json TrafficOf(const TunnelStatistics::OneWay &way) {
  std::uint64_t dropped = 0;
  for (const auto packets : way.dropped) {
    dropped += packets;
  }
  return {{"packets", way.passed.packets}, {"bytes", way.passed.bytes}, {"dropped", dropped}};
}

Json DropsOf(const TunnelStatistics &statistics) {
  Json drops = Json::object();
  for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
    std::uint64_t packets = 0;
    for (const auto &way : statistics.ways) {
      packets += way.dropped[reason];
    }
    if (packets > 0) {
      drops[std::string(ReasonName(DropReason(reason)))] = packets;
    }
  }
  return drops;
}

std::uint64_t Now() {
  return std::uint64_t(std::chrono::steady_clock::now().time_since_epoch().count());
}

} // namespace

std::string AccessLine(const TunnelRecord &record, std::int64_t time, std::uint64_t left_out) {
  const std::chrono::sys_time<std::chrono::milliseconds> at{std::chrono::milliseconds(time)};
  Json line;
  line["time"] = std::format("{:%FT%T}Z", at);
  line["event"] = record.error ? "refused" : "tunnel";
  line["client"] = EndpointText(record.client);
  line["user"] = record.user.empty() ? Json(nullptr) : Json(record.user);
  line["connection"] = std::to_underlying(record.connection);
  line["dialect"] = record.dialect.empty() ? Json(nullptr) : Json(record.dialect);
  line["target"] = record.authority ? Json(AuthorityText(*record.authority)) : Json(nullptr);
  line["status"] = record.status;
  if (record.error) {
    line["error"] = ErrorName(*record.error);
  } else {
    line["address"] = record.target ? Json(EndpointText(*record.target)) : Json(nullptr);
    line["tunnel"] = record.number;
    line["seconds"] = double(record.duration) / 1e9;
    line["end"] = ReasonName(record.reason);
    const auto &ways = record.statistics;
    line["to_target"] = {{"tunnelled", TrafficOf(ways[Way::kTunnelledToTarget])},
                         {"forwarded", TrafficOf(ways[Way::kForwardedToTarget])}};
    line["to_client"] = {{"tunnelled", TrafficOf(ways[Way::kTunnelledToClient])},
                         {"forwarded", TrafficOf(ways[Way::kForwardedToClient])}};
    line["drops"] = DropsOf(ways);
  }
  if (left_out > 0) {
    line["left_out"] = left_out;
  }
  // Names come from peers: what is no UTF-8 is replaced, and nothing throws.
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

AccessLog::~AccessLog() { Use(-1); }

std::expected<int, std::string> AccessLog::Open(const std::filesystem::path &file) {
  if (file.empty()) {
    return -1;
  }
  // Who used what is not everybody's to read.  A pipe without a reader is an error, and one that is
  // full loses lines instead of keeping the proxy waiting.
  const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
  if (fd == -1) {
    return std::unexpected(std::format("{}: {}", file.string(), std::strerror(errno)));
  }
  return fd;
}

void AccessLog::Use(int fd) {
  if (fd_ != -1) {
    ::close(fd_);
  }
  fd_ = fd;
}

void AccessLog::Write(const TunnelRecord &record) {
  const bool stranger = record.error && record.user.empty();
  if (fd_ == -1 || (stranger && !strangers_.Take(Now()))) {
    return;
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto line =
    AccessLine(record, std::chrono::duration_cast<std::chrono::milliseconds>(now).count(),
               strangers_.TakeLeftOut());
  // In one piece, so that lines of other processes do not get into it.
  const auto written = ::write(fd_, line.data(), line.size());
  if (written == ssize_t(line.size())) {
    return;
  }
  ++lost_;
  if (const auto end = lost_lines_.Take(Now())) {
    log_.Warning(std::format("a line of the access log is lost: {}{}",
                             written == -1 ? std::strerror(errno) : "the disk is full", *end));
  }
}

} // namespace ngmasque::programs
