// SPDX-License-Identifier: Apache-2.0

// Which transport carries streams, and what it holds clients to. Plain values.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_LIMITS_H_
#define CALLOUT_HOST_TRANSPORT_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "host/base/cores.h"

namespace callout::host {

// How long clients have to take what goes before an error that ends their streams, and the error.
inline constexpr uint64_t kLastWordsMs = 500;

// What both transports hold clients to.
struct TransportLimits {
  int thread_count = 0;  // 0: one for each core
  int threads() const { return thread_count > 0 ? thread_count : UsableCores(); }
  size_t message_bytes_max = 16777216;
  size_t metadata_bytes_max = 16384;
  uint32_t concurrent_streams_max = 1000;  // for each connection
  uint64_t handshake_timeout_ms = 5000;
  uint64_t connection_idle_ms = 900000;  // 0: no limit
  uint64_t connection_age_ms = 0;
  uint64_t connection_age_grace_ms = 60000;
  // From a stream's begin to its first message, from one message to the next, and in
  // all; 0: no limit.
  uint64_t first_message_timeout_ms = 10000;
  uint64_t stream_idle_timeout_ms = 3600000;
  uint64_t stream_duration_ms_max = 3600000;
  // Of the places of --max_live_streams, once more than half of them are taken; 0: an
  // eighth and a 128th of them.
  size_t live_per_peer_max = 0;
  size_t live_per_connection_max = 0;
  bool reflection = true;  // grpc.reflection is served
};

struct TransportConfig {
  enum class Kind : uint8_t { kGrpc, kNghttp2 };
  Kind kind = Kind::kNghttp2;

  size_t connections_per_peer_max = 0;  // from one IP address; 0: any number
  size_t memory_budget_bytes = 0;       // 0: DefaultMemoryBudget

  // Of nghttp2 only; gRPC C++ has no such limits.
  size_t connection_memory_bytes_max = 67108864;
  size_t header_block_bytes_max = 65536;
  uint64_t control_frames_max = 1000;     // and as many again in ten seconds; 0: any number
  uint64_t unanswered_resets_max = 1000;  // the same
  size_t turn_messages_max = 256;         // of one connection, before others have their turn
  size_t turn_handshakes_max = 1;         // of one thread
  uint64_t handshake_percent_max = 25;    // of a thread's time
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_LIMITS_H_
