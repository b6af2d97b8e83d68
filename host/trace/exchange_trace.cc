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
  // Most exchanges end here: no more is made for them than the decision needs.
  const uint64_t new_id_end = parent.has_value() ? 0 : NewTraceIdEnd();
  const bool sampled = parent.has_value() ? sampler_.Samples(&*parent, parent->trace_id)
                                          : sampler_.SamplesNew(new_id_end);
  if (!sampled) return nullptr;
  SpanContext context;
  context.trace_id = parent.has_value() ? parent->trace_id : NewTraceId(new_id_end);
  context.span_id = NewSpanId();
  context.sampled = true;
  std::optional<SpanId> parent_id;
  if (parent.has_value()) parent_id = parent->span_id;
  return std::make_unique<ExchangeTrace>(method, std::move(context), parent_id, now_ns);
}

}  // namespace callout::host
