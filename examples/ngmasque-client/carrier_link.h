// A connection of the Carrier.
#pragma once

#include "carrier.h"

#include <ngmasque/io/proxy_client.h>

#include <string_view>

namespace ngmasque::programs {

/// One connection.  It stays until Sweep, as it cannot be destroyed from within its own calls.
class Carrier::Link final : public ProxyClient::Handler {
public:
  Link(Carrier &carrier)
    : client(carrier.loop_, carrier.options_.proxy, *this), carrier_(carrier) {}

  void OnReady() override {
    ready = true;
    carrier_.OnReady();
  }
  void OnDraining() override { carrier_.OnDraining(); }
  void OnClosed(std::string_view text) override {
    over = true;
    carrier_.OnClosed(*this, text);
  }

  ProxyClient client;
  bool ready = false;
  bool over = false;
  bool silent = false;   ///< It has moved because of that.
  bool may_move = false; ///< The network has changed, and it is to be looked at.

private:
  Carrier &carrier_;
};

} // namespace ngmasque::programs
