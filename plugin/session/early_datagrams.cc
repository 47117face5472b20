#include "early_datagrams.h"

#include <algorithm>
#include <utility>

namespace ngmasque {

bool EarlyDatagrams::Keep(TunnelKey id, bool awaited, std::span<const std::uint8_t> payload) {
  //= RFC 9297, section 2.1
  //# If a datagram is received after the corresponding stream's receive side is closed, the
  //# received datagrams MUST be silently dropped.
  if (!awaited && std::ranges::contains(retired_, id)) {
    return false;
  }
  const auto known = flows_.find(id);
  if (known == flows_.end() ? limits_.max_datagrams == 0 || limits_.max_flows == 0
                            : known->second.payloads.size() >= limits_.max_datagrams) {
    return false;
  }
  if (payload.size() > limits_.max_bytes) {
    return false;
  }
  while ((known == flows_.end() && flows_.size() >= limits_.max_flows) ||
         payload.size() > Room()) {
    if (!MakeRoom(id)) {
      return false;
    }
  }

  auto &flow = known == flows_.end() ? flows_[id] : known->second;
  if (flow.payloads.empty()) {
    flow.age = next_age_++;
  }
  flow.awaited = flow.awaited || awaited;
  flow.payloads.emplace_back(payload.begin(), payload.end());
  flow.bytes += payload.size();
  bytes_ += payload.size();
  budget_->Take(payload.size());
  return true;
}

void EarlyDatagrams::Await(TunnelKey id) {
  if (const auto flow = flows_.find(id); flow != flows_.end()) {
    flow->second.awaited = true;
  }
}

std::vector<EarlyDatagrams::Payload> EarlyDatagrams::Take(TunnelKey id) {
  const auto flow = flows_.find(id);
  if (flow == flows_.end()) {
    return {};
  }
  auto payloads = std::move(flow->second.payloads);
  Forget(flow);
  return payloads;
}

void EarlyDatagrams::Retire(TunnelKey id) {
  if (const auto flow = flows_.find(id); flow != flows_.end()) {
    Forget(flow);
  }
  std::erase(retired_, id);
  retired_.push_back(id);
  if (retired_.size() > kMaxRetired) {
    retired_.pop_front();
  }
}

void EarlyDatagrams::ShareWith(std::shared_ptr<ByteBudget> budget) {
  if (budget->room() < bytes_) {
    Clear();
  }
  budget_->Give(bytes_);
  budget->Take(bytes_);
  budget_ = std::move(budget);
}

bool EarlyDatagrams::MakeRoom(TunnelKey spared) {
  auto oldest = flows_.end();
  for (auto flow = flows_.begin(); flow != flows_.end(); ++flow) {
    if (flow->first != spared && !flow->second.awaited &&
        (oldest == flows_.end() || flow->second.age < oldest->second.age)) {
      oldest = flow;
    }
  }
  if (oldest == flows_.end()) {
    return false;
  }
  Forget(oldest);
  return true;
}

void EarlyDatagrams::Forget(Flows::iterator flow) {
  bytes_ -= flow->second.bytes;
  budget_->Give(flow->second.bytes);
  flows_.erase(flow);
}

} // namespace ngmasque
