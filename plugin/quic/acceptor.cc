#include "acceptor.h"

#include "ngmasque/quic/socket_address.h"

#include <algorithm>
#include <utility>

#include <ngtcp2/ngtcp2_crypto.h>

namespace ngmasque {

namespace {

//= RFC 9000, section 14.1
//# A server MUST discard an Initial packet that is carried in a UDP datagram with a payload that is
//# smaller than the smallest allowed maximum datagram size of 1200 bytes.
constexpr std::size_t kMinInitial = 1200;

constexpr std::uint8_t kLongHeader = 0x80;

// RFC 9000, section 10.3: 38 unpredictable bits, after two that are fixed, and the token.
constexpr std::size_t kMinReset =
  NGTCP2_MIN_STATELESS_RESET_RANDLEN + NGTCP2_STATELESS_RESET_TOKENLEN;
// For packets of up to 43 bytes one byte less is asked for there; more hides it no better.
constexpr std::size_t kMaxReset = 43;

} // namespace

// What a token says.
struct Acceptor::Token {
  ngtcp2_token_type type = NGTCP2_TOKEN_TYPE_UNKNOWN; // That of a token that is valid.
  bool invalid_retry = false;
  ngtcp2_cid original_dcid{};
};

Acceptor::Acceptor(const Options &options, const LocalIds &ids, const QuicSecret &token_secret,
                   RandomSource random)
  : options_(options),
    ids_(ids),
    secret_(token_secret),
    random_(std::move(random)),
    answers_(options.answers_per_second, options.answers_per_second),
    retries_(options.retries_per_second, options.retries_per_second) {}

Acceptor::Result Acceptor::Dropped(DropReason reason) {
  ++dropped_[static_cast<std::size_t>(reason)];
  return Drop{reason};
}

Acceptor::Result Acceptor::Answered(AnswerKind kind, std::span<const std::uint8_t> buffer,
                                    ngtcp2_ssize written) {
  if (written <= 0) {
    return Dropped(DropReason::kInternal);
  }
  ++answered_[static_cast<std::size_t>(kind)];
  return Answer{.kind = kind, .bytes = buffer.first(static_cast<std::size_t>(written))};
}

Acceptor::Result Acceptor::OnPacket(const FourTuple &path, std::span<const std::uint8_t> packet,
                                    std::size_t handshakes, std::span<std::uint8_t> buffer,
                                    Nanoseconds now) {
  if (packet.empty()) {
    return Dropped(DropReason::kMalformed);
  }
  if ((packet[0] & kLongHeader) == 0) {
    return Reset(packet, buffer, now);
  }
  ngtcp2_version_cid parsed;
  switch (ngtcp2_pkt_decode_version_cid(&parsed, packet.data(), packet.size(), ids_.length())) {
  case 0: break;
  case NGTCP2_ERR_VERSION_NEGOTIATION: return NegotiateVersion(parsed, buffer, now);
  default:
    // It refuses packets of unknown versions for their size, too.
    return Dropped(packet.size() < kMinInitial ? DropReason::kTooShort : DropReason::kMalformed);
  }
  return OnInitial(path, packet, handshakes, buffer, now);
}

Acceptor::Result Acceptor::OnInitial(const FourTuple &path, std::span<const std::uint8_t> packet,
                                     std::size_t handshakes, std::span<std::uint8_t> buffer,
                                     Nanoseconds now) {
  Accept accept{.header = {},
                .token_type = NGTCP2_TOKEN_TYPE_UNKNOWN,
                .original_dcid = {},
                .packet_size = packet.size()};
  auto &header = accept.header;
  if (ngtcp2_accept(&header, packet.data(), packet.size()) != 0) {
    if (header.type != NGTCP2_PKT_INITIAL && header.type != 0) {
      return Dropped(DropReason::kNotInitial);
    }
    return Dropped(packet.size() < kMinInitial ? DropReason::kTooShort : DropReason::kMalformed);
  }
  //= RFC 9000, section 7.2
  //# This Destination Connection ID MUST be at least 8 bytes in length.
  //
  // Those that Retry has chosen are longer, and so all of them are.
  if (header.dcid.datalen < NGTCP2_MIN_INITIAL_DCIDLEN) {
    return Dropped(DropReason::kMalformed);
  }
  // Before the token is looked at, which costs more than the answer.
  if (handshakes >= options_.max_handshakes) {
    return Close(header, AnswerKind::kRefused, buffer, now);
  }
  const auto token = Verify(path, header, now);
  if (token.invalid_retry) {
    //= RFC 9000, section 8.1.2
    //# Instead, the server SHOULD immediately close (Section 10.2) the connection with an
    //# INVALID_TOKEN error.
    return Close(header, AnswerKind::kInvalidToken, buffer, now);
  }
  if (token.type == NGTCP2_TOKEN_TYPE_UNKNOWN) {
    if (options_.always_retry || handshakes >= options_.retry_from) {
      return Retry(path, header, buffer, now);
    }
    // ngtcp2 takes any token that it is given for proof of the address.
    header.token = nullptr;
    header.tokenlen = 0;
  }
  accept.token_type = token.type;
  if (token.type == NGTCP2_TOKEN_TYPE_RETRY) {
    accept.original_dcid = token.original_dcid;
  }
  ++accepted_;
  return accept;
}

// Any token that begins as our Retry tokens do is one, or a forged one.  What has no such beginning
// may be a NEW_TOKEN of any age or server, and then it is as none.
Acceptor::Token Acceptor::Verify(const FourTuple &path, const ngtcp2_pkt_hd &header,
                                 Nanoseconds now) const {
  if (header.tokenlen == 0) {
    return {};
  }
  const SocketAddress remote(path.remote);
  Token token;
  if (header.token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) {
    if (ngtcp2_crypto_verify_retry_token2(&token.original_dcid, header.token, header.tokenlen,
                                          secret_.data(), secret_.size(), header.version,
                                          remote.get(), remote.size(), &header.dcid,
                                          kRetryTokenLifetime, now) == 0) {
      token.type = NGTCP2_TOKEN_TYPE_RETRY;
    } else {
      token.invalid_retry = true;
    }
  } else if (ngtcp2_crypto_verify_regular_token2(nullptr, 0, header.token, header.tokenlen,
                                                 secret_.data(), secret_.size(), remote.get(),
                                                 remote.size(), kNewTokenLifetime, now) == 0) {
    token.type = NGTCP2_TOKEN_TYPE_NEW_TOKEN;
  }
  return token;
}

Acceptor::Result Acceptor::NegotiateVersion(const ngtcp2_version_cid &packet,
                                            std::span<std::uint8_t> buffer, Nanoseconds now) {
  if (!answers_.Take(1, now)) {
    return Dropped(DropReason::kBudget);
  }
  std::array<std::uint8_t, 5> random;
  if (!random_(random)) {
    return Dropped(DropReason::kInternal);
  }
  //= RFC 9000, section 6.3
  //# To help ensure this, a server SHOULD include a version that is reserved for forcing version
  //# negotiation (0x?a?a?a?a as defined in Section 15) when generating a Version Negotiation
  //# packet.
  std::uint32_t reserved = 0;
  for (const auto byte : std::span(random).first<4>()) {
    reserved = reserved << 8 | (byte & 0xf0u) | 0x0au;
  }
  // A client that has tried a reserved one ignores an answer that has it.
  if (reserved == packet.version) {
    reserved ^= 0x10;
  }
  const std::array versions{reserved, NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2};
  return Answered(AnswerKind::kVersionNegotiation, buffer,
                  ngtcp2_pkt_write_version_negotiation(
                    buffer.data(), buffer.size(), random[4] & 0x3f, packet.scid, packet.scidlen,
                    packet.dcid, packet.dcidlen, versions.data(), versions.size()));
}

Acceptor::Result Acceptor::Retry(const FourTuple &path, const ngtcp2_pkt_hd &header,
                                 std::span<std::uint8_t> buffer, Nanoseconds now) {
  if (!retries_.Take(1, now)) {
    return Dropped(DropReason::kBudget);
  }
  // The next Initial goes to this ID, and so to this worker.
  ngtcp2_cid scid{.datalen = ids_.length(), .data = {}};
  if (!ids_.Draw(options_.worker, {scid.data, scid.datalen})) {
    return Dropped(DropReason::kInternal);
  }
  const SocketAddress remote(path.remote);
  std::array<std::uint8_t, NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2> token;
  const auto size = ngtcp2_crypto_generate_retry_token2(
    token.data(), secret_.data(), secret_.size(), header.version, remote.get(), remote.size(),
    &scid, &header.dcid, now);
  if (size < 0) {
    return Dropped(DropReason::kInternal);
  }
  return Answered(AnswerKind::kRetry, buffer,
                  ngtcp2_crypto_write_retry(buffer.data(), buffer.size(), header.version,
                                            &header.scid, &scid, &header.dcid, token.data(),
                                            static_cast<std::size_t>(size)));
}

Acceptor::Result Acceptor::Close(const ngtcp2_pkt_hd &header, AnswerKind kind,
                                 std::span<std::uint8_t> buffer, Nanoseconds now) {
  if (!answers_.Take(1, now)) {
    return Dropped(DropReason::kBudget);
  }
  const auto code =
    kind == AnswerKind::kInvalidToken ? NGTCP2_INVALID_TOKEN : NGTCP2_CONNECTION_REFUSED;
  return Answered(kind, buffer,
                  ngtcp2_crypto_write_connection_close(buffer.data(), buffer.size(), header.version,
                                                       &header.scid, &header.dcid, code, nullptr,
                                                       0));
}

Acceptor::Result Acceptor::Reset(std::span<const std::uint8_t> packet,
                                 std::span<std::uint8_t> buffer, Nanoseconds now) {
  //= RFC 9000, section 10.3.3
  //# An endpoint MUST ensure that every Stateless Reset that it sends is smaller than the packet
  //# that triggered it, unless it maintains state sufficient to prevent looping.
  static_assert(kMinReset >= kForeignLength);
  if (packet.size() <= std::max(kMinReset, ids_.length())) {
    return Dropped(DropReason::kNoReset);
  }
  const auto id = packet.subspan(1, ids_.length());
  const bool foreign = options_.is_foreign && options_.is_foreign(packet.subspan(1));
  // It would end a connection that another worker has, as all of them have the same secret.
  if (!foreign && ids_.WorkerOf(id) != options_.worker) {
    return Dropped(DropReason::kOtherWorker);
  }
  if (!answers_.Take(1, now)) {
    return Dropped(DropReason::kBudget);
  }
  const auto token = foreign ? ForeignResetToken(id) : ids_.ResetToken(id);
  std::array<std::uint8_t, kMaxReset - NGTCP2_STATELESS_RESET_TOKENLEN> random;
  if (!token || !random_(random)) {
    return Dropped(DropReason::kInternal);
  }
  const auto out = buffer.first(std::min(packet.size() - 1, kMaxReset));
  return Answered(AnswerKind::kReset, buffer,
                  ngtcp2_pkt_write_stateless_reset2(out.data(), out.size(), &*token, random.data(),
                                                    random.size()));
}

std::optional<std::vector<std::uint8_t>> Acceptor::NewToken(const Endpoint &remote,
                                                            Nanoseconds now) const {
  const SocketAddress address(remote);
  std::vector<std::uint8_t> token(NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN);
  const auto size = ngtcp2_crypto_generate_regular_token2(token.data(), secret_.data(),
                                                          secret_.size(), address.get(),
                                                          address.size(), nullptr, 0, now);
  if (size < 0) {
    return {};
  }
  token.resize(static_cast<std::size_t>(size));
  return token;
}

} // namespace ngmasque
