// Http3Endpoint: callbacks of ngtcp2.

#include "http3_endpoint_impl.h"

#include "ngmasque/quic/http3_callbacks.h"

#include <algorithm>
#include <vector>

#include <gnutls/crypto.h>

namespace ngmasque {

namespace {

// One in 2^136 draws conflicts, unless the handler refuses all.
constexpr int kMaxDraws = 16;

int Result(bool good) { return good ? 0 : NGTCP2_ERR_CALLBACK_FAILURE; }

void Rand(std::uint8_t *out, std::size_t size, const ngtcp2_rand_ctx *) {
  // For what need not be secret; GnuTLS ends the process rather than to fail here.
  (void)gnutls_rnd(GNUTLS_RND_NONCE, out, size);
}

} // namespace

struct Http3Endpoint::Impl::Callbacks {
  static Impl &Self(void *user_data) { return *static_cast<Impl *>(user_data); }
  static Http3Connection *Http3(void *user_data) {
    auto &self = Self(user_data);
    self.OnFrame();
    return &self.self;
  }

  static int HandshakeCompleted(ngtcp2_conn *conn, void *user_data) {
    auto &self = Self(user_data);
    self.told_path = ToFourTuple(*ngtcp2_conn_get_path2(conn));
    self.validated.Add(self.told_path);
    self.OnFrame(); // Where the client begins, and its connection ID there.
    self.self.OnHandshakeCompleted();
    return 0;
  }

  static int ExtendMaxLocalStreams(ngtcp2_conn *, std::uint64_t, void *user_data) {
    Self(user_data).self.OnStreamsAvailable();
    return 0;
  }

  static int GetNewConnectionId(ngtcp2_conn *, ngtcp2_cid *cid, ngtcp2_stateless_reset_token *token,
                                std::size_t size, void *user_data) {
    // ngtcp2 asks for the length of the first one.
    return Result(size == kLocalIdLength && Self(user_data).DrawLocalId(*cid, token));
  }

  static int RemoveConnectionId(ngtcp2_conn *, const ngtcp2_cid *cid, void *user_data) {
    auto &self = Self(user_data);
    const auto id = *ConnectionId::From({cid->data, cid->datalen});
    self.self.OnRetiredLocalId(id);
    self.moves.OnRetired(id);
    if (self.handler) {
      self.handler->OnRetiredLocalId(id);
    }
    return 0;
  }

  static int BeginPathValidation(ngtcp2_conn *, std::uint32_t, const ngtcp2_path *path,
                                 const ngtcp2_path *, void *user_data) {
    auto &self = Self(user_data);
    if (self.role == Role::kServer && self.handler) {
      self.handler->OnProbing(ToFourTuple(*path));
    }
    return 0;
  }

  static int PathValidation(ngtcp2_conn *, std::uint32_t, const ngtcp2_path *path,
                            const ngtcp2_path *, ngtcp2_path_validation_result result,
                            void *user_data) {
    Self(user_data).OnPathValidated(ToFourTuple(*path),
                                    result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS);
    return 0;
  }

  // ngtcp2 refuses addresses that no server has a reason to send its client to.
  template <typename Addresses>
  static int SelectAddress(ngtcp2_conn *conn, ngtcp2_path *to, const Addresses *addresses,
                           void *user_data) {
    std::vector<Endpoint> remotes;
    if (addresses->ipv4_present) {
      remotes.push_back(*ToEndpoint(reinterpret_cast<const sockaddr *>(&addresses->ipv4)));
    }
    if (addresses->ipv6_present) {
      remotes.push_back(*ToEndpoint(reinterpret_cast<const sockaddr *>(&addresses->ipv6)));
    }
    const bool ipv4 = IsIpv4(ToFourTuple(*ngtcp2_conn_get_path2(conn)).remote);
    std::ranges::stable_partition(
      remotes, [ipv4](const Endpoint &remote) { return IsIpv4(remote) == ipv4; });
    if (const auto path = Self(user_data).self.OnServerAddresses(remotes)) {
      QuicPath quic_path(*path);
      const auto raw = quic_path.get();
      ngtcp2_addr_copy_byte(&to->local, raw.local.addr, raw.local.addrlen);
      ngtcp2_addr_copy_byte(&to->remote, raw.remote.addr, raw.remote.addrlen);
    }
    return 0;
  }

  static int StatelessReset(ngtcp2_conn *, const ngtcp2_pkt_stateless_reset2 *, void *user_data) {
    Self(user_data).stateless_reset = true;
    return 0;
  }
};

bool Http3Endpoint::Impl::DrawLocalId(ngtcp2_cid &cid, ngtcp2_stateless_reset_token *token) {
  cid.datalen = kLocalIdLength;
  for (int draw = 0; draw < kMaxDraws; ++draw) {
    if (!draw_id({cid.data, cid.datalen})) {
      return false;
    }
    const auto id = *ConnectionId::From({cid.data, cid.datalen});
    if (!self.OnNewLocalId(id)) {
      continue;
    }
    if (handler && !handler->OnNewLocalId(id)) {
      self.OnRetiredLocalId(id);
    } else {
      return !token ||
             ngtcp2_crypto_generate_stateless_reset_token(token->data, reset_secret.data(),
                                                          reset_secret.size(), &cid) == 0;
    }
  }
  return false;
}

ngtcp2_callbacks Http3Endpoint::Impl::MakeCallbacks() {
  ngtcp2_callbacks callbacks{};
  callbacks.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
  callbacks.encrypt = ngtcp2_crypto_encrypt_cb;
  callbacks.decrypt = ngtcp2_crypto_decrypt_cb;
  callbacks.hp_mask = ngtcp2_crypto_hp_mask_cb;
  callbacks.update_key = ngtcp2_crypto_update_key_cb;
  callbacks.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
  callbacks.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
  callbacks.version_negotiation = ngtcp2_crypto_version_negotiation_cb;
  callbacks.get_path_challenge_data2 = ngtcp2_crypto_get_path_challenge_data2_cb;
  callbacks.rand = Rand;
  Http3Callbacks<Callbacks::Http3>::Set(callbacks);
  callbacks.handshake_completed = Callbacks::HandshakeCompleted;
  callbacks.extend_max_local_streams_bidi = Callbacks::ExtendMaxLocalStreams;
  callbacks.get_new_connection_id2 = Callbacks::GetNewConnectionId;
  callbacks.remove_connection_id = Callbacks::RemoveConnectionId;
  callbacks.begin_path_validation = Callbacks::BeginPathValidation;
  callbacks.path_validation = Callbacks::PathValidation;
  callbacks.select_preferred_addr = Callbacks::SelectAddress<ngtcp2_preferred_addr>;
  callbacks.select_server_alt_addr = Callbacks::SelectAddress<ngtcp2_server_alt_addr>;
  callbacks.recv_stateless_reset2 = Callbacks::StatelessReset;
  return callbacks;
}

} // namespace ngmasque
