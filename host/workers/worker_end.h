// SPDX-License-Identifier: Apache-2.0

// Finds out why a worker process has ended, from its wait status and its table of hooks.
//
// A plain function; any thread, once the process has ended.
#ifndef CALLOUT_HOST_WORKERS_WORKER_END_H_
#define CALLOUT_HOST_WORKERS_WORKER_END_H_

#include <optional>
#include <string>

#include "host/plugin/hook_table.h"

namespace callout::host {

struct WorkerEnd {
  // "SIGSEGV while plugin 10-auth ran callout_on_request_headers"
  std::string text = {};
  // The plugin at fault; "": none, or unknown.
  std::string plugin = {};
  Hook hook = Hook::kProcess;  // in which it was
  bool hung = false;           // and too long, so it was killed
  bool from_outside = false;   // another process or the kernel ended it
  bool by_itself = false;      // the worker saw that it cannot go on; its log says why
};

// `wait_status` is that of waitpid. `hung` is the hook because of which the process was killed, and
// `hung_text` the text about it.
WorkerEnd DescribeWorkerEnd(int wait_status, const HookTable& table,
                            const std::optional<HookTable::Running>& hung,
                            const std::string& hung_text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_WORKER_END_H_
