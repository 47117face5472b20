// The input is the payload of a 1-RTT packet.  Each frame is decoded, written again, and goes to
// the log and to the qlog, whose buffers have the size that a connection gives them.

#include "ngtcp2_lib.h"

#include "check.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace {

using Bytes = std::span<const std::uint8_t>;

/// One event of each sink: what a connection keeps for one packet.
struct Sinks {
  Sinks() {
    ngtcp2_cid cid{};
    cid.datalen = NGTCP2_MAX_CIDLEN;
    ngtcp2_log_init(
        &log, &cid, [](void *, char *, std::size_t) {}, nullptr, log_buffer.get(), 0, nullptr);
    ngtcp2_qlog_init(&qlog, [](void *, std::uint32_t, const void *, std::size_t) {}, 0, nullptr);
    ngtcp2_buf_init(&qlog.buf, qlog_buffer.get(), NGTCP2_QLOG_BUFLEN);
    ngtcp2_pkt_hd_init(&hd, 0, NGTCP2_PKT_1RTT, &cid, nullptr, INT64_MAX >> 1, 4,
                       NGTCP2_PROTO_VER_V1);
    ngtcp2_qlog_pkt_received_start(&qlog);
  }

  ~Sinks() { ngtcp2_qlog_pkt_received_end(&qlog, &hd, 1200); }

  Sinks(const Sinks &) = delete;
  Sinks &operator=(const Sinks &) = delete;

  void Write(const ngtcp2_frame &frame) {
    ngtcp2_log_rx_fr(&log, &hd, &frame);
    ngtcp2_log_tx_fr(&log, &hd, &frame);
    ngtcp2_qlog_write_frame(&qlog, &frame);
  }

  std::unique_ptr<char[]> log_buffer{new char[NGTCP2_LOG_BUFLEN]};
  std::unique_ptr<std::uint8_t[]> qlog_buffer{new std::uint8_t[NGTCP2_QLOG_BUFLEN]};
  ngtcp2_log log{};
  ngtcp2_qlog qlog{};
  ngtcp2_pkt_hd hd{};
};

/// Written once more, with room for a length that the input left out.
std::vector<std::uint8_t> Written(ngtcp2_frame &frame, std::size_t size) {
  std::vector<std::uint8_t> out(size + 8);
  const auto written = ngtcp2_pkt_encode_frame(out.data(), out.size(), &frame);
  CHECK(written > 0 && static_cast<std::size_t>(written) <= out.size());
  out.resize(static_cast<std::size_t>(written));
  // A buffer that is too small by one is refused.
  std::vector<std::uint8_t> small(out.size() - 1);
  CHECK(frame.hd.type == NGTCP2_FRAME_PADDING ||
        ngtcp2_pkt_encode_frame(small.data(), small.size(), &frame) == NGTCP2_ERR_NOBUF);
  return out;
}

/// What holds for SERVER_ALTERNATE_ADDRESS beyond the others.
void CheckServerAlternateAddress(const ngtcp2_server_alternate_address &frame, Bytes input,
                                 const std::vector<std::uint8_t> &written) {
  CHECK(frame.cidlen >= NGTCP2_MIN_CIDLEN && frame.cidlen <= NGTCP2_MAX_CIDLEN);
  // Only the sequence number can be written in more than one way.
  const std::size_t seq = std::size_t{1} << (input[4] >> 6);
  CHECK(input.size() == 4 + seq + 4 + 2 + 16 + 2 + 1 + frame.cidlen + 16);
  CHECK(std::ranges::equal(Bytes{written}.first(4), input.first(4)));
  const std::size_t rest = input.size() - 4 - seq;
  CHECK(std::ranges::equal(Bytes{written}.last(rest), input.last(rest)));
  CHECK(written.size() != input.size() || std::ranges::equal(written, input));

  // Cut off anywhere, in memory of that very size.
  for (std::size_t size = 0; size < input.size(); ++size) {
    const std::vector<std::uint8_t> cut(input.begin(),
                                        input.begin() + static_cast<std::ptrdiff_t>(size));
    ngtcp2_frame_decoder decoder;
    ngtcp2_frame ignored;
    CHECK(ngtcp2_frame_decoder_decode(&decoder, &ignored, cut.data(), cut.size()) ==
          NGTCP2_ERR_FRAME_ENCODING);
  }
}

/// Returns how many bytes the frame had, or 0 if it was not one.
std::size_t OneFrame(Sinks &sinks, Bytes rest) {
  ngtcp2_frame_decoder decoder;
  ngtcp2_frame frame;
  const auto read = ngtcp2_frame_decoder_decode(&decoder, &frame, rest.data(), rest.size());
  if (read < 0) {
    CHECK(read == NGTCP2_ERR_FRAME_ENCODING);
    return 0;
  }
  const auto size = static_cast<std::size_t>(read);
  CHECK(size > 0 && size <= rest.size());
  // A connection looks at the ranges before it logs them.
  const bool is_ack = frame.hd.type == NGTCP2_FRAME_ACK || frame.hd.type == NGTCP2_FRAME_ACK_ECN;
  if (!is_ack || ngtcp2_pkt_validate_ack(&frame.ack, 0) == 0) {
    sinks.Write(frame);
  }

  // An endpoint that gets an empty token closes the connection; nobody writes one.
  if (frame.hd.type == NGTCP2_FRAME_NEW_TOKEN && frame.new_token.tokenlen == 0) {
    return size;
  }
  const auto once = Written(frame, size);
  if (frame.hd.type == NGTCP2_FRAME_SERVER_ALTERNATE_ADDRESS) {
    CheckServerAlternateAddress(frame.server_alternate_address, rest.first(size), once);
  }
  // The input may not be in the shortest form; what we write is, and so it is written alike again.
  ngtcp2_frame_decoder again_decoder;
  ngtcp2_frame again;
  CHECK(ngtcp2_frame_decoder_decode(&again_decoder, &again, once.data(), once.size()) ==
        static_cast<ngtcp2_ssize>(once.size()));
  CHECK(again.hd.type == frame.hd.type);
  CHECK(Written(again, once.size()) == once);
  return size;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Sinks sinks;
  Bytes rest{data, size};
  while (!rest.empty()) {
    const auto read = OneFrame(sinks, rest);
    if (read == 0) {
      break;
    }
    rest = rest.subspan(read);
  }
  return 0;
}
