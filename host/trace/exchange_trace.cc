// SPDX-License-Identifier: Apache-2.0

#include "host/trace/exchange_trace.h"

#include <algorithm>

#include "host/base/utf8.h"

namespace callout::host {
namespace {

// A collector refuses a whole request for one text that is not UTF-8, and clients choose these.
std::string Text(std::string_view text) {
  std::string result;
  while (!text.empty() && result.size() < ExchangeTrace::kTextBytesMax) {
    const size_t size = Utf8SequenceLength(text);
    if (size == 0) {
      result.push_back('?');
      text.remove_prefix(1);
    } else {
      result.append(text.substr(0, size));
      text.remove_prefix(size);
    }
  }
  return result;
}

}  // namespace

void ExchangeTrace::SetRequest(std::string_view http_method, std::string_view path) {
  http_method_ = Text(http_method);
  path_ = Text(path.substr(0, std::min(path.find('?'), path.find('#'))));
}

void ExchangeTrace::AddCall(CallSpan call) {
  if (calls_.size() >= kCallsMax) {
    ++calls_left_out_;
    return;
  }
  call.plugin = Text(call.plugin);
  call.outcome = Text(call.outcome);
  calls_.push_back(std::move(call));
}

std::unique_ptr<ExchangeTrace> Tracer::Begin(std::string_view method,
                                             const std::optional<SpanContext>& parent,
                                             uint64_t now_ns) const {
  if (!parent.has_value()) {
    uint64_t trace_id_end = 0;
    if (!SamplesNew(&trace_id_end)) return nullptr;
    return BeginNew(method, trace_id_end, now_ns);
  }
  if (!sampler_.Samples(&*parent, parent->trace_id)) return nullptr;
  SpanContext context;
  context.trace_id = parent->trace_id;
  context.span_id = NewSpanId();
  context.sampled = true;
  return std::make_unique<ExchangeTrace>(method, std::move(context), parent->span_id, now_ns);
}

std::unique_ptr<ExchangeTrace> Tracer::BeginNew(std::string_view method, uint64_t trace_id_end,
                                                uint64_t now_ns) {
  SpanContext context;
  context.trace_id = NewTraceId(trace_id_end);
  context.span_id = NewSpanId();
  context.sampled = true;
  return std::make_unique<ExchangeTrace>(method, std::move(context), std::nullopt, now_ns);
}

}  // namespace callout::host
