// What an Http3Connection has to hear of its QUIC connection, as callbacks of ngtcp2.
#pragma once

#include "ngmasque/quic/http3_connection.h"

#include <cstddef>
#include <cstdint>

#include <ngtcp2/ngtcp2.h>

namespace ngmasque {

/// `find`: the Http3Connection that belongs to the user_data of an ngtcp2_conn; null if there is none
/// any more, and nobody is told.
template <Http3Connection *(*find)(void *user_data)> class Http3Callbacks {
public:
  /// Puts them into `callbacks`.  Those that are about something else than streams and datagrams stay
  /// as they are, but for recv_rx_key and recv_tx_key.
  static void Set(ngtcp2_callbacks &callbacks) {
    callbacks.recv_rx_key = RecvRxKey;
    callbacks.recv_tx_key = RecvTxKey;
    callbacks.recv_stream_data = RecvStreamData;
    callbacks.acked_stream_data_offset = AckedStreamDataOffset;
    callbacks.stream_open = nullptr;
    callbacks.stream_close = StreamClose;
    callbacks.stream_reset = StreamReset;
    callbacks.stream_stop_sending = StreamStopSending;
    callbacks.recv_stop_sending = RecvStopSending;
    callbacks.extend_max_remote_streams_bidi = ExtendMaxRemoteStreams;
    callbacks.extend_max_stream_data = ExtendMaxStreamData;
    callbacks.recv_datagram = RecvDatagram;
  }

private:
  static int Result(bool good) { return good ? 0 : NGTCP2_ERR_CALLBACK_FAILURE; }

  // RFC 9114, section 3.2: HTTP/3 begins with what each end sends first.
  static int RecvRxKey(ngtcp2_conn *, ngtcp2_encryption_level level, void *user_data) {
    auto *http3 = find(user_data);
    return Result(level != NGTCP2_ENCRYPTION_LEVEL_1RTT || !http3 || http3->is_server() ||
                  http3->Open());
  }

  static int RecvTxKey(ngtcp2_conn *, ngtcp2_encryption_level level, void *user_data) {
    auto *http3 = find(user_data);
    return Result(level != NGTCP2_ENCRYPTION_LEVEL_1RTT || !http3 || !http3->is_server() ||
                  http3->Open());
  }

  static int RecvStreamData(ngtcp2_conn *, std::uint32_t flags, std::int64_t id, std::uint64_t,
                            const std::uint8_t *data, std::size_t size, void *user_data, void *) {
    auto *http3 = find(user_data);
    const bool fin = (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0;
    return Result(!http3 || http3->RecvStreamData(id, fin, {data, size}));
  }

  static int AckedStreamDataOffset(ngtcp2_conn *, std::int64_t id, std::uint64_t,
                                   std::uint64_t size, void *user_data, void *) {
    auto *http3 = find(user_data);
    return Result(!http3 || http3->AckedStreamData(id, size));
  }

  static int StreamClose(ngtcp2_conn *, std::uint32_t flags, std::int64_t id, std::uint64_t code,
                         void *user_data, void *) {
    auto *http3 = find(user_data);
    const bool has_code = (flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET) != 0;
    return Result(!http3 || http3->StreamClosed(id, has_code ? code : kH3NoError));
  }

  // RESET_STREAM has come.
  static int StreamReset(ngtcp2_conn *, std::int64_t id, std::uint64_t, std::uint64_t code,
                         void *user_data, void *) {
    auto *http3 = find(user_data);
    return Result(!http3 || http3->StreamReset(id, code));
  }

  // We have stopped reading.
  static int StreamStopSending(ngtcp2_conn *, std::int64_t id, std::uint64_t, void *user_data,
                               void *) {
    auto *http3 = find(user_data);
    return Result(!http3 || http3->StreamStopSending(id));
  }

  // STOP_SENDING has come.
  static int RecvStopSending(ngtcp2_conn *, std::int64_t id, std::uint64_t code, void *user_data,
                             void *) {
    if (auto *http3 = find(user_data)) {
      http3->RecvStopSending(id, code);
    }
    return 0;
  }

  static int ExtendMaxRemoteStreams(ngtcp2_conn *, std::uint64_t max, void *user_data) {
    if (auto *http3 = find(user_data)) {
      http3->ExtendMaxRemoteStreams(max);
    }
    return 0;
  }

  static int ExtendMaxStreamData(ngtcp2_conn *, std::int64_t id, std::uint64_t, void *user_data,
                                 void *) {
    auto *http3 = find(user_data);
    return Result(!http3 || http3->ExtendMaxStreamData(id));
  }

  static int RecvDatagram(ngtcp2_conn *, std::uint32_t, const std::uint8_t *data, std::size_t size,
                          void *user_data) {
    auto *http3 = find(user_data);
    return Result(!http3 || http3->RecvDatagram({data, size}));
  }
};

} // namespace ngmasque
