// SPDX-License-Identifier: Apache-2.0

// Metrics of the process that are counted in host/base/, which has no access to Metrics.
//
//   ProcessMetrics process(&metrics);
//   process.Update();   // before metrics are collected
//
// Metrics: callout_log_dropped_lines_total, callout_thread_failures_total.
//
// Any thread. Only one per process, since several would split the counts.
//
// Tested by tests/integration/start_test.cc.
#ifndef CALLOUT_HOST_OPS_PROCESS_METRICS_H_
#define CALLOUT_HOST_OPS_PROCESS_METRICS_H_

#include <cstdint>
#include <mutex>

#include "host/metrics/metrics.h"

namespace callout::host {

class ProcessMetrics {
 public:
  // `metrics` outlives it.
  explicit ProcessMetrics(Metrics* metrics);

  void Update();

 private:
  struct Count {
    Metrics::Id id = 0;
    uint64_t told = 0;
  };
  void Tell(uint64_t now, Count* count);

  Metrics* const metrics_;
  std::mutex mutex_;  // guards the following
  Count dropped_lines_, thread_failures_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_PROCESS_METRICS_H_
