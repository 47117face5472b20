// qlog files, one for each connection.
#pragma once

#include "handles.h"

#include "ngmasque/quic/error.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

/// What is written of a connection into DIR/ID.outer.sqlog, with its connection ID in hex.
///
/// Of a server, whom anybody can send the beginning of a connection, it is held in memory at first:
/// there is a file from Keep on, and without Keep none.
class Qlog {
public:
  /// What is held in memory at most, in bytes, for each handshake in progress: several times what one
  /// usually takes.  What is written beyond it is lost.
  static constexpr std::size_t kMaxHeld = std::size_t{32} << 10;

  /// `hold`: no file before Keep.  Error: kQlog, if the file cannot be opened.
  [[nodiscard]] static std::expected<Qlog, QuicError>
  Open(const std::filesystem::path &dir, const ngtcp2_cid &id, bool hold);

  /// Whole records, as ngtcp2 hands them over.
  void Write(std::span<const std::uint8_t> records);

  /// Writes what is held, and all that comes from then on, into the file.  If it cannot be opened
  /// nothing is written: connections do not end for that.
  void Keep();

private:
  explicit Qlog(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_; // Empty once it is open, or could not be opened.
  File file_;
  std::vector<std::uint8_t> held_;
};

} // namespace ngmasque
