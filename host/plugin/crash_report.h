// SPDX-License-Identifier: Apache-2.0

// The last words of a process that a plugin kills: which plugin and hook ran on
// the thread that crashed, or that called exit().
//
//   ReportCrashes();        // once, at the start
//
// Written to standard error as one line, in the log's format and after what waits in
// the log; the signal then takes its usual course, core dump and all. Where it has
// none, as for the first process of a container, the process ends with 128 + signal. What ends a
// process without a signal or exit(), that is _exit() and SIGKILL, leaves no words here; a
// supervisor (--workers) still knows.
//
// Tested by tests/host/plugin/hook_table_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CRASH_REPORT_H_
#define CALLOUT_HOST_PLUGIN_CRASH_REPORT_H_

namespace callout::host {

void ReportCrashes();

// "SIGSEGV", …; "a signal" for one without a name here. Safe in a handler.
const char* SignalName(int number);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CRASH_REPORT_H_
