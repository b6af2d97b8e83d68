// SPDX-License-Identifier: Apache-2.0

// What a plugin has added to the span of its call: attributes and events, within limits.
//
//   SpanBudget budget{limits.bytes_max};               // of the exchange
//   SpanNotes notes;                                   // of the call
//   if (!notes.Set({"waf.rule", int64_t{7}}, limits, &budget)) …  // over a limit: counted in it
//
// Texts are UTF-8, which whoever takes them from the plugin checks. One thread at a time.
//
// Tested by tests/host/trace/span_notes_test.cc.
#ifndef CALLOUT_HOST_TRACE_SPAN_NOTES_H_
#define CALLOUT_HOST_TRACE_SPAN_NOTES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "host/trace/trace_context.h"

namespace callout::host {

struct SpanLimits {
  size_t attributes_max = 128;        // OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, of a call
  size_t events_max = 128;            // OTEL_SPAN_EVENT_COUNT_LIMIT, of a call
  size_t event_attributes_max = 128;  // OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT
  size_t text_bytes_max = 1024;       // OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT
  size_t bytes_max = 65536;           // --max_trace_bytes, of an exchange
};

struct SpanAttribute {
  std::string key;
  std::variant<std::string, int64_t, double, bool> value;
};

struct SpanEvent {
  std::string name;
  uint64_t at_ns = 0;  // CLOCK_MONOTONIC
  std::vector<SpanAttribute> attributes;
  size_t dropped_attributes = 0;
};

// The bytes that plugins may still add to an exchange.
struct SpanBudget {
  size_t left;
};

// `text`, or its beginning of at most `bytes_max` bytes, cut after a whole character.
std::string_view CutText(std::string_view text, size_t bytes_max);

class SpanNotes {
 public:
  // What an attribute and an event take of the budget beside their texts: about their memory.
  static constexpr size_t kAttributeBytes = 96;
  static constexpr size_t kEventBytes = 96;

  // Sets an attribute, in place of one of this key. False: it is over a limit, and counted.
  bool Set(SpanAttribute attribute, const SpanLimits& limits, SpanBudget* budget);
  // False: it is over a limit, and counted. Attributes over theirs are left out and counted.
  bool Add(SpanEvent event, const SpanLimits& limits, SpanBudget* budget);

  // The span's id, which the plugin may pass on before the span is over.
  const SpanId& id() {
    if (!id_.has_value()) id_ = NewSpanId();
    return *id_;
  }
  const std::optional<SpanId>& known_id() const { return id_; }
  const std::vector<SpanAttribute>& attributes() const { return attributes_; }
  const std::vector<SpanEvent>& events() const { return events_; }
  size_t dropped_attributes() const { return dropped_attributes_; }
  size_t dropped_events() const { return dropped_events_; }

 private:
  std::optional<SpanId> id_;
  std::vector<SpanAttribute> attributes_;
  std::vector<SpanEvent> events_;
  size_t dropped_attributes_ = 0;
  size_t dropped_events_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRACE_SPAN_NOTES_H_
