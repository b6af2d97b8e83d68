// SPDX-License-Identifier: Apache-2.0

// How long a client may keep an RPC's place without using it: the words and counts of
// these limits, which both transports have (host/transport/limits.h).
//
// Any thread.
//
// Tested by tests/host/transport/grpc/grpc_call_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_STREAM_TIMES_H_
#define CALLOUT_HOST_TRANSPORT_STREAM_TIMES_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/metrics/metrics.h"
#include "host/transport/limits.h"

namespace callout::host {

enum class StreamTime : uint8_t { kFirstMessage, kMessage, kAge };

struct StreamTimeMetrics {
  // callout_streams_timed_out_total{limit}
  static absl::StatusOr<StreamTimeMetrics> Define(Metrics* metrics);

  std::array<Metrics::Id, 3> timed_out{};
};

// The end of an RPC that has reached the limit: DEADLINE_EXCEEDED, which names the
// option and its value.
absl::Status StreamTimeError(StreamTime time, const TransportLimits& limits);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_STREAM_TIMES_H_
