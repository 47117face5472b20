// How ngmasque-client ends besides what all programs have: exit_code.h.
#pragma once

namespace ngmasque::programs {

/// The man page says them in words: options.cc.  All of them mean that nothing has worked yet, and
/// that it is of no use to try again as it is.
enum ClientExit : int {
  kCredentialsRefused = 3, ///< The proxy wants credentials or a certificate, or others.
  kProxyNotTrusted = 4,    ///< The proxy's certificate is not acceptable.
  kTargetDenied = 5,       ///< The proxy does not go to the target.
  kNoProxy = 6, ///< There is no such name, no proxy for UDP, or none that speaks a known dialect.
};

} // namespace ngmasque::programs
