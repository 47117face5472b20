// For tests of each revision of draft-ietf-masque-quic-proxy.
#pragma once

#include "ngmasque/session/rfc9298.h"

#include <gtest/gtest.h>

#include <string>

namespace ngmasque {

inline auto AllRevisions() {
  return testing::Values(QuicProxyRevision::k06, QuicProxyRevision::k08, QuicProxyRevision::k09);
}

/// In the name of a test.
inline std::string RevisionName(QuicProxyRevision revision) {
  return "r" + std::to_string(static_cast<int>(revision));
}
inline std::string NameOfInfo(const testing::TestParamInfo<QuicProxyRevision> &info) {
  return RevisionName(info.param);
}

} // namespace ngmasque
