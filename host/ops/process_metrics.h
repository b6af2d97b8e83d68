// SPDX-License-Identifier: Apache-2.0

// Metrics of the process: what the kernel says of it, by the names that Prometheus' own clients
// use, and what is counted in host/base/, which has no access to Metrics.
//
//   ProcessMetrics process(&metrics);
//   process.DefineBuild("0.1.0", 1);   // only in one of the processes that are summed
//   process.Update();                  // before metrics are collected
//
// docs/metrics.md describes them: process_cpu_seconds_total, process_resident_memory_bytes,
// process_virtual_memory_bytes, process_open_fds, process_max_fds, process_threads,
// process_start_time_seconds, callout_build_info, callout_log_dropped_lines_total and
// callout_thread_failures_total.
//
// Any thread. Only one per process, since several would split the counts.
//
// Tested by tests/host/ops/process_metrics_test.cc.
#ifndef CALLOUT_HOST_OPS_PROCESS_METRICS_H_
#define CALLOUT_HOST_OPS_PROCESS_METRICS_H_

#include <cstdint>
#include <mutex>
#include <string>

#include "host/metrics/metrics.h"

namespace callout::host {

class ProcessMetrics {
 public:
  // `metrics` outlives it.
  explicit ProcessMetrics(Metrics* metrics);

  // The build and the start, which cannot be summed: for the process that the operator has started.
  void DefineBuild(const std::string& version, uint32_t abi_version);

  void Update();

 private:
  struct Count {
    Metrics::Id id = 0;
    double told = 0;
  };
  void Tell(double now, Count* count);
  void UpdateFromKernel();

  Metrics* const metrics_;
  Metrics::Id resident_ = 0, virtual_ = 0, open_fds_ = 0, max_fds_ = 0, threads_ = 0;
  std::mutex mutex_;  // guards the following
  Count dropped_lines_, thread_failures_, cpu_seconds_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_PROCESS_METRICS_H_
