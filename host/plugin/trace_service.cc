// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/trace_service.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "host/base/clock.h"
#include "host/base/utf8.h"
#include "host/plugin/call.h"
#include "host/plugin/instance.h"
#include "host/plugin/rpc_context.h"
#include "host/plugin/services.h"
#include "host/plugin/span_writer.h"
#include "host/trace/trace_context.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

// Null if the exchange is not recorded, or the hook has no span: that of cancel has a state of its
// own, which no call has begun, and that of close knows the end.
SpanWriter* WriterOf(const callout_call_t& call, const CallState& state) {
  if (state.observers == nullptr || state.begin_ns == 0 || call.end != nullptr) return nullptr;
  return state.observers->span_writer();
}

int32_t IsRecording(const callout_call_t* call) {
  const CallState* state = FindState(call, "callout.trace: is_recording");
  if (state == nullptr) return 0;
  SpanWriter* writer = WriterOf(*call, *state);
  return writer != nullptr && writer->IsOpen(*state) ? 1 : 0;
}

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= CALLOUT_TRACE_KEY_BYTES_MAX && IsUtf8(name);
}

bool IsLegal(const callout_trace_attribute_t& attribute) {
  const std::string_view key = ToView(attribute.key);
  if (!IsName(key) || key == "http.response.status_code" || key.starts_with("callout.")) {
    return false;
  }
  switch (attribute.type) {
    case CALLOUT_TRACE_TEXT:
      return IsUtf8(ToView(attribute.text));
    case CALLOUT_TRACE_FLAG:
      return attribute.integer == 0 || attribute.integer == 1;
    default:
      return attribute.type == CALLOUT_TRACE_INTEGER || attribute.type == CALLOUT_TRACE_REAL;
  }
}

// Of a text only what may be kept is copied.
SpanAttribute ToAttribute(const callout_trace_attribute_t& from, const SpanLimits& limits) {
  SpanAttribute attribute{std::string(ToView(from.key)), {}};
  switch (from.type) {
    case CALLOUT_TRACE_TEXT:
      attribute.value = std::string(CutText(ToView(from.text), limits.text_bytes_max));
      break;
    case CALLOUT_TRACE_INTEGER:
      attribute.value = from.integer;
      break;
    case CALLOUT_TRACE_REAL:
      attribute.value = from.real;
      break;
    default:
      attribute.value = from.integer != 0;
  }
  return attribute;
}

callout_status_t Illegal(const callout_call_t& call, const char* service) {
  return RefuseCall(
      call, service, CALLOUT_INVALID_ARGUMENT,
      "a key or name has 1 to 256 bytes of UTF-8, a text is UTF-8, the type is one of "
      "CALLOUT_TRACE_..., and keys that begin with callout. are the host's");
}

callout_status_t StatusOf(SpanWriter::Added added, const callout_call_t& call,
                          const CallState& state, const SpanLimits& limits, const char* what) {
  switch (added) {
    case SpanWriter::Added::kYes:
      return CALLOUT_OK;
    case SpanWriter::Added::kEnded:
      return CALLOUT_FAILED_PRECONDITION;
    default:
      break;
  }
  state.instance->extensions()->CountTraceDrop(
      what, call.phase,
      fmt::format("limits: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT={}, OTEL_SPAN_EVENT_COUNT_LIMIT={}, "
                  "--max_trace_bytes={} for an exchange",
                  limits.attributes_max, limits.events_max, limits.bytes_max));
  return CALLOUT_RESOURCE_EXHAUSTED;
}

callout_status_t SetAttribute(callout_call_t* call, const callout_trace_attribute_t* attribute) {
  constexpr char kService[] = "callout.trace: set_attribute";
  const CallState* state = FindState(call, kService);
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  SpanWriter* writer = WriterOf(*call, *state);
  if (writer == nullptr) return CALLOUT_OK;
  if (attribute == nullptr || !IsLegal(*attribute)) return Illegal(*call, kService);
  const SpanLimits& limits = writer->limits();
  return StatusOf(writer->SetAttribute(*state, ToAttribute(*attribute, limits)), *call, *state,
                  limits, "attribute");
}

callout_status_t AddEvent(callout_call_t* call, callout_bytes_t name,
                          const callout_trace_attribute_t* attributes, size_t count) {
  constexpr char kService[] = "callout.trace: add_event";
  const CallState* state = FindState(call, kService);
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  SpanWriter* writer = WriterOf(*call, *state);
  if (writer == nullptr) return CALLOUT_OK;
  if (!IsName(ToView(name))) return Illegal(*call, kService);
  const SpanLimits& limits = writer->limits();
  SpanEvent event{std::string(ToView(name)), MonotonicNs(), {}, 0};
  for (size_t i = 0; i < count; ++i) {
    if (!IsLegal(attributes[i])) return Illegal(*call, kService);
    if (event.attributes.size() < limits.event_attributes_max) {
      event.attributes.push_back(ToAttribute(attributes[i], limits));
    } else {
      ++event.dropped_attributes;
    }
  }
  return StatusOf(writer->AddEvent(*state, std::move(event)), *call, *state, limits, "event");
}

void WriteTraceparent(const SpanContext& context, char* to) {
  const std::string text = fmt::format("00-{}-{}-{}", ToHex(context.trace_id),
                                       ToHex(context.span_id), context.sampled ? "01" : "00");
  static_assert(CALLOUT_TRACEPARENT_BYTES == 2 + 1 + 32 + 1 + 16 + 1 + 2);
  std::memcpy(to, text.data(), CALLOUT_TRACEPARENT_BYTES);
}

// What came with the gRPC request, to be passed on by a host that adds no span.
bool IncomingContext(const RpcContext& rpc, SpanContext* context, std::string_view* tracestate) {
  std::string_view value, second;
  if (!rpc.GetMetadata("traceparent", 0, &value) || rpc.GetMetadata("traceparent", 1, &second)) {
    return false;
  }
  std::optional<SpanContext> parent = ParseTraceparent(value);
  if (!parent.has_value()) return false;
  *context = *std::move(parent);
  // Several would have to be joined; the specification lets them be dropped.
  if (rpc.GetMetadata("tracestate", 0, &value) && !rpc.GetMetadata("tracestate", 1, &second) &&
      value.size() <= kTracestateBytesMax) {
    *tracestate = value;
  }
  return true;
}

callout_status_t GetContext(const callout_call_t* call, char* traceparent,
                            callout_bytes_t* tracestate) {
  const CallState* state = FindState(call, "callout.trace: get_context");
  if (tracestate != nullptr) *tracestate = {};
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  SpanWriter* writer = WriterOf(*call, *state);
  SpanContext context;
  std::string_view with;
  if (writer != nullptr && writer->ContextOf(*state, &context)) {
    with = writer->tracestate();
  } else if (!IncomingContext(*state->rpc, &context, &with)) {
    return CALLOUT_NOT_FOUND;
  }
  WriteTraceparent(context, traceparent);
  if (tracestate != nullptr) *tracestate = ToBytes(with);
  return CALLOUT_OK;
}

}  // namespace

const callout_trace_t kTraceService = {sizeof(kTraceService), 0,        IsRecording,
                                       SetAttribute,          AddEvent, GetContext};

}  // namespace callout::host
