// SPDX-License-Identifier: Apache-2.0

#include "host/tester/process_guard.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/plugin/crash_report.h"
#include "host/plugin/hook_table.h"

namespace callout::host {
namespace {

// Set before there are other threads.
ProcessGuard in_force;
std::atomic<bool> is_done{false};

[[noreturn]] void EndRun(const std::string& why) {
  fprintf(stderr, "%s: %s\n", in_force.program, EscapeControls(why).c_str());
  fflush(stdout);
  _exit(in_force.exit_code);
}

void OnExit() {
  if (is_done) return;
  EndRun(std::string("a plugin has called exit() before the ") + in_force.unit + "s were done");
}

}  // namespace

void BeginProcessGuard(const ProcessGuard& guard) {
  in_force = guard;
  std::atexit(OnExit);
  ReportCrashes();
}

int EndProcessGuard(int code) {
  is_done = true;
  return code;
}

absl::StatusOr<std::unique_ptr<Watchdog>> WatchHooks(uint64_t hook_deadline_ms) {
  constexpr uint64_t kDeadlines = 5;
  constexpr uint64_t kLeastMs = 1000;
  return Watchdog::Start({.serving_ms = std::max(kLeastMs, kDeadlines * hook_deadline_ms)},
                         HookTable::InUse(), [](const HookTable::Running& hung) {
                           EndRun(DescribeHung(*HookTable::InUse(), hung, MonotonicNs()) +
                                  "; its " + in_force.unit + " cannot end");
                         });
}

}  // namespace callout::host
