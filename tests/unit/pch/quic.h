// What most files of quic-test include, compiled once.
#include "tests.h"

#include "../io_support.h"
#include "../quic_proxy_support.h"
#include "../quic_server_network.h"
#include "../quic_support.h"
