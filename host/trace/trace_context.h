// SPDX-License-Identifier: Apache-2.0

// Where a span stands in a trace, and how its caller says so: the headers traceparent and
// tracestate of W3C Trace Context (www.w3.org/TR/trace-context).
//
//   std::optional<SpanContext> parent = ParseTraceparent(value);
//   if (parent.has_value()) parent->state = CheckedTracestate(other_value);
//
// Plain functions and values; any thread.
#ifndef CALLOUT_HOST_TRACE_TRACE_CONTEXT_H_
#define CALLOUT_HOST_TRACE_TRACE_CONTEXT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace callout::host {

// Bytes of the longest tracestate that is kept, and of the longest traceparent that is read.
inline constexpr size_t kTracestateBytesMax = 512;
inline constexpr size_t kTraceparentBytesMax = 512;

using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

struct SpanContext {
  TraceId trace_id{};
  SpanId span_id{};
  bool sampled = false;
  std::string state;  // tracestate; "": none
};

// None unless `text` is valid by the specification: a version below ff, and ids that are not all
// zeros. A later version may have more after the flags. A client may have written it.
std::optional<SpanContext> ParseTraceparent(std::string_view text);

// `text` if it may stand in a trace: printable ASCII of at most kTracestateBytesMax. Else "", since
// the specification lets whoever cannot read it drop it.
std::string CheckedTracestate(std::string_view text);

// New random ids; never all zeros. From a generator of the calling thread, which the system seeds.
TraceId NewTraceId();
SpanId NewSpanId();

// The last 8 bytes of an id, big-endian: samplers decide by them.
uint64_t EndOf(const TraceId& id);
// A new id in two steps, for a caller that needs the rest of it only if its end is of a kind.
uint64_t NewTraceIdEnd();
TraceId NewTraceId(uint64_t end);

// Lower-case hexadecimal, as in traceparent and in the log.
std::string ToHex(const TraceId& id);
std::string ToHex(const SpanId& id);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRACE_TRACE_CONTEXT_H_
