// What most files of ngmasque-proxy and ngmasque-client include, compiled once for each of them.
#include <ngmasque/io/connect_udp_proxy.h>
#include <ngmasque/io/proxy_client.h>

#include <ev.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <format>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
