// SPDX-License-Identifier: Apache-2.0

#include "host/ops/process_metrics.h"

#include <utility>

#include "host/base/log.h"
#include "host/base/thread.h"

namespace callout::host {

ProcessMetrics::ProcessMetrics(Metrics* metrics) : metrics_(metrics) {
  // Not counted where the name is taken, which only a test could bring about.
  dropped_lines_.id =
      metrics
          ->Define(Metrics::Kind::kCounter, "callout_log_dropped_lines_total",
                   "Log lines that were dropped because the queue was full or they could not be "
                   "written")
          .value_or(0);
  thread_failures_.id =
      metrics
          ->Define(
              Metrics::Kind::kCounter, "callout_thread_failures_total",
              "Threads that could not be started; the log says what does not work without each")
          .value_or(0);
}

void ProcessMetrics::Update() {
  std::lock_guard<std::mutex> lock(mutex_);
  Tell(LogLinesDropped(), &dropped_lines_);
  Tell(ThreadFailures(), &thread_failures_);
}

void ProcessMetrics::Tell(uint64_t now, Count* count) {
  metrics_->Add(count->id, static_cast<double>(now - std::exchange(count->told, now)));
}

}  // namespace callout::host
