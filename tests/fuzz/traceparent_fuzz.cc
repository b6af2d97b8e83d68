// SPDX-License-Identifier: Apache-2.0

// What clients say of their trace and of their request, in the metadata of an RPC and in headers.
//
// Readers: host/plugin/request_ids.cc host/trace/trace_context.cc
#include <string>
#include <string_view>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/plugin/request_ids.h"
#include "host/trace/trace_context.h"
#include "tests/fuzz/fuzz_rpc_context.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

bool IsId(std::string_view id) {
  return id.size() == 32 && id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Once with metadata alone, and once with headers that are the same, or others.
std::string Find(Choices& choices) {
  const std::string said = choices.Bytes(80);
  const std::string in_header = choices.Next(2) == 0 ? said : choices.Bytes(80);
  FuzzRpcContext rpc;
  rpc.metadata["traceparent"] = said;
  envoy::service::ext_proc::v3::HttpHeaders headers;
  auto* const header = headers.mutable_headers()->add_headers();
  header->set_key("traceparent");
  header->set_raw_value(in_header);
  const std::string message = headers.SerializeAsString();
  const TraceRef found = FindTrace(&rpc, message);
  const TraceRef of_rpc = ReadTraceparent(said), of_header = ReadTraceparent(in_header);
  if (found.id != (of_rpc.id.empty() ? of_header.id : of_rpc.id)) return "another trace is found";
  if (FindTrace(nullptr, message).id != of_header.id) return "the header's trace is not found";
  const std::string_view sampled = SampledTrace(&rpc);
  if (sampled != (of_rpc.sampled ? of_rpc.id : "")) return "a trace that is not sampled is shown";
  // What the host makes itself is read as it was.
  const std::string state = CheckedTracestate(said);
  if (!state.empty() && state != said) return "a tracestate is changed";
  const TraceId id = NewTraceId();
  const std::string own = "00-" + ToHex(id) + "-" + ToHex(NewSpanId()) + "-01";
  return ReadTraceparent(own).id == ToHex(id) && EndOf(id) != 0 ? ""
                                                                : "a new trace is none: " + own;
}

FUZZ_TARGET(traceparent, .rounds = 20000, .bytes = 60) {
  if (choices.OneIn(4)) return Find(choices);
  const std::string text = choices.Rest();
  RequestId request;
  request.Keep(text);
  if (request.view() != std::string_view(text).substr(0, RequestId::kBytesMax)) {
    return "an id is kept as another";
  }
  const TraceRef trace = ReadTraceparent(text);
  return trace.id.empty() || IsId(trace.id) ? "" : "a trace id that is none: " + text;
}

}  // namespace
}  // namespace callout::host
