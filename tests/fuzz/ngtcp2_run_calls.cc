// What the application of the connection target calls, and what it answers.

#include "ngtcp2_run.h"

#include "check.h"

#include <optional>
#include <utility>
#include <vector>

namespace ngtcp2_fuzz {

void Run::ClientCall() {
  const auto what = script_.Byte();
  if (what % 4 == 3) {
    select_ = script_.Byte();
    return;
  }
  auto path = ReadPath();
  if (what % 4 != 0) {
    // These two would go on after the end.
    if (closed_) {
      return;
    }
    // A client that moves by itself stays with the server's address.
    path.remote = Current().remote;
    path.local = ClientAddress(what / 4, path.remote);
  }
  const StoredPath stored{path};
  const bool pending = conn_->pv != nullptr;
  int rv;
  switch (what % 4) {
  case 0:
    rv = ngtcp2_conn_initiate_server_migration(conn_, &stored.ps.path, now_);
    CHECK(rv != 0 || (!closed_ && !pending && options_.negotiated && !IsForbidden(path.remote)));
    break;
  case 1:
    rv = ngtcp2_conn_initiate_migration(conn_, &stored.ps.path, now_);
    break;
  default:
    rv = ngtcp2_conn_initiate_immediate_migration(conn_, &stored.ps.path, now_);
  }
  if (rv != NGTCP2_ERR_INVALID_STATE && rv != NGTCP2_ERR_INVALID_ARGUMENT &&
      rv != NGTCP2_ERR_CONN_ID_BLOCKED) {
    Result(rv);
  }
  std::uint64_t seq;
  CHECK(ngtcp2_conn_submit_server_alternate_address(conn_, nullptr, nullptr, &seq) ==
        NGTCP2_ERR_INVALID_STATE);
}

void Run::ServerCall() {
  const auto first = script_.Byte();
  const auto second = script_.Byte();
  std::vector<Address> addresses;
  std::optional<ngtcp2_sockaddr_in> in;
  std::optional<ngtcp2_sockaddr_in6> in6;
  for (const auto choice : {first, second}) {
    const auto address = ServerAddress(choice - 1);
    if (choice == 0 || (address.v6 ? in6.has_value() : in.has_value())) {
      continue;
    }
    addresses.push_back(address);
    if (address.v6) {
      in6 = address.in6();
    } else {
      in = address.in();
    }
  }
  std::uint64_t seq = 0;
  const auto rv = ngtcp2_conn_submit_server_alternate_address(conn_, in ? &*in : nullptr,
                                                              in6 ? &*in6 : nullptr, &seq);
  if (rv == 0) {
    CHECK(!closed_ && seq > submitted_.value_or(0));
    submitted_ = seq;
    oracle_.Submitted(addresses);
  } else if (rv != NGTCP2_ERR_INVALID_STATE && rv != NGTCP2_ERR_INVALID_ARGUMENT &&
             rv != NGTCP2_ERR_CONN_ID_BLOCKED) {
    Result(rv);
  }
  const StoredPath stored{initial_};
  CHECK(over_ || ngtcp2_conn_initiate_server_migration(conn_, &stored.ps.path, now_) ==
                     NGTCP2_ERR_INVALID_STATE);
}

void Run::AnyCall() {
  const auto what = script_.Byte();
  switch (what % 8) {
  case 0:
  case 1:
    return CallConnectionIds();
  case 2:
    ngtcp2_conn_hold_new_connection_id(conn_, what >= 0x80);
    return;
  case 3:
    ngtcp2_conn_restart_idle_timer(conn_, what >= 0x80 ? now_ : now_ - NGTCP2_SECONDS);
    return;
  case 4:
    if (!closed_) {
      const auto rv = ngtcp2_conn_initiate_key_update(conn_, now_);
      if (rv != NGTCP2_ERR_INVALID_STATE) {
        Result(rv);
      }
    }
    return;
  case 5:
    if (what >= 0x80) {
      fail_callback_ = true;
    } else {
      key_phase_ = !key_phase_;
    }
    return;
  case 6:
    ngtcp2_conn_set_keep_alive_timeout(conn_, what >= 0x80 ? 5 * NGTCP2_SECONDS : UINT64_MAX);
    return;
  default:
    // A path with a small MTU; not smaller than QUIC's.
    buffer_size_ = what >= 0x80 ? buffer_.size() : 1200;
  }
}

void Run::CallConnectionIds() {
  const auto which = script_.Byte();
  const auto cid = endpoint_->scids()[which % endpoint_->scids().size()];
  const auto rv = which >= 0x80 ? ngtcp2_conn_discard_connection_id(conn_, &cid)
                                : ngtcp2_conn_release_connection_id(conn_, &cid);
  if (rv != NGTCP2_ERR_INVALID_ARGUMENT) {
    Result(rv);
  }
}

/// The path to `remote`, from an address of its family.
void Run::SetPath(ngtcp2_path &to, const Address &remote) {
  const auto local = FromSockaddr(to.local.addr);
  const StoredPath stored{
      {.local = local.v6 == remote.v6 ? local : ClientAddress(0, remote), .remote = remote}};
  ngtcp2_path_copy(&to, &stored.ps.path);
}

void Run::PreferredAddress(ngtcp2_path &to, const ngtcp2_preferred_addr &address) {
  CHECK(address.ipv4_present);
  if (select_ % 2 == 0) {
    SetPath(to, FromSockaddr(reinterpret_cast<const ngtcp2_sockaddr *>(&address.ipv4)));
  }
}

bool Run::SelectAddress(ngtcp2_path &to, const ngtcp2_server_alt_addr &address) {
  oracle_.Offered(address);
  CHECK(!closed_);
  if (CallbackFails()) {
    return false;
  }
  const auto in = [&] {
    return FromSockaddr(reinterpret_cast<const ngtcp2_sockaddr *>(&address.ipv4));
  };
  const auto in6 = [&] {
    return FromSockaddr(reinterpret_cast<const ngtcp2_sockaddr *>(&address.ipv6));
  };
  const auto any = [&](bool v6_first) {
    return address.ipv4_present && !(v6_first && address.ipv6_present) ? in() : in6();
  };
  switch (select_ % 8) {
  case 4: // Later, or never.
    return true;
  case 5: // An address of its own.
    SetPath(to, ServerAddress(select_ / 8));
    return true;
  case 6: { // At once, by the other way.
    const auto remote = any(false);
    const auto local = FromSockaddr(to.local.addr);
    const StoredPath stored{
        {.local = local.v6 == remote.v6 ? local : ClientAddress(0, remote), .remote = remote}};
    const auto rv = ngtcp2_conn_initiate_server_migration(conn_, &stored.ps.path, now_);
    callback_failed_ = callback_failed_ || ngtcp2_err_is_fatal(rv);
    return !ngtcp2_err_is_fatal(rv);
  }
  default:
    SetPath(to, any(select_ % 2 == 1));
    return true;
  }
}

bool Run::AddressAcked(std::uint64_t seq) {
  CHECK(options_.server && submitted_ && seq <= *submitted_);
  return !CallbackFails();
}

bool Run::CallbackFails() {
  callback_failed_ = callback_failed_ || fail_callback_;
  return std::exchange(fail_callback_, false);
}

} // namespace ngtcp2_fuzz
