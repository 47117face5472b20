// Dialect draft-00: draft-pauly-masque-quic-proxy-00, with draft-ietf-masque-connect-udp-00 and
// draft-schinazi-quic-h3-datagram-05.  How requests are written is in message.h.
//
// What is the proxy's is behind MakeDraft00, what is the client's behind MakeDraft00Client; how
// payloads are marked is for both.  Proxies of draft-ietf-masque-connect-udp-01 to -03 are not
// served by what MakeDraft00Client makes, but by what MakeDraft03Client does; MakeDraft00 serves
// clients of both.
#pragma once

#include "ngmasque/session/client_dialect.h"
#include "ngmasque/session/dialect.h"
#include "ngmasque/session/message.h"
#include "ngmasque/wire/stream_length.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string_view>

namespace ngmasque {

/// ClientDialect::name of MakeDraft00Client.
inline constexpr std::string_view kDraft00Name = "draft-00";

/// The proxy's side, for one connection.
[[nodiscard]] std::unique_ptr<Dialect> MakeDraft00(const ProxyOptions &options,
                                                   const HashKey &key);

/// The client's side, for one connection.
[[nodiscard]] std::unique_ptr<ClientDialect>
MakeDraft00Client(const ClientDialectOptions &options);

/// The client's side, for one connection to a proxy of draft-ietf-masque-connect-udp-01 to -03: the
/// same, but for requests in TargetForm::kUri.  A proxy that does not know connection IDs opens its
/// tunnels without them.
///
/// Null before the proxy's SETTINGS are here, and for one that has not negotiated datagrams by them
/// (section 4 of those revisions): what they have on the stream instead is not spoken.
[[nodiscard]] std::unique_ptr<ClientDialect>
MakeDraft03Client(const ClientDialectOptions &options);

namespace draft00 {

/// The same as MakeDraft00Client and MakeDraft03Client, whose first tunnel has the flow id `first`,
/// an even one.
[[nodiscard]] std::unique_ptr<ClientDialect>
MakeClient(const ClientDialectOptions &options, FlowId first,
           TargetForm form = TargetForm::kAuthority);

/// What stands before a payload in a datagram; empty if `flow` is above 2^62-1.
[[nodiscard]] Prefix DatagramPrefix(FlowId flow);

/// Reads a datagram; the key is the flow id.
/// Errors: kMalformed (a connection error, H3_GENERAL_PROTOCOL_ERROR), kTooLong (drop it).
[[nodiscard]] std::expected<TunnelledPayload, DropReason>
ReadDatagram(std::span<const std::uint8_t> datagram);

/// Takes the next payload off the front of what has come on a stream.  Error: kTooLong.
[[nodiscard]] StreamPayload NextPayload(StreamLengthParser &parser,
                                        std::span<const std::uint8_t> &input);

/// What stands before a payload of `size` bytes on a stream.  Error: kTooLarge, above
/// kMaxUdpPayload.
[[nodiscard]] std::expected<Prefix, DropReason> StreamPrefix(std::size_t size);

} // namespace draft00
} // namespace ngmasque
