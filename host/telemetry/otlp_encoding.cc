// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/otlp_encoding.h"

#include <bit>
#include <variant>

#include "host/base/utf8.h"
#include "host/trace/span_notes.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

static_assert(std::endian::native == std::endian::little,
              "fixed-size fields are copied as they are");

// Field numbers of opentelemetry-proto v1 (collector/trace/v1, trace/v1, resource/v1, common/v1).
namespace export_request {
constexpr uint32_t kResourceSpans = 1;
}
namespace resource_spans {
constexpr uint32_t kResource = 1, kScopeSpans = 2;
}
namespace resource_message {
constexpr uint32_t kAttributes = 1;
}
namespace scope_spans {
constexpr uint32_t kScope = 1, kSpans = 2;
}
namespace scope {
constexpr uint32_t kName = 1, kVersion = 2;
}
namespace span {
constexpr uint32_t kTraceId = 1, kSpanId = 2, kTraceState = 3, kParentSpanId = 4, kName = 5,
                   kKind = 6, kStartTime = 7, kEndTime = 8, kAttributes = 9,
                   kDroppedAttributes = 10, kEvents = 11, kDroppedEvents = 12, kStatus = 15,
                   kFlags = 16;
constexpr uint64_t kInternal = 1, kServer = 2;  // SpanKind
// W3C's flags in the lowest byte; above them whether it is known where the parent is, and that.
constexpr uint32_t kSampled = 0x01, kHasIsRemote = 0x100, kIsRemote = 0x200;
}  // namespace span
namespace event {
constexpr uint32_t kTime = 1, kName = 2, kAttributes = 3, kDroppedAttributes = 4;
}
namespace status {
constexpr uint32_t kMessage = 2, kCode = 3;
constexpr uint64_t kError = 2;
}  // namespace status
namespace key_value {
constexpr uint32_t kKey = 1, kValue = 2;
}
namespace any_value {
constexpr uint32_t kString = 1, kBool = 2, kInt = 3, kDouble = 4;
}
namespace export_response {
constexpr uint32_t kPartialSuccess = 1, kRejectedSpans = 1, kErrorMessage = 2;
}

constexpr size_t kReplyTextBytesMax = 200;

