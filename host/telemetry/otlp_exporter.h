// SPDX-License-Identifier: Apache-2.0

// Sends traces to a collector by OTLP over HTTP (protobuf), on a thread of its own.
//
//   auto exporter = OtlpExporter::Start(config, resource, &metrics);
//   Tracer tracer(config.sampler, exporter->get());
//   …
//   (*exporter)->Stop(1000);
//
// Traces wait in a queue of at most OTEL_BSP_MAX_QUEUE_SIZE spans; what comes while it is full is
// dropped. The thread sends a batch once OTEL_BSP_MAX_EXPORT_BATCH_SIZE spans wait, or after
// OTEL_BSP_SCHEDULE_DELAY. On 429, 502, 503 and 504 and if there is no response it tries again,
// after Retry-After (five minutes at most) or after 1 s, 2 s, 4 s …, until OTEL_BSP_EXPORT_TIMEOUT
// is over; then the batch is lost. It does not try again on other statuses, since the collector has
// refused these spans. A batch is compressed if
// OTEL_EXPORTER_OTLP_COMPRESSION is gzip. So a collector that is down, slow or broken costs a
// bounded amount of memory and one thread, and never a stream's time.
//
// Metrics: callout_trace_spans_total{outcome}, with the outcomes sent, queue_full (dropped before
// sending), failed (given up) and rejected (by the collector, in part or in whole);
// callout_trace_exports_total{outcome}, POSTs by ok, retry (to be tried again), refused and
// invalid_response; callout_trace_queue_spans. Each kind of failure is logged, at most once a
// minute.
//
// Any thread; Stop and the destructor belong to one.
#ifndef CALLOUT_HOST_TELEMETRY_OTLP_EXPORTER_H_
#define CALLOUT_HOST_TELEMETRY_OTLP_EXPORTER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/status/statusor.h"
#include "host/metrics/metrics.h"
#include "host/telemetry/otlp_config.h"
#include "host/trace/exchange_trace.h"

namespace callout::host {

class OtlpExporter final : public TraceSink {
 public:
  // Starts the thread. `metrics` outlives the exporter. INVALID_ARGUMENT names a file of
  // certificates that cannot be used; UNAVAILABLE if the system gives no thread or descriptors.
  static absl::StatusOr<std::unique_ptr<OtlpExporter>> Start(const OtlpConfig& config,
                                                             Metrics* metrics);
  ~OtlpExporter() override;
  OtlpExporter(const OtlpExporter&) = delete;
  OtlpExporter& operator=(const OtlpExporter&) = delete;

  void Take(std::unique_ptr<ExchangeTrace> trace) override;

  // Before metrics are collected.
  void UpdateMetrics();

  // Sends what waits, for at most `flush_ms`; the rest is lost, and counted as failed. Afterwards
  // Take drops. Harmless if called twice.
  void Stop(uint64_t flush_ms);

 private:
  class Core;
  enum Count : size_t {
    kSent,
    kQueueFull,
    kFailed,
    kRejected,
    kExportOk,
    kExportRetry,
    kExportRefused,
    kExportInvalid,
    kCounts,
  };

  OtlpExporter(std::unique_ptr<Core> core, Metrics* metrics);
  absl::Status DefineMetrics();

  const std::unique_ptr<Core> core_;
  Metrics* const metrics_;
  std::thread thread_;
  std::array<Metrics::Id, kCounts> ids_{};
  Metrics::Id queue_gauge_ = 0;
  std::mutex update_mutex_;  // guards the following
  std::array<uint64_t, kCounts> told_{};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TELEMETRY_OTLP_EXPORTER_H_
