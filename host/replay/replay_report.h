// SPDX-License-Identifier: Apache-2.0

// The report of a replay, as text and as JSON (docs/recordings.md).
//
//   ReplayReport report{.files = {"a.rec"}, .result = result, …};
//   report.calls = CallTimes(chain.metrics());
//   printf("%s", ReplayText(report).c_str());
//
// Plain values and functions.
//
// Tested by tests/replay/replay_test.cc.
#ifndef CALLOUT_HOST_REPLAY_REPLAY_REPORT_H_
#define CALLOUT_HOST_REPLAY_REPLAY_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/replay/replayer.h"

namespace callout::host {

// The calls of one plugin in one phase.
struct CallTime {
  std::string plugin;
  std::string phase;
  uint64_t calls = 0;
  double seconds = 0;  // in all
};
std::vector<CallTime> CallTimes(const Metrics& metrics);

struct ReplayReport {
  std::vector<std::string> files;
  ReplayResult result;
  std::vector<CallTime> calls;
  std::vector<CallTime> against;  // of the other chain
  bool has_against = false;
  size_t threads = 1;
  double seconds = 0;      // of playing and comparing
  double cpu_seconds = 0;  // of all threads
};

std::string ReplayText(const ReplayReport& report);
std::string ReplayJson(const ReplayReport& report);

}  // namespace callout::host

#endif  // CALLOUT_HOST_REPLAY_REPLAY_REPORT_H_