void AppendFixed64(uint32_t number, uint64_t value, std::string* out) {
  AppendRawVarint(uint64_t{number} << 3 | 1, out);
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendFixed32(uint32_t number, uint32_t value, std::string* out) {
  AppendRawVarint(uint64_t{number} << 3 | 5, out);
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <class Id>
void AppendId(uint32_t number, const Id& id, std::string* out) {
  AppendBytes(number, {reinterpret_cast<const char*>(id.data()), id.size()}, out);
}

// All of a KeyValue but the one field of its AnyValue, which has `any_bytes` bytes and follows.
void AppendKeyValueHead(uint32_t number, std::string_view key, size_t any_bytes, std::string* out) {
  AppendBytesHead(number,
                  BytesSize(key_value::kKey, key.size()) + BytesSize(key_value::kValue, any_bytes),
                  out);
  AppendBytes(key_value::kKey, key, out);
  AppendBytesHead(key_value::kValue, any_bytes, out);
}

void AppendText(uint32_t number, std::string_view key, std::string_view value, std::string* out) {
  AppendKeyValueHead(number, key, BytesSize(any_value::kString, value.size()), out);
  AppendBytes(any_value::kString, value, out);
}

void AppendNumber(uint32_t number, std::string_view key, uint64_t value, std::string* out) {
  constexpr size_t kTagBytes = 1;
  AppendKeyValueHead(number, key, kTagBytes + VarintSize(value), out);
  AppendVarint(any_value::kInt, value, out);
}

void AppendFlag(uint32_t number, std::string_view key, bool value, std::string* out) {
  constexpr size_t kFlagBytes = 2;  // the tag and the flag
  AppendKeyValueHead(number, key, kFlagBytes, out);
  AppendVarint(any_value::kBool, value ? 1 : 0, out);
}

void AppendReal(uint32_t number, std::string_view key, double value, std::string* out) {
  constexpr size_t kRealBytes = 9;  // the tag and the number
  AppendKeyValueHead(number, key, kRealBytes, out);
  AppendFixed64(any_value::kDouble, std::bit_cast<uint64_t>(value), out);
}

void AppendAttribute(uint32_t number, const SpanAttribute& attribute, std::string* out) {
  if (const auto* text = std::get_if<std::string>(&attribute.value)) {
    AppendText(number, attribute.key, *text, out);
  } else if (const auto* whole = std::get_if<int64_t>(&attribute.value)) {
    AppendNumber(number, attribute.key, static_cast<uint64_t>(*whole), out);
  } else if (const auto* real = std::get_if<double>(&attribute.value)) {
    AppendReal(number, attribute.key, *real, out);
  } else {
    AppendFlag(number, attribute.key, std::get<bool>(attribute.value), out);
  }
}

void AppendCount(uint32_t number, size_t count, std::string* out) {
  if (count != 0) AppendVarint(number, count, out);
}

// A field that is a message, which `append` appends. Its length goes before it when it is known:
// for a span that is cheaper than a string of its own.
template <class Append>
void AppendMessage(uint32_t number, std::string* out, Append append) {
  AppendRawVarint(uint64_t{number} << 3 | 2, out);
  const size_t begin = out->size();
  append();
  std::string size;  // too short for memory of its own
  AppendRawVarint(out->size() - begin, &size);
  out->insert(begin, size);
}

void AppendEvent(const SpanEvent& from, uint64_t offset_ns, std::string* out) {
  AppendMessage(span::kEvents, out, [&] {
    AppendFixed64(event::kTime, from.at_ns + offset_ns, out);
    AppendBytes(event::kName, from.name, out);
    for (const SpanAttribute& attribute : from.attributes) {
      AppendAttribute(event::kAttributes, attribute, out);
    }
    AppendCount(event::kDroppedAttributes, from.dropped_attributes, out);
  });
}

// What the plugin has added.
void AppendNotes(const SpanNotes& notes, uint64_t offset_ns, std::string* out) {
  for (const SpanAttribute& attribute : notes.attributes()) {
    AppendAttribute(span::kAttributes, attribute, out);
  }
  AppendCount(span::kDroppedAttributes, notes.dropped_attributes(), out);
  for (const SpanEvent& event : notes.events()) AppendEvent(event, offset_ns, out);
  AppendCount(span::kDroppedEvents, notes.dropped_events(), out);
}

void AppendError(std::string_view message, std::string* out) {
  AppendMessage(span::kStatus, out, [&] {
    if (!message.empty()) AppendBytes(status::kMessage, message, out);
    AppendVarint(status::kCode, status::kError, out);
  });
}

// What both kinds of spans have beside name and attributes.
struct SpanFacts {
  const SpanId& id;
  const SpanId* parent;  // null: none
  bool has_remote_parent;
  uint64_t kind;
  uint64_t begin_ns;  // since 1970
  uint64_t end_ns;
};

void AppendFacts(const SpanContext& context, const SpanFacts& facts, std::string* out) {
  AppendId(span::kTraceId, context.trace_id, out);
  AppendId(span::kSpanId, facts.id, out);
  if (!context.state.empty()) AppendBytes(span::kTraceState, context.state, out);
  if (facts.parent != nullptr) AppendId(span::kParentSpanId, *facts.parent, out);
  AppendVarint(span::kKind, facts.kind, out);
  AppendFixed64(span::kStartTime, facts.begin_ns, out);
  AppendFixed64(span::kEndTime, facts.end_ns, out);
  const uint32_t remote = facts.has_remote_parent ? span::kIsRemote : 0;
  AppendFixed32(span::kFlags, span::kSampled | span::kHasIsRemote | remote, out);
}

void AppendServerSpan(const ExchangeTrace& trace, uint64_t offset_ns, std::string* out) {
  const SpanId* const parent = trace.parent().has_value() ? &*trace.parent() : nullptr;
  AppendFacts(trace.context(),
              {.id = trace.context().span_id,
               .parent = parent,
               .has_remote_parent = parent != nullptr,
               .kind = span::kServer,
               .begin_ns = trace.begin_ns() + offset_ns,
               .end_ns = trace.end().end_ns + offset_ns},
              out);
  AppendBytes(span::kName, trace.method(), out);
  const auto text = [out](std::string_view key, std::string_view value) {
    if (!value.empty()) AppendText(span::kAttributes, key, value, out);
  };
  const auto number = [out](std::string_view key, uint64_t value) {
    if (value != 0) AppendNumber(span::kAttributes, key, value, out);
  };
  text("rpc.system.name", "grpc");
  text("rpc.method", trace.method());
  text("rpc.response.status_code", trace.end().status);
  text("http.request.method", trace.http_method());
  text("url.path", trace.path());
  number("http.response.status_code", static_cast<uint64_t>(trace.http_status()));
  number("callout.stream", trace.stream_id());
  number("callout.calls_left_out", trace.calls_left_out());
  if (trace.end().failed) AppendError(trace.end().message, out);
}

// "waf request_headers"
void AppendNameOf(const CallSpan& call, std::string* out) {
  AppendBytesHead(span::kName, call.plugin.size() + 1 + call.phase.size(), out);
  out->append(call.plugin);
  out->push_back(' ');
  out->append(call.phase);
}

void AppendCallSpan(const ExchangeTrace& trace, const CallSpan& call, uint64_t offset_ns,
                    std::string* out) {
  const bool has_id = call.notes != nullptr && call.notes->known_id().has_value();
  const SpanId id = has_id ? *call.notes->known_id() : NewSpanId();
  AppendFacts(trace.context(),
              {.id = id,
               .parent = &trace.context().span_id,
               .has_remote_parent = false,
               .kind = span::kInternal,
               .begin_ns = call.begin_ns + offset_ns,
               .end_ns = call.end_ns + offset_ns},
              out);
  AppendNameOf(call, out);
  AppendText(span::kAttributes, "callout.plugin", call.plugin, out);
  AppendText(span::kAttributes, "callout.phase", call.phase, out);
  AppendText(span::kAttributes, "callout.outcome", call.outcome, out);
  AppendFlag(span::kAttributes, "callout.deferred", call.deferred, out);
  if (call.generation != 0) {
    AppendNumber(span::kAttributes, "callout.generation", call.generation, out);
  }
  if (call.http_status != 0) {
    AppendNumber(span::kAttributes, "http.response.status_code",
                 static_cast<uint64_t>(call.http_status), out);
  }
  AppendNumber(span::kAttributes, "callout.request_bytes", call.request_bytes, out);
  AppendNumber(span::kAttributes, "callout.response_bytes", call.response_bytes, out);
  if (call.notes != nullptr) AppendNotes(*call.notes, offset_ns, out);
  if (call.failed) AppendError(call.outcome, out);
}

void AppendScopeSpans(const std::vector<std::unique_ptr<ExchangeTrace>>& traces, uint64_t offset_ns,
                      std::string* out) {
  AppendMessage(scope_spans::kScope, out, [&] {
    AppendBytes(scope::kName, "callout-host", out);
    AppendBytes(scope::kVersion, CALLOUT_HOST_VERSION, out);
  });
  for (const std::unique_ptr<ExchangeTrace>& trace : traces) {
    AppendMessage(scope_spans::kSpans, out, [&] { AppendServerSpan(*trace, offset_ns, out); });
    for (const CallSpan& call : trace->calls()) {
      AppendMessage(scope_spans::kSpans, out,
                    [&] { AppendCallSpan(*trace, call, offset_ns, out); });
    }
  }
}

}  // namespace

std::string EncodeTraces(const OtlpResource& resource,
                         const std::vector<std::unique_ptr<ExchangeTrace>>& traces,
                         uint64_t unix_offset_ns) {
  constexpr size_t kUsualSpanBytes = 512;
  size_t spans = 0;
  for (const std::unique_ptr<ExchangeTrace>& trace : traces) spans += trace->span_count();
  std::string request;
  request.reserve((spans + 1) * kUsualSpanBytes);
  AppendMessage(export_request::kResourceSpans, &request, [&] {
    AppendMessage(resource_spans::kResource, &request, [&] {
      for (const auto& [key, value] : resource) {
        AppendText(resource_message::kAttributes, key, value, &request);
      }
    });
    AppendMessage(resource_spans::kScopeSpans, &request,
                  [&] { AppendScopeSpans(traces, unix_offset_ns, &request); });
  });
  return request;
}

OtlpReply ReadOtlpReply(std::string_view bytes) {
  OtlpReply reply;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(export_response::kPartialSuccess)) continue;
    WireReader partial(reader.bytes());
    while (partial.Next()) {
      if (partial.IsVarint(export_response::kRejectedSpans)) {
        reply.rejected_spans = partial.varint();
      } else if (partial.Is(export_response::kErrorMessage)) {
        reply.message = partial.bytes().substr(0, kReplyTextBytesMax);
      }
    }
    if (!partial.ok()) return {};
  }
  reply.valid = reader.ok();
  return reply.valid ? reply : OtlpReply{};
}

}  // namespace callout::host
