// SPDX-License-Identifier: Apache-2.0

// What the plugins of a process share beside the table of services: the threads for their timers,
// the store for their shared data, and the upstreams that they call.
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
#include <vector>

#include "host/extensions/call_set.h"
#include "host/extensions/shared_data.h"
#include "host/extensions/timer_pool.h"
#include "host/metrics/metrics.h"
#include "host/upstream/upstream_config.h"
#include "host/upstream/upstream_pool.h"

namespace callout::host {

struct ExtensionOptions {
  size_t timer_threads_max = 4;  // --max_timer_threads, of the process
  size_t timers_max = 10000;     // --max_timers, of an instance
  SharedData::Limits shared_data;
  size_t trace_bytes_max = 65536;              // --max_trace_bytes, of an exchange
  size_t calls_max = 10000;                    // --max_calls, of an instance
  std::vector<UpstreamConfig> upstreams = {};  // --upstreams
  // False where plugins are only checked: their timers never run, and they make no calls.
  bool run_timers = true;
};

struct Extensions {
  // `metrics` outlives it.
  Extensions(const ExtensionOptions& with, Metrics* metrics)
      : options(with),
        shared_data(with.shared_data, metrics),
        timers({.threads_max = with.timer_threads_max, .runs = with.run_timers}, metrics),
        upstreams({.upstreams = with.upstreams, .runs = with.run_timers}, metrics) {}

  // For the end of the process: no timer begins to run, and all calls end. False if something of a
  // plugin's has not returned after `timeout_ms`: then nothing that it may touch can be destroyed.
  bool Stop(uint64_t timeout_ms) {
    const bool calls_ended = upstreams.Stop(timeout_ms);
    return timers.Stop(timeout_ms) && calls_ended;
  }

  const ExtensionOptions options;
  SharedData shared_data;
  TimerPool timers;
  UpstreamPool upstreams;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXTENSIONS_EXTENSIONS_H_
