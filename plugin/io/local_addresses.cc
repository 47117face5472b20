#include "ngmasque/io/local_addresses.h"

#include "ngmasque/quic/socket_address.h"

#include <ifaddrs.h>

namespace ngmasque {

std::vector<AddressBlock> LocalAddresses() {
  std::vector<AddressBlock> found;
  ifaddrs *list = nullptr;
  if (getifaddrs(&list) != 0) {
    return found;
  }
  for (const auto *item = list; item; item = item->ifa_next) {
    if (const auto endpoint = item->ifa_addr ? ToEndpoint(item->ifa_addr) : std::nullopt) {
      found.push_back({.address = endpoint->address});
    }
  }
  freeifaddrs(list);
  return found;
}

} // namespace ngmasque
