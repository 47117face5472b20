// The insides of ngtcp2, for the fuzz targets whose names begin with ngtcp2_.
#pragma once

#include <ngtcp2/ngtcp2.h>

extern "C" {
#include "ngtcp2_conn.h"
#include "ngtcp2_conv.h"
#include "ngtcp2_frame_chain.h"
#include "ngtcp2_log.h"
#include "ngtcp2_pkt.h"
#include "ngtcp2_qlog.h"
#include "ngtcp2_transport_params.h"
}

// A macro of the library, but a function of the standard library.
#undef hex
