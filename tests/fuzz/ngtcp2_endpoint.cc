#include "ngtcp2_endpoint.h"

#include "check.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ngtcp2_fuzz {

namespace {

Endpoint &Self(void *user_data) { return *static_cast<Endpoint *>(user_data); }

int Encrypt(std::uint8_t *dest, const ngtcp2_crypto_aead *, const ngtcp2_crypto_aead_ctx *,
            const std::uint8_t *plaintext, std::size_t size, const std::uint8_t *, std::size_t,
            const std::uint8_t *, std::size_t) {
  if (size != 0 && plaintext != dest) {
    std::memmove(dest, plaintext, size);
  }
  std::memset(dest + size, 0, kTag);
  return 0;
}

int Decrypt(std::uint8_t *dest, const ngtcp2_crypto_aead *, const ngtcp2_crypto_aead_ctx *,
            const std::uint8_t *ciphertext, std::size_t size, const std::uint8_t *, std::size_t,
            const std::uint8_t *, std::size_t) {
  CHECK(size >= kTag);
  const auto *tag = ciphertext + size - kTag;
  if (std::any_of(tag, tag + kTag, [](std::uint8_t byte) { return byte != 0; })) {
    return NGTCP2_ERR_DECRYPT;
  }
  std::memmove(dest, ciphertext, size - kTag);
  return 0;
}

int HeaderMask(std::uint8_t *dest, const ngtcp2_crypto_cipher *, const ngtcp2_crypto_cipher_ctx *,
               const std::uint8_t *) {
  std::memset(dest, 0, 5);
  return 0;
}

void Rand(std::uint8_t *dest, std::size_t size, const ngtcp2_rand_ctx *ctx) {
  auto &self = Self(ctx->native_handle);
  std::generate_n(dest, size, [&] { return static_cast<std::uint8_t>(self.Random()); });
}

int UpdateKey(ngtcp2_conn *, std::uint8_t *rx_secret, std::uint8_t *tx_secret,
              ngtcp2_crypto_aead_ctx *rx_aead, std::uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx_aead,
              std::uint8_t *tx_iv, const std::uint8_t *, const std::uint8_t *, std::size_t size,
              void *) {
  std::memset(rx_secret, 0, size);
  std::memset(tx_secret, 0, size);
  std::memset(rx_iv, 0, 16);
  std::memset(tx_iv, 0, 16);
  *rx_aead = *tx_aead = {};
  return 0;
}

int NewConnectionId(ngtcp2_conn *, ngtcp2_cid *cid, ngtcp2_stateless_reset_token *token,
                    std::size_t size, void *user_data) {
  if (!Self(user_data).application().MayIssue()) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  *cid = Self(user_data).NewCid(size);
  std::memset(token->data, cid->data[1], sizeof(token->data));
  return 0;
}

int PathChallengeData(ngtcp2_conn *, ngtcp2_path_challenge_data *data, void *user_data) {
  for (auto &byte : data->data) {
    byte = static_cast<std::uint8_t>(Self(user_data).Random());
  }
  return 0;
}

ngtcp2_callbacks Callbacks() {
  ngtcp2_callbacks cb{};
  // Not called any more.
  cb.client_initial = [](ngtcp2_conn *, void *) { return NGTCP2_ERR_CALLBACK_FAILURE; };
  cb.recv_client_initial = [](ngtcp2_conn *, const ngtcp2_cid *, void *) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  };
  cb.recv_retry = [](ngtcp2_conn *, const ngtcp2_pkt_hd *, void *) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  };
  cb.recv_crypto_data = [](ngtcp2_conn *, ngtcp2_encryption_level, std::uint64_t,
                           const std::uint8_t *, std::size_t, void *) { return 0; };
  cb.encrypt = Encrypt;
  cb.decrypt = Decrypt;
  cb.hp_mask = HeaderMask;
  cb.rand = Rand;
  cb.update_key = UpdateKey;
  cb.delete_crypto_aead_ctx = [](ngtcp2_conn *, ngtcp2_crypto_aead_ctx *, void *) {};
  cb.delete_crypto_cipher_ctx = [](ngtcp2_conn *, ngtcp2_crypto_cipher_ctx *, void *) {};
  cb.get_new_connection_id2 = NewConnectionId;
  cb.get_path_challenge_data2 = PathChallengeData;
  cb.begin_path_validation = [](ngtcp2_conn *, std::uint32_t flags, const ngtcp2_path *path,
                                const ngtcp2_path *, void *user_data) {
    Self(user_data).application().BeginValidation(flags, *path);
    return 0;
  };
  cb.path_validation = [](ngtcp2_conn *, std::uint32_t flags, const ngtcp2_path *path,
                          const ngtcp2_path *, ngtcp2_path_validation_result result,
                          void *user_data) {
    Self(user_data).application().EndValidation(flags, *path, result);
    return 0;
  };
  cb.dcid_status2 = [](ngtcp2_conn *, ngtcp2_connection_id_status_type type, std::uint64_t seq,
                       const ngtcp2_cid *, const ngtcp2_stateless_reset_token *, void *user_data) {
    Self(user_data).application().CidStatus(type, seq);
    return 0;
  };
  cb.select_preferred_addr = [](ngtcp2_conn *, ngtcp2_path *dest,
                                const ngtcp2_preferred_addr *address, void *user_data) {
    Self(user_data).application().PreferredAddress(*dest, *address);
    return 0;
  };
  cb.select_server_alt_addr = [](ngtcp2_conn *, ngtcp2_path *dest,
                                 const ngtcp2_server_alt_addr *address, void *user_data) {
    return Self(user_data).application().SelectAddress(*dest, *address)
               ? 0
               : NGTCP2_ERR_CALLBACK_FAILURE;
  };
  cb.ack_server_alt_addr = [](ngtcp2_conn *, std::uint64_t seq, void *user_data) {
    return Self(user_data).application().AddressAcked(seq) ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
  };
  return cb;
}

