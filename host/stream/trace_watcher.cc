// SPDX-License-Identifier: Apache-2.0

#include "host/stream/trace_watcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/base/status_text.h"
#include "host/plugin/call.h"
#include "host/plugin/instance.h"
#include "host/plugin/rpc_context.h"
#include "host/plugin/span_writer.h"
#include "host/wire/header_facts.h"
#include "host/wire/response.h"

namespace callout::host {
namespace {

constexpr std::string_view kTraceparent = "traceparent";
constexpr std::string_view kTracestate = "tracestate";

// As in OpenTelemetry's conventions for gRPC.
std::string_view StatusCodeName(absl::StatusCode code) {
  constexpr std::array<std::string_view, 17> kNames = {"OK",
                                                       "CANCELLED",
                                                       "UNKNOWN",
                                                       "INVALID_ARGUMENT",
                                                       "DEADLINE_EXCEEDED",
                                                       "NOT_FOUND",
                                                       "ALREADY_EXISTS",
                                                       "PERMISSION_DENIED",
                                                       "RESOURCE_EXHAUSTED",
                                                       "FAILED_PRECONDITION",
                                                       "ABORTED",
                                                       "OUT_OF_RANGE",
                                                       "UNIMPLEMENTED",
                                                       "INTERNAL",
                                                       "UNAVAILABLE",
                                                       "DATA_LOSS",
                                                       "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < kNames.size() ? kNames[index] : "UNKNOWN";
}

// Several of one name count as none, as the specification has it.
std::string_view MetadataOf(const RpcContext& rpc, std::string_view key) {
  std::string_view value, second;
  if (!rpc.GetMetadata(key, 0, &value) || rpc.GetMetadata(key, 1, &second)) return {};
  return value;
}

// Several are one list.
std::string TracestateOf(const RpcContext& rpc) {
  std::string state;
  std::string_view value;
  for (uint32_t i = 0; rpc.GetMetadata(kTracestate, i, &value); ++i) {
    if (i > 0) state += ",";
    state += value;
    if (state.size() > kTracestateBytesMax) break;  // it is dropped then
  }
  return state;
}

std::string_view MethodOf(const RpcStart& start) { return InfoOf(start.service).path.substr(1); }

std::string OutcomeOf(const CallResult& result) {
  if (result.outcome == CallOutcome::kFault) {
    return fmt::format("fault:{}", ViolationName(result.violation));
  }
  if (result.outcome == CallOutcome::kOverruled) {
    return fmt::format("overruled:{}", OverruledName(result.overruled));
  }
  return std::string(CallOutcomeName(result.outcome));
}

// What plugins add before their calls are over. A plugin may do so from any thread, and after the
// host has given its call up, or the RPC has ended.
class OpenSpans final : public SpanWriter {
 public:
  // `limits` outlive this.
  OpenSpans(const SpanContext& exchange, const SpanLimits& limits)
      : limits_(limits),
        trace_id_(exchange.trace_id),
        tracestate_(exchange.state),
        budget_{limits.bytes_max} {}

  bool IsOpen(const CallState& call) override {
    const std::lock_guard lock(mutex_);
    return !ended_ && !Find(&call, call.begin_ns).ended;
  }
  Added SetAttribute(const CallState& call, SpanAttribute attribute) override {
    const std::lock_guard lock(mutex_);
    SpanNotes* const notes = NotesOf(call);
    if (notes == nullptr) return Added::kEnded;
    return notes->Set(std::move(attribute), limits_, &budget_) ? Added::kYes : Added::kOverLimit;
  }
  Added AddEvent(const CallState& call, SpanEvent event) override {
    const std::lock_guard lock(mutex_);
    SpanNotes* const notes = NotesOf(call);
    if (notes == nullptr) return Added::kEnded;
    return notes->Add(std::move(event), limits_, &budget_) ? Added::kYes : Added::kOverLimit;
  }
  bool ContextOf(const CallState& call, SpanContext* span) override {
    const std::lock_guard lock(mutex_);
    SpanNotes* const notes = NotesOf(call);
    if (notes == nullptr) return false;
    span->trace_id = trace_id_;
    span->span_id = notes->id();
    span->sampled = true;
    return true;
  }
  std::string trace_id() const override { return ToHex(trace_id_); }
  std::string_view tracestate() const override { return tracestate_; }
  const SpanLimits& limits() const override { return limits_; }

  // The call is over: nothing can be added any more. Null: nothing was.
  std::unique_ptr<SpanNotes> Close(const CallRecord& call) {
    const std::lock_guard lock(mutex_);
    OpenSpan& span = Find(call.state, call.begin_ns);
    span.ended = true;
    return std::move(span.notes);
  }
  void CloseAll() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }

 private:
  struct OpenSpan {
    const CallState* call;  // compared only
    uint64_t begin_ns;
    std::unique_ptr<SpanNotes> notes;
    bool ended;
  };

  // A CallState is used for one call after the other, so that there are as many as the chain needs.
  OpenSpan& Find(const CallState* call, uint64_t begin_ns) {
    const auto found = std::find_if(spans_.begin(), spans_.end(),
                                    [call](const OpenSpan& span) { return span.call == call; });
    OpenSpan& span = found != spans_.end() ? *found : spans_.emplace_back();
    if (span.begin_ns != begin_ns) span = {call, begin_ns, nullptr, false};
    return span;
  }
  // Null: the span is over.
  SpanNotes* NotesOf(const CallState& call) {
    OpenSpan& span = Find(&call, call.begin_ns);
    if (ended_ || span.ended) return nullptr;
    if (span.notes == nullptr) span.notes = std::make_unique<SpanNotes>();
    return span.notes.get();
  }

  const SpanLimits& limits_;
  const TraceId trace_id_;
  const std::string tracestate_;
  std::mutex mutex_;  // guards the following
  SpanBudget budget_;
  std::vector<OpenSpan> spans_;
  bool ended_ = false;  // the RPC
};

class TraceObserver final : public RpcObserver {
 public:
  TraceObserver(const Tracer* tracer, std::unique_ptr<ExchangeTrace> trace,
                const SpanLimits& limits)
      : tracer_(tracer), trace_(std::move(trace)), open_spans_(trace_->context(), limits) {}

