// SPDX-License-Identifier: Apache-2.0

// Decides which exchanges are traced, by the names that OTEL_TRACES_SAMPLER has: always_on,
// always_off, traceidratio, and parentbased_ before each of them.
//
//   absl::StatusOr<Sampler> sampler = Sampler::Parse("parentbased_traceidratio", "0.01");
//   if (sampler->Samples(parent, trace_id)) …
//
// Plain values; any thread.
#ifndef CALLOUT_HOST_TRACE_SAMPLER_H_
#define CALLOUT_HOST_TRACE_SAMPLER_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "host/trace/trace_context.h"

namespace callout::host {

class Sampler {
 public:
  // parentbased_always_on, OpenTelemetry's default.
  Sampler() = default;

  // `argument` is the ratio of the traceidratio samplers, 0 to 1; "" is 1. Others ignore it.
  // INVALID_ARGUMENT says what was expected.
  static absl::StatusOr<Sampler> Parse(std::string_view name, std::string_view argument);

  // `parent` is null if the exchange has none. Then, or if the sampler does not obey parents, the
  // trace's id decides: hosts with the same ratio choose the same traces.
  bool Samples(const SpanContext* parent, const TraceId& trace_id) const {
    if (obeys_parent_ && parent != nullptr) return parent->sampled;
    return SamplesNew(EndOf(trace_id));
  }
  // Of a trace without parent whose id ends like this (NewTraceIdEnd): the last 63 random bits
  // decide, as in OpenTelemetry's SDKs.
  bool SamplesNew(uint64_t trace_id_end) const { return (trace_id_end >> 1) < ids_below_; }

 private:
  bool obeys_parent_ = true;
  // Of 2^63 ids; kAll: every one.
  static constexpr uint64_t kAll = uint64_t{1} << 63;
  uint64_t ids_below_ = kAll;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRACE_SAMPLER_H_