void SetLimits(ngtcp2_transport_params &params) {
  params.initial_max_stream_data_bidi_local = 64 * 1024;
  params.initial_max_stream_data_bidi_remote = 64 * 1024;
  params.initial_max_stream_data_uni = 64 * 1024;
  params.initial_max_data = 128 * 1024;
  params.initial_max_streams_bidi = 4;
  params.initial_max_streams_uni = 4;
  params.max_datagram_frame_size = 1200;
}

/// The second address of the server in the table of the connection target.
void SetPreferredAddress(ngtcp2_transport_params &params, const ngtcp2_cid &cid,
                         const ngtcp2_stateless_reset_token &token) {
  params.preferred_addr_present = 1;
  auto &to = params.preferred_addr;
  to.cid = cid;
  std::ranges::copy(token.data, to.stateless_reset_token);
  to.ipv4_present = 1;
  to.ipv4.sin_family = NGTCP2_AF_INET;
  to.ipv4.sin_port = htons(4433);
  to.ipv4.sin_addr.s_addr = htonl(0xC6336402);
}

} // namespace

ngtcp2_cid PeerCid(std::uint64_t seq) {
  ngtcp2_cid cid{};
  cid.datalen = kCidSize;
  cid.data[0] = 0xC0;
  for (std::size_t i = 1; i < kCidSize; ++i) {
    cid.data[i] = static_cast<std::uint8_t>(seq >> (8 * (kCidSize - 1 - i)));
  }
  return cid;
}

ngtcp2_stateless_reset_token PeerToken(std::uint64_t seq) {
  ngtcp2_stateless_reset_token token{};
  const auto cid = PeerCid(seq);
  std::copy_n(cid.data, kCidSize, token.data);
  token.data[kCidSize] = 0xE0;
  return token;
}

