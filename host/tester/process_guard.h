// SPDX-License-Identifier: Apache-2.0

// What a program that runs plugins in its own process does about those that take the process with
// them: a hook that calls exit(0) would report success, one that hangs would keep the program for
// ever, and one that crashes would leave no word about it.
//
//   int main(int argc, char** argv) {
//     BeginProcessGuard({.program = "callout-test", .exit_code = 1, .unit = "case"});
//     return EndProcessGuard(Main(argc, argv));
//   }
//   … const auto watchdog = WatchHooks(hook_deadline_ms);   // in Main, before the first plugin
//
// BeginProcessGuard is called once, by the main thread, before there is a plugin.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_PROCESS_GUARD_H_
#define CALLOUT_HOST_TESTER_PROCESS_GUARD_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "host/plugin/watchdog.h"

namespace callout::host {

struct ProcessGuard {
  const char* program = "";  // before its lines
  int exit_code = 1;         // if a plugin ends the run
  const char* unit = "";     // what is run: "case"
};

// Reports crashes (crash_report), and turns an exit() before EndProcessGuard into `exit_code`.
void BeginProcessGuard(const ProcessGuard& guard);

// From now on an exit is a normal one. Returns `code`.
int EndProcessGuard(int code);

// Ends the process with `exit_code` if a hook holds its thread longer than five deadlines, at least
// a second: such a hook cannot be ended, nor what it is run for. UNAVAILABLE if the thread cannot
// be started.
absl::StatusOr<std::unique_ptr<Watchdog>> WatchHooks(uint64_t hook_deadline_ms);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_PROCESS_GUARD_H_
