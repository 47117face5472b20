// qlog files, one for each connection.
#pragma once

#include "handles.h"

#include "ngmasque/quic/error.h"

#include <expected>
#include <filesystem>

namespace ngmasque {

/// Opens DIR/ID.outer.sqlog, with the connection ID in hex.  Error: kQlog.
[[nodiscard]] std::expected<File, QuicError> OpenQlog(const std::filesystem::path &dir,
                                                      const ngtcp2_cid &id);

} // namespace ngmasque