Memory::Memory() {
  mem.user_data = this;
  mem.malloc = [](std::size_t size, void *user_data) -> void * {
    return static_cast<Memory *>(user_data)->MayAllocate() ? std::malloc(size) : nullptr;
  };
  mem.calloc = [](std::size_t count, std::size_t size, void *user_data) -> void * {
    return static_cast<Memory *>(user_data)->MayAllocate() ? std::calloc(count, size) : nullptr;
  };
  mem.realloc = [](void *ptr, std::size_t size, void *user_data) -> void * {
    auto &self = *static_cast<Memory *>(user_data);
    if (!self.MayAllocate()) {
      return nullptr;
    }
    self.live -= ptr != nullptr ? 1 : 0;
    return std::realloc(ptr, size);
  };
  mem.free = [](void *ptr, void *user_data) {
    static_cast<Memory *>(user_data)->live -= ptr != nullptr ? 1 : 0;
    std::free(ptr);
  };
}

bool Memory::MayAllocate() {
  if (fail_at != 0 && --fail_at == 0) {
    failed = true;
    fail_at = fail_on ? 1 : 0;
    return false;
  }
  ++live;
  return true;
}

Endpoint::Endpoint(const Options &options, const ngtcp2_path &path, ngtcp2_tstamp ts,
                   Application &application, Memory &memory)
    : application_{application} {
  ngtcp2_settings settings;
  ngtcp2_settings_default(&settings);
  settings.initial_ts = ts;
  settings.rand_ctx.native_handle = this;
  // To see what an input does.
  static const bool wanted = std::getenv("NGMASQUE_FUZZ_LOG") != nullptr;
  if (wanted) {
    settings.log_write = [](void *, char *line, std::size_t length) {
      std::fprintf(stderr, "%.*s\n", static_cast<int>(length), line);
    };
  } else if (options.logged) {
    settings.log_write = [](void *, char *, std::size_t) {};
  }
  if (options.logged) {
    settings.qlog_write = [](void *, std::uint32_t, const void *, std::size_t) {};
  }
  if (options.few_glitches) {
    settings.glitch_ratelim_burst = 8;
    settings.glitch_ratelim_rate = 1;
  }

  ngtcp2_transport_params params;
  ngtcp2_transport_params_default(&params);
  SetLimits(params);
  params.max_idle_timeout = options.idle_timeout ? 30 * NGTCP2_SECONDS : 0;
  params.active_connection_id_limit = 8;
  params.enable_server_migration = options.negotiated;

  auto callbacks = Callbacks();
  if (options.never_asked) {
    callbacks.select_server_alt_addr = nullptr;
  }
  const auto scid = NewCid(options.zero_length_scid ? 0 : kCidSize);
  auto dcid = PeerCid(0);
  if (options.zero_length_dcid) {
    dcid.datalen = 0;
  }
  int rv;
  if (options.server) {
    params.original_dcid_present = 1;
    params.stateless_reset_token_present = 1;
    params.disable_active_migration = options.disable_active_migration;
    if (options.preferred_address && !options.zero_length_scid) {
      SetPreferredAddress(params, NewCid(kCidSize), {});
    }
    rv = ngtcp2_conn_server_new(&conn_, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                                &settings, &params, &memory.mem, this);
  } else {
    rv = ngtcp2_conn_client_new(&conn_, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                                &settings, &params, &memory.mem, this);
  }
  CHECK(rv == 0 || (rv == NGTCP2_ERR_NOMEM && memory.failed));
  if (rv == 0 && !Handshake(options, ts)) {
    CHECK(memory.failed);
    ngtcp2_conn_del(conn_);
    conn_ = nullptr;
  }
}

Endpoint::~Endpoint() { ngtcp2_conn_del(conn_); }

