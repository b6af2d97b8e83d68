// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/otlp_encoding.h"

#include <fmt/format.h>

#include <bit>

#include "host/base/utf8.h"
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
                   kKind = 6, kStartTime = 7, kEndTime = 8, kAttributes = 9, kStatus = 15,
                   kFlags = 16;
constexpr uint64_t kInternal = 1, kServer = 2;  // SpanKind
// W3C's flags in the lowest byte; above them whether it is known where the parent is, and that.
constexpr uint32_t kSampled = 0x01, kHasIsRemote = 0x100, kIsRemote = 0x200;
}  // namespace span
namespace status {
constexpr uint32_t kMessage = 2, kCode = 3;
constexpr uint64_t kError = 2;
}  // namespace status
namespace key_value {
constexpr uint32_t kKey = 1, kValue = 2;
}
namespace any_value {
constexpr uint32_t kString = 1, kBool = 2, kInt = 3;
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

void AppendError(const std::string& message, std::string* out) {
  std::string text;
  if (!message.empty()) AppendBytes(status::kMessage, message, &text);
  AppendVarint(status::kCode, status::kError, &text);
  AppendBytes(span::kStatus, text, out);
}

// What both kinds of spans begin with.
std::string BeginSpan(const ExchangeTrace& trace, const SpanId& id, const SpanId* parent,
                      std::string_view name, uint64_t kind, uint64_t begin_ns, uint64_t end_ns) {
  constexpr size_t kUsualBytes = 512;
  std::string out;
  out.reserve(kUsualBytes);
  AppendId(span::kTraceId, trace.context().trace_id, &out);
  AppendId(span::kSpanId, id, &out);
  if (!trace.context().state.empty()) {
    AppendBytes(span::kTraceState, trace.context().state, &out);
  }
  if (parent != nullptr) AppendId(span::kParentSpanId, *parent, &out);
  AppendBytes(span::kName, name, &out);
  AppendVarint(span::kKind, kind, &out);
  AppendFixed64(span::kStartTime, begin_ns, &out);
  AppendFixed64(span::kEndTime, end_ns, &out);
  const bool remote = kind == span::kServer && parent != nullptr;
  AppendFixed32(span::kFlags, span::kSampled | span::kHasIsRemote | (remote ? span::kIsRemote : 0),
                &out);
  return out;
}

std::string EncodeServerSpan(const ExchangeTrace& trace, uint64_t offset_ns) {
  const SpanId* const parent = trace.parent().has_value() ? &*trace.parent() : nullptr;
  std::string out = BeginSpan(trace, trace.context().span_id, parent, trace.method(), span::kServer,
                              trace.begin_ns() + offset_ns, trace.end().end_ns + offset_ns);
  const auto text = [&out](std::string_view key, std::string_view value) {
    if (!value.empty()) AppendText(span::kAttributes, key, value, &out);
  };
  const auto number = [&out](std::string_view key, uint64_t value) {
    if (value != 0) AppendNumber(span::kAttributes, key, value, &out);
  };
  text("rpc.system.name", "grpc");
  text("rpc.method", trace.method());
  text("rpc.response.status_code", trace.end().status);
  text("http.request.method", trace.http_method());
  text("url.path", trace.path());
  number("http.response.status_code", static_cast<uint64_t>(trace.http_status()));
  number("callout.stream", trace.stream_id());
  number("callout.calls_left_out", trace.calls_left_out());
  if (trace.end().failed) AppendError(trace.end().message, &out);
  return out;
}

std::string EncodeCallSpan(const ExchangeTrace& trace, const CallSpan& call, uint64_t offset_ns) {
  std::string out = BeginSpan(trace, NewSpanId(), &trace.context().span_id,
                              fmt::format("{} {}", call.plugin, call.phase), span::kInternal,
                              call.begin_ns + offset_ns, call.end_ns + offset_ns);
  AppendText(span::kAttributes, "callout.plugin", call.plugin, &out);
  AppendText(span::kAttributes, "callout.phase", call.phase, &out);
  AppendText(span::kAttributes, "callout.outcome", call.outcome, &out);
  AppendFlag(span::kAttributes, "callout.deferred", call.deferred, &out);
  if (call.generation != 0) {
    AppendNumber(span::kAttributes, "callout.generation", call.generation, &out);
  }
  if (call.http_status != 0) {
    AppendNumber(span::kAttributes, "http.response.status_code",
                 static_cast<uint64_t>(call.http_status), &out);
  }
  AppendNumber(span::kAttributes, "callout.request_bytes", call.request_bytes, &out);
  AppendNumber(span::kAttributes, "callout.response_bytes", call.response_bytes, &out);
  if (call.failed) AppendError(call.outcome, &out);
  return out;
}

}  // namespace

std::string EncodeTraces(const OtlpResource& resource,
                         const std::vector<std::unique_ptr<ExchangeTrace>>& traces,
                         uint64_t unix_offset_ns) {
  std::string scope;
  AppendBytes(scope::kName, "callout-host", &scope);
  AppendBytes(scope::kVersion, CALLOUT_HOST_VERSION, &scope);
  std::string scope_spans;
  AppendBytes(scope_spans::kScope, scope, &scope_spans);
  for (const std::unique_ptr<ExchangeTrace>& trace : traces) {
    AppendBytes(scope_spans::kSpans, EncodeServerSpan(*trace, unix_offset_ns), &scope_spans);
    for (const CallSpan& call : trace->calls()) {
      AppendBytes(scope_spans::kSpans, EncodeCallSpan(*trace, call, unix_offset_ns), &scope_spans);
    }
  }
  std::string attributes;
  for (const auto& [key, value] : resource) {
    AppendText(resource_message::kAttributes, key, value, &attributes);
  }
  std::string resource_spans;
  AppendBytes(resource_spans::kResource, attributes, &resource_spans);
  AppendBytes(resource_spans::kScopeSpans, scope_spans, &resource_spans);
  std::string request;
  AppendBytes(export_request::kResourceSpans, resource_spans, &request);
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
