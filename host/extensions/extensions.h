// SPDX-License-Identifier: Apache-2.0

// What the plugins of a process share beside the table of services: the threads for their timers,
// and the store for their shared data.
//
//   Extensions extensions({.timers_max = 100}, &metrics);
//   InstanceContext context = {.metrics = &metrics, .extensions = &extensions};
//
// Any thread. It outlives the instances that use it.
//
// Tested by tests/host/plugin/instance_extensions_test.cc.
#ifndef CALLOUT_HOST_EXTENSIONS_EXTENSIONS_H_
#define CALLOUT_HOST_EXTENSIONS_EXTENSIONS_H_

#include <cstddef>

#include "host/extensions/shared_data.h"
#include "host/extensions/timer_pool.h"
#include "host/metrics/metrics.h"

namespace callout::host {

struct ExtensionOptions {
  size_t timer_threads_max = 4;  // --max_timer_threads, of the process
  size_t timers_max = 10000;     // --max_timers, of an instance
  SharedData::Limits shared_data;
  size_t trace_bytes_max = 65536;  // --max_trace_bytes, of an exchange
  // False where plugins are only checked: their timers never run.
  bool run_timers = true;
};

struct Extensions {
  // `metrics` outlives it.
  Extensions(const ExtensionOptions& with, Metrics* metrics)
      : options(with),
        shared_data(with.shared_data, metrics),
        timers({.threads_max = with.timer_threads_max, .runs = with.run_timers}, metrics) {}

  const ExtensionOptions options;
  SharedData shared_data;
  TimerPool timers;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXTENSIONS_EXTENSIONS_H_
