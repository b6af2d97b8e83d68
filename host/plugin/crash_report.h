// SPDX-License-Identifier: Apache-2.0

// Writes a last log line when a plugin ends the process: which plugin and hook ran on the thread
// that crashed or called exit().
//
//   ReportCrashes();        // once, at the start
//
// Before it there is a line with the text of an exception that nobody has caught (std::terminate).
// Both go to standard error in the log's format, after the queued lines. Then the signal has
// its default action, core dump included. Where the action does nothing, as for process 1 of a
// container, the process ends with status 128 + signal. _exit() and SIGKILL leave no line here; a
// supervisor
// (--workers) reports them.
//
// Tested by tests/host/plugin/hook_table_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CRASH_REPORT_H_
#define CALLOUT_HOST_PLUGIN_CRASH_REPORT_H_

namespace callout::host {

void ReportCrashes();

// "SIGSEGV", …; "a signal" for one that has no name here. Safe in a signal handler.
const char* SignalName(int number);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CRASH_REPORT_H_
