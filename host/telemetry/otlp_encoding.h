// SPDX-License-Identifier: Apache-2.0

// Traces as OTLP's ExportTraceServiceRequest, and its response read.
//
// Own code because the host contains no protobuf runtime: it is thirty fields, appended in order.
// tests/telemetry decodes the result with OpenTelemetry's own classes.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_TELEMETRY_OTLP_ENCODING_H_
#define CALLOUT_HOST_TELEMETRY_OTLP_ENCODING_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/trace/exchange_trace.h"

namespace callout::host {

// Attributes of all spans: the service, this process.
using OtlpResource = std::vector<std::pair<std::string, std::string>>;

// A serialized opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest. `unix_offset_ns`
// is what has to be added to CLOCK_MONOTONIC to get nanoseconds since 1970.
std::string EncodeTraces(const OtlpResource& resource,
                         const std::vector<std::unique_ptr<ExchangeTrace>>& traces,
                         uint64_t unix_offset_ns);

struct OtlpReply {
  bool valid = false;  // it is an ExportTraceServiceResponse
  uint64_t rejected_spans = 0;
  std::string message;  // why, or a warning
};

// `bytes` come from the collector, or whoever answers at its address.
OtlpReply ReadOtlpReply(std::string_view bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TELEMETRY_OTLP_ENCODING_H_
