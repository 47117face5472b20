// The input is what a TLS extension carries: transport parameters.  They are decoded, written
// again, converted between the versions of the struct, and go through a connection as remembered
// for 0-RTT.

#include "ngtcp2_endpoint.h"

#include "check.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <vector>

using namespace ngtcp2_fuzz;

namespace {

using Bytes = std::span<const std::uint8_t>;

/// A variable-length integer, as long as there is one.  Not the library's.
std::optional<std::uint64_t> Integer(Bytes &data) {
  if (data.empty() || data.size() < (std::size_t{1} << (data[0] >> 6))) {
    return std::nullopt;
  }
  const std::size_t size = std::size_t{1} << (data[0] >> 6);
  std::uint64_t value = data[0] & 0x3F;
  for (std::size_t i = 1; i < size; ++i) {
    value = value << 8 | data[i];
  }
  data = data.subspan(size);
  return value;
}

/// Whether the parameter is there and empty; nothing if the input is not a list of parameters.
std::optional<bool> Enables(Bytes data) {
  bool enables = false;
  while (!data.empty()) {
    const auto id = Integer(data);
    const auto size = id ? Integer(data) : std::nullopt;
    if (!size || *size > data.size() ||
        (*id == NGTCP2_TRANSPORT_PARAM_ENABLE_SERVER_MIGRATION && *size != 0)) {
      return std::nullopt;
    }
    enables |= *id == NGTCP2_TRANSPORT_PARAM_ENABLE_SERVER_MIGRATION;
    data = data.subspan(static_cast<std::size_t>(*size));
  }
  return enables;
}

std::vector<std::uint8_t> Written(const ngtcp2_transport_params &params) {
  const auto size = ngtcp2_transport_params_encode(nullptr, 0, &params);
  CHECK(size >= 0);
  std::vector<std::uint8_t> out(static_cast<std::size_t>(size));
  if (!out.empty()) {
    CHECK(ngtcp2_transport_params_encode(out.data(), out.size() - 1, &params) == NGTCP2_ERR_NOBUF);
  }
  CHECK(ngtcp2_transport_params_encode(out.data(), out.size(), &params) == size || size == 0);
  return out;
}

/// What a program has that was compiled when the struct ended with version_info_present, in memory
/// of that very size.
class OldParams {
public:
  explicit OldParams(Bytes data) {
    CHECK(kSize < sizeof(ngtcp2_transport_params));
    CHECK(ngtcp2_transport_paramslen_version(NGTCP2_TRANSPORT_PARAMS_V1) == kSize);
    ngtcp2_transport_params_default_versioned(NGTCP2_TRANSPORT_PARAMS_V1, get());
    CHECK(ngtcp2_transport_params_decode_versioned(NGTCP2_TRANSPORT_PARAMS_V1, get(), data.data(),
                                                   data.size()) == 0);
  }
  ngtcp2_transport_params *get() const {
    return static_cast<ngtcp2_transport_params *>(memory_.get());
  }

private:
  static constexpr std::size_t kSize = offsetof(ngtcp2_transport_params, version_info_present) + 1;
  struct Free {
    void operator()(void *memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_{std::malloc(kSize)};
};

/// Everything but the new parameter passes through a struct of the first version.
void CheckVersions(ngtcp2_transport_params params, Bytes data) {
  const OldParams old{data};
  params.enable_server_migration = 0;
  const auto expected = Written(params);
  std::vector<std::uint8_t> out(expected.size() + 1);
  CHECK(ngtcp2_transport_params_encode_versioned(out.data(), out.size(), NGTCP2_TRANSPORT_PARAMS_V1,
                                                 old.get()) ==
        static_cast<ngtcp2_ssize>(expected.size()));
  out.resize(expected.size());
  CHECK(out == expected);
  ngtcp2_transport_params latest;
  CHECK(ngtcp2_transport_params_convert_to_latest(&latest, NGTCP2_TRANSPORT_PARAMS_V1, old.get()) ==
        &latest);
  CHECK(latest.enable_server_migration == 0 && Written(latest) == expected);
}

struct Nobody : Application {
  void BeginValidation(std::uint32_t, const ngtcp2_path &) override {}
  void EndValidation(std::uint32_t, const ngtcp2_path &, ngtcp2_path_validation_result) override {}
  void CidStatus(ngtcp2_connection_id_status_type, std::uint64_t) override {}
  void PreferredAddress(ngtcp2_path &, const ngtcp2_preferred_addr &) override {}
  bool SelectAddress(ngtcp2_path &, const ngtcp2_server_alt_addr &) override { return true; }
  bool AddressAcked(std::uint64_t) override { return true; }
  bool MayIssue() override { return true; }
};

/// The parameters as a peer's, if they are acceptable, then as remembered ones: these never enable
/// it.
void CheckConnection(bool server, ngtcp2_transport_params params, Bytes data) {
  ngtcp2_path_storage path;
  ngtcp2_sockaddr_in address{};
  address.sin_family = NGTCP2_AF_INET;
  ngtcp2_path_storage_init(&path, reinterpret_cast<ngtcp2_sockaddr *>(&address), sizeof(address),
                           reinterpret_cast<ngtcp2_sockaddr *>(&address), sizeof(address), nullptr);
  Nobody nobody;
  Memory memory;
  {
    const Endpoint endpoint{{.server = server, .logged = true}, path.path, 1, nobody, memory};
    auto *conn = endpoint.conn();
    conn->flags &= ~std::uint32_t{NGTCP2_CONN_FLAG_TRANSPORT_PARAM_RECVED};
    // What depends on the handshake is right; the rest is the input's.
    params.initial_scid = PeerCid(0);
    params.initial_scid_present = 1;
    params.retry_scid_present = 0;
    params.original_dcid = conn->rcid;
    params.original_dcid_present = server ? 0 : 1;
    const auto rv = ngtcp2_conn_set_remote_transport_params(conn, &params);
    CHECK(rv == 0 || rv == NGTCP2_ERR_TRANSPORT_PARAM ||
          rv == NGTCP2_ERR_VERSION_NEGOTIATION_FAILURE);
    if (rv == 0) {
      const auto *remote = ngtcp2_conn_get_remote_transport_params2(conn);
      CHECK(remote->enable_server_migration == params.enable_server_migration);
    }
    CHECK(conn->local.transport_params.enable_server_migration == (server ? 0 : 1));

    std::vector<std::uint8_t> remembered(1024);
    const auto size =
        ngtcp2_conn_encode_0rtt_transport_params2(conn, remembered.data(), remembered.size());
    CHECK(size >= 0 && Enables(Bytes{remembered}.first(static_cast<std::size_t>(size))) == false);
  }
  if (!server) {
    const Endpoint endpoint{{.logged = true}, path.path, 1, nobody, memory};
    auto *conn = endpoint.conn();
    ngtcp2_transport_params_del(conn->remote.transport_params, conn->mem);
    conn->remote.transport_params = nullptr;
    CHECK(ngtcp2_conn_decode_and_set_0rtt_transport_params(conn, data.data(), data.size()) == 0);
    CHECK(conn->remote.transport_params->enable_server_migration == 0);
  }
  CHECK(memory.live == 0);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const Bytes input{data, size};
  ngtcp2_transport_params params;
  const auto rv = ngtcp2_transport_params_decode(&params, input.data(), input.size());
  if (rv != 0) {
    CHECK(rv == NGTCP2_ERR_MALFORMED_TRANSPORT_PARAM);
    return 0;
  }
  const auto enables = Enables(input);
  CHECK(enables && *enables == (params.enable_server_migration != 0));

  const auto once = Written(params);
  CHECK(Enables(once) == enables);
  ngtcp2_transport_params again;
  CHECK(ngtcp2_transport_params_decode(&again, once.data(), once.size()) == 0);
  CHECK(Written(again) == once);

  CheckVersions(params, input);
  CheckConnection(false, params, input);
  CheckConnection(true, params, input);
  return 0;
}
