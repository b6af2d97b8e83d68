// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/request_ids.h"

#include <algorithm>
#include <optional>

#include "host/plugin/rpc_context.h"
#include "host/trace/trace_context.h"
#include "host/wire/response.h"

namespace callout::host {

void RequestId::Keep(std::string_view id) {
  size_ = static_cast<uint8_t>(std::min(id.size(), kBytesMax));
  std::copy_n(id.data(), size_, bytes_.data());
}

TraceRef ReadTraceparent(std::string_view traceparent) {
  const std::optional<SpanContext> context = ParseTraceparent(traceparent);
  if (!context.has_value()) return {};
  constexpr size_t kIdBegin = 3, kIdBytes = 32;
  return {traceparent.substr(kIdBegin, kIdBytes), context->sampled};
}

TraceRef FindTrace(const RpcContext* rpc, std::string_view headers) {
  std::string_view traceparent;
  if (rpc != nullptr && rpc->GetMetadata("traceparent", 0, &traceparent)) {
    if (const TraceRef trace = ReadTraceparent(traceparent); !trace.id.empty()) return trace;
  }
  return ReadTraceparent(FindHeader(headers, "traceparent"));
}

std::string_view SampledTrace(const RpcContext* rpc) {
  const TraceRef trace = FindTrace(rpc, {});
  return trace.sampled ? trace.id : std::string_view();
}

}  // namespace callout::host
