// SPDX-License-Identifier: Apache-2.0

// The spans of one exchange: a SERVER span for the RPC, and an INTERNAL one for each plugin call.
//
//   std::unique_ptr<ExchangeTrace> trace = tracer->Begin(kProcessMethod, parent, MonotonicNs());
//   if (trace != nullptr) {  // it is sampled
//     trace->SetRequest("GET", "/path");
//     trace->AddCall({.plugin = "waf", .phase = "request_headers", …});
//     trace->End({.status = "OK", .end_ns = MonotonicNs()});
//     tracer->Take(std::move(trace));
//   }
//
// Only an exchange that is sampled has one, so the others pay for the decision alone.
//
// A trace belongs to one thread at a time. A Tracer may be used by any thread.
#ifndef CALLOUT_HOST_TRACE_EXCHANGE_TRACE_H_
#define CALLOUT_HOST_TRACE_EXCHANGE_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/trace/sampler.h"
#include "host/trace/span_notes.h"
#include "host/trace/trace_context.h"

namespace callout::host {

// One plugin call. Texts are copied.
struct CallSpan {
  std::string plugin;           // the instance's name
  std::string_view phase = {};  // static: "request_headers", "check"
  std::string outcome = {};     // unchanged, changed, fault:KIND …: as at /metrics
  bool deferred = false;        // it was finished after its hook had returned
  uint64_t generation = 0;      // 0: not known
  int http_status = 0;          // of an immediate response; 0: none
  uint64_t request_bytes = 0;   // of the message that the hook was shown
  uint64_t response_bytes = 0;  // of what it set
  uint64_t begin_ns = 0;        // CLOCK_MONOTONIC
  uint64_t end_ns = 0;
  bool failed = false;                         // a fault: the span's status is ERROR
  std::unique_ptr<SpanNotes> notes = nullptr;  // of the plugin; null: none
};

// How the RPC ended.
struct ExchangeEnd {
  std::string_view status;  // static: gRPC's name of the code, "OK"
  bool failed = false;
  std::string message = {};  // of an error
  uint64_t end_ns = 0;
};

class ExchangeTrace {
 public:
  // Further calls of one exchange are counted only.
  static constexpr size_t kCallsMax = 128;
  // Longer texts are cut, and what is not UTF-8 is replaced.
  static constexpr size_t kTextBytesMax = 1024;

  // `method` is static: "envoy.service.ext_proc.v3.ExternalProcessor/Process".
  ExchangeTrace(std::string_view method, SpanContext context, std::optional<SpanId> parent,
                uint64_t begin_ns)
      : context_(std::move(context)), parent_(parent), method_(method), begin_ns_(begin_ns) {}

  void SetRequest(std::string_view http_method, std::string_view path);
  // That of the parent, where it may stand in a trace.
  void SetTracestate(std::string_view state) { context_.state = CheckedTracestate(state); }
  void SetStreamId(uint64_t id) { stream_id_ = id; }
  // The status that an immediate response gave.
  void SetHttpStatus(int status) { http_status_ = status; }
  void AddCall(CallSpan call);
  void End(ExchangeEnd end) { end_ = std::move(end); }

  const SpanContext& context() const { return context_; }
  const std::optional<SpanId>& parent() const { return parent_; }
  std::string_view method() const { return method_; }
  uint64_t begin_ns() const { return begin_ns_; }
  uint64_t stream_id() const { return stream_id_; }
  int http_status() const { return http_status_; }
  const std::string& http_method() const { return http_method_; }
  const std::string& path() const { return path_; }
  const std::vector<CallSpan>& calls() const { return calls_; }
  size_t calls_left_out() const { return calls_left_out_; }
  const ExchangeEnd& end() const { return end_; }
  size_t span_count() const { return 1 + calls_.size(); }

 private:
  SpanContext context_;  // of the SERVER span; `state` is the parent's
  const std::optional<SpanId> parent_;
  const std::string_view method_;
  const uint64_t begin_ns_;
  uint64_t stream_id_ = 0;
  int http_status_ = 0;
  std::string http_method_;
  std::string path_;  // without the query, which may have secrets
  std::vector<CallSpan> calls_;
  size_t calls_left_out_ = 0;
  ExchangeEnd end_;
};

// Where finished traces go.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  // Never waits. Any thread.
  virtual void Take(std::unique_ptr<ExchangeTrace> trace) = 0;
};

class Tracer {
 public:
  // `sink` outlives the tracer.
  Tracer(const Sampler& sampler, TraceSink* sink) : sampler_(sampler), sink_(sink) {}

  // Null if the exchange is not sampled. Without a parent it begins a trace.
  std::unique_ptr<ExchangeTrace> Begin(std::string_view method,
                                       const std::optional<SpanContext>& parent,
                                       uint64_t now_ns) const;
  // The same in two steps for an exchange without a parent, of which most end with the first: the
  // end of the id that its trace would have, and whether it is sampled.
  bool SamplesNew(uint64_t* trace_id_end) const {
    *trace_id_end = NewTraceIdEnd();
    return sampler_.SamplesNew(*trace_id_end);
  }
  static std::unique_ptr<ExchangeTrace> BeginNew(std::string_view method, uint64_t trace_id_end,
                                                 uint64_t now_ns);
  void Take(std::unique_ptr<ExchangeTrace> trace) const { sink_->Take(std::move(trace)); }

 private:
  const Sampler sampler_;
  TraceSink* const sink_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRACE_EXCHANGE_TRACE_H_
