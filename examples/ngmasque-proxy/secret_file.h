// The file of --secret-file: what a proxy that is started again has to know still.
#pragma once

#include "users.h"

#include "ngmasque/settings.h"

#include <expected>
#include <filesystem>
#include <optional>

namespace ngmasque::programs {

/// For Http3Server::Options::secret: the SHA-256 of all that is in the file.
using ServerSecret = Sha256;

/// Nothing is returned if there is no such file yet, but could be.  What everybody can read, or has
/// less than 32 bytes, is no secret.
[[nodiscard]] std::expected<std::optional<ServerSecret>, Complaint>
ReadSecretFile(const std::filesystem::path &file);

/// The same; if it is not there, it is made with 256 random bits, for its owner alone.  Of several
/// programs that do so at once all get the same.
[[nodiscard]] std::expected<ServerSecret, Complaint>
MakeSecretFile(const std::filesystem::path &file);

} // namespace ngmasque::programs
