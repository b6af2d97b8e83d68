// SPDX-License-Identifier: Apache-2.0

#include "host/transport/stream_times.h"

#include <fmt/format.h>

namespace callout::host {

absl::StatusOr<StreamTimeMetrics> StreamTimeMetrics::Define(Metrics* metrics) {
  StreamTimeMetrics defined;
  constexpr const char* kLimits[] = {"first_message", "message", "age"};
  for (size_t i = 0; i < defined.timed_out.size(); ++i) {
    absl::StatusOr<Metrics::Id> id = metrics->Define(
        Metrics::Kind::kCounter, "callout_streams_timed_out_total",
        "RPCs ended because the client took too long, by the limit", {{"limit", kLimits[i]}});
    if (!id.ok()) return id.status();
    defined.timed_out[i] = *id;
  }
  return defined;
}

absl::Status StreamTimeError(StreamTime time, const TransportLimits& limits) {
  const auto error = [](const char* found, const char* option, uint64_t value_ms) {
    return absl::DeadlineExceededError(fmt::format("{} --{}={}", found, option, value_ms));
  };
  switch (time) {
    case StreamTime::kFirstMessage:
      return error("no message came within", "first_message_timeout_ms",
                   limits.first_message_timeout_ms);
    case StreamTime::kMessage:
      return error("no further message came within", "stream_idle_timeout_ms",
                   limits.stream_idle_timeout_ms);
    case StreamTime::kAge:
      break;
  }
  return error("the stream is older than", "max_stream_duration_ms", limits.stream_duration_ms_max);
}

}  // namespace callout::host
