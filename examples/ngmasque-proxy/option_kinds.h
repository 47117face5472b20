// Rows for what only a proxy has options of.
#pragma once

#include "ngmasque/option.h"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <ngmasque/routing/connection_id.h>
#include <ngmasque/session/forwarding_fields.h>
#include <ngmasque/session/target_policy.h>
#include <ngmasque/wire/uri_template.h>

namespace ngmasque::programs {

/// A length of connection IDs.
[[nodiscard]] Option MinConnectionId(Option row, std::size_t &member);
/// Blocks are added, in their order.
[[nodiscard]] Option Blocks(Option row, std::vector<AddressBlock> &member);
/// Ends of names, the same.
[[nodiscard]] Option Names(Option row, std::vector<std::string> &member);
/// May stand in `[policy.NAME]` as well.
[[nodiscard]] Option Grouped(Option row);
[[nodiscard]] Option Ports(Option row, std::optional<std::vector<PortRange>> &member);
[[nodiscard]] Option Template(Option row, UriTemplate &member);
[[nodiscard]] Option Transforms(Option row, std::vector<Transform> &member);
/// One endpoint, of a loopback address.
[[nodiscard]] Option Metrics(Option row, std::vector<Endpoint> &member);

} // namespace ngmasque::programs