/// Leaves out the handshake: keys, state and what the peer has sent.
bool Endpoint::Handshake(const Options &options, ngtcp2_tstamp ts) {
  static constexpr std::uint8_t kNothing[32]{};
  const ngtcp2_crypto_aead_ctx aead{};
  const ngtcp2_crypto_cipher_ctx hp{};
  ngtcp2_crypto_ctx crypto{};
  crypto.aead.max_overhead = kTag;
  crypto.max_encryption = UINT64_MAX;
  crypto.max_decryption_failure = 64;

  ngtcp2_transport_params remote;
  ngtcp2_transport_params_default(&remote);
  SetLimits(remote);
  remote.initial_scid = conn_->dcid.current.cid;
  remote.initial_scid_present = 1;
  remote.active_connection_id_limit = options.active_connection_id_limit;
  remote.enable_server_migration = options.negotiated;
  if (!options.server) {
    remote.original_dcid = conn_->rcid;
    remote.original_dcid_present = 1;
    remote.disable_active_migration = options.disable_active_migration;
    if (options.preferred_address && !options.zero_length_dcid) {
      SetPreferredAddress(remote, PeerCid(1), PeerToken(1));
    }
    conn_->negotiated_version = conn_->client_chosen_version;
  }

  ngtcp2_conn_set_initial_crypto_ctx(conn_, &crypto);
  ngtcp2_conn_set_crypto_ctx(conn_, &crypto);
  if (ngtcp2_conn_install_initial_key(conn_, &aead, kNothing, &hp, &aead, kNothing, &hp, 16) != 0 ||
      ngtcp2_conn_install_rx_handshake_key(conn_, &aead, kNothing, 16, &hp) != 0 ||
      ngtcp2_conn_install_tx_handshake_key(conn_, &aead, kNothing, 16, &hp) != 0 ||
      ngtcp2_conn_set_remote_transport_params(conn_, &remote) != 0 ||
      ngtcp2_conn_install_rx_key(conn_, kNothing, 32, &aead, kNothing, 16, &hp) != 0 ||
      ngtcp2_conn_install_tx_key(conn_, kNothing, 32, &aead, kNothing, 16, &hp) != 0) {
    return false;
  }
  ngtcp2_conn_discard_initial_state(conn_, ts);
  conn_->state = NGTCP2_CS_POST_HANDSHAKE;
  conn_->flags |= NGTCP2_CONN_FLAG_INITIAL_PKT_PROCESSED |
                  NGTCP2_CONN_FLAG_TLS_HANDSHAKE_COMPLETED | NGTCP2_CONN_FLAG_HANDSHAKE_COMPLETED;
  if (options.server || options.confirmed) {
    conn_->flags |= NGTCP2_CONN_FLAG_HANDSHAKE_CONFIRMED;
    conn_->handshake_confirmed_ts = ts;
    ngtcp2_conn_discard_handshake_state(conn_, ts);
  }
  conn_->dcid.current.flags |= NGTCP2_DCID_FLAG_PATH_VALIDATED;
  if (!options.server) {
    const auto token = PeerToken(0);
    ngtcp2_dcid_set_token(&conn_->dcid.current, &token);
    if (conn_->remote.transport_params->preferred_addr_present) {
      const auto cid = PeerCid(1);
      const auto preferred_token = PeerToken(1);
      ngtcp2_dcidtr_push_unused(&conn_->dcid.dtr, 1, &cid, &preferred_token);
      if (ngtcp2_gaptr_push(&conn_->dcid.seqgap, 1, 1) != 0) {
        return false;
      }
    }
  }
  if (options.hold_connection_ids) {
    ngtcp2_conn_hold_new_connection_id(conn_, 1);
  }
  return true;
}

std::uint64_t Endpoint::Random() {
  // splitmix64
  random_ += 0x9E3779B97F4A7C15;
  auto z = random_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

ngtcp2_cid Endpoint::NewCid(std::size_t size) {
  ngtcp2_cid cid{};
  cid.datalen = size;
  cid.data[0] = 0x51;
  cid.data[1] = static_cast<std::uint8_t>(scids_.size());
  cid.data[2] = static_cast<std::uint8_t>(scids_.size() >> 8);
  scids_.push_back(cid);
  return cid;
}

} // namespace ngtcp2_fuzz
