#include "proxy_name.h"

#include <utility>

namespace ngmasque::programs {

ProxyName::ProxyName(struct ev_loop *loop, std::string host, std::uint16_t port)
  : loop_(loop), host_(std::move(host)), port_(port) {}

void ProxyName::LookUp(Done done) {
  pending_ = true;
  resolver_ = Resolver::Create(loop_, Resolver::Names::kSearch);
  const auto answer = [this, done = std::move(done)](Resolver::Result found) {
    pending_ = false;
    if (found) {
      known_ = true;
      for (auto &endpoint : *found) {
        endpoint.port = port_;
      }
    }
    done(found);
  };
  if (!resolver_) {
    answer(std::unexpected(SessionError::kNoAddress));
    return;
  }
  resolver_->Lookup(host_, answer);
}

void ProxyName::Cancel() {
  resolver_.reset();
  pending_ = false;
}

} // namespace ngmasque::programs