  SpanWriter* span_writer() override { return &open_spans_; }

  void OnCall(const CallRecord& call) override {
    if (trace_ == nullptr) return;
    const CallResult& result = call.result;
    if (result.http_status != 0) trace_->SetHttpStatus(result.http_status);
    trace_->AddCall({.plugin = call.instance->name(),
                     .phase = PhaseName(call.phase),
                     .outcome = OutcomeOf(result),
                     .deferred = call.deferred,
                     .generation = call.instance->generation(),
                     .http_status = result.http_status,
                     .request_bytes = call.message_bytes,
                     .response_bytes = result.changed_bytes,
                     .begin_ns = call.begin_ns,
                     .end_ns = call.end_ns,
                     .failed = result.outcome == CallOutcome::kFault,
                     .notes = open_spans_.Close(call)});
  }

  void OnEnd(const RpcEnd& end) override {
    if (trace_ == nullptr) return;
    open_spans_.CloseAll();
    // A client that leaves is no error of the host: Envoy's normal end looks the same.
    const bool failed = !end.status.ok() && !absl::IsCancelled(end.status);
    trace_->End({.status = StatusCodeName(end.status.code()),
                 .failed = failed,
                 .message = failed ? std::string(MessageOf(end.status)) : std::string(),
                 .end_ns = end.at_ns});
    tracer_->Take(std::move(trace_));
  }

 private:
  const Tracer* const tracer_;
  std::unique_ptr<ExchangeTrace> trace_;  // null after the end
  OpenSpans open_spans_;
};

}  // namespace

// Most exchanges come here and are not sampled, so what only a trace needs is read last.
std::unique_ptr<RpcObserver> TraceWatcher::Watch(const RpcStart& start) {
  const std::string_view of_rpc = MetadataOf(*start.rpc, kTraceparent);
  if (!of_rpc.empty()) return WatchBelow(start, of_rpc);
  const std::string_view of_request = SearchHeader(start.headers, kTraceparent);
  if (!of_request.empty()) return WatchBelow(start, {});
  uint64_t trace_id_end = 0;
  if (!tracer_.SamplesNew(&trace_id_end)) return nullptr;
  return Observe(start, Tracer::BeginNew(MethodOf(start), trace_id_end, start.at_ns));
}

// With a traceparent of the RPC, or "", and perhaps one of the HTTP request. They may be invalid.
std::unique_ptr<RpcObserver> TraceWatcher::WatchBelow(const RpcStart& start,
                                                      std::string_view of_rpc) {
  std::optional<SpanContext> parent = ParseTraceparent(of_rpc);
  const bool is_of_rpc = parent.has_value();
  if (!is_of_rpc) parent = ParseTraceparent(SearchHeader(start.headers, kTraceparent));
  std::unique_ptr<ExchangeTrace> trace = tracer_.Begin(MethodOf(start), parent, start.at_ns);
  if (trace == nullptr) return nullptr;
  if (is_of_rpc) {
    trace->SetTracestate(TracestateOf(*start.rpc));
  } else if (parent.has_value()) {
    trace->SetTracestate(FindHeader(start.headers, kTracestate));
  }
  return Observe(start, std::move(trace));
}

std::unique_ptr<RpcObserver> TraceWatcher::Observe(const RpcStart& start,
                                                   std::unique_ptr<ExchangeTrace> trace) {
  trace->SetRequest(FindHeader(start.headers, ":method"), FindHeader(start.headers, ":path"));
  trace->SetStreamId(start.stream_id);
  return std::make_unique<TraceObserver>(&tracer_, std::move(trace), limits_);
}

}  // namespace callout::host
