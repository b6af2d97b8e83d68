// SPDX-License-Identifier: Apache-2.0

// Where traces go, by OpenTelemetry's own environment variables, which operators often set for
// everything that they run.
//
//   const OtlpConfig config = ReadOtlpConfig(environ);
//   for (const std::string& warning : config.warnings) …
//   if (config.enabled) …
//
// Traces are off unless OTEL_TRACES_EXPORTER names otlp, or it is unset and one of the variables
// that give an endpoint is set. What cannot be obeyed is a warning and never a failing start: such
// variables are often injected for all containers of a cluster, and a request must not depend on
// them.
//
// docs/tracing.md lists the variables. Plain values; any thread.
#ifndef CALLOUT_HOST_TELEMETRY_OTLP_CONFIG_H_
#define CALLOUT_HOST_TELEMETRY_OTLP_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/trace/sampler.h"
#include "host/trace/span_notes.h"

namespace callout::host {

// An http or https URL, taken apart.
struct OtlpEndpoint {
  bool tls = false;
  std::string host;  // without the brackets of an IPv6 address
  uint16_t port = 0;
  std::string target;  // "/v1/traces"
  std::string url;     // as configured, without user and password
};

// INVALID_ARGUMENT says what was expected.
absl::StatusOr<OtlpEndpoint> ParseOtlpEndpoint(const std::string& url);

struct OtlpConfig {
  bool enabled = false;
  OtlpEndpoint endpoint;
  std::vector<std::pair<std::string, std::string>> headers;  // secrets, often
  std::string ca_path;                                       // "": the system's CAs
  std::string client_cert_path;                              // "": no client certificate
  std::string client_key_path;
  uint64_t request_timeout_ms = 10000;  // of one POST
  uint64_t schedule_delay_ms = 5000;    // how long spans wait for a batch to fill
  uint64_t export_timeout_ms = 30000;   // of one batch, retries included
  size_t queue_spans_max = 2048;
  size_t batch_spans_max = 512;
  // Attributes of the resource; service.name among them.
  std::vector<std::pair<std::string, std::string>> resource;
  Sampler sampler;
  bool gzip = false;                  // bodies are compressed
  SpanLimits span_limits;             // of what plugins add; bytes_max is an option of the host
  std::vector<std::string> warnings;  // one line each
};

OtlpConfig ReadOtlpConfig(const char* const* environment);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TELEMETRY_OTLP_CONFIG_H_
