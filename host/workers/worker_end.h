// SPDX-License-Identifier: Apache-2.0

// Why a worker process has ended, told from what the kernel says of it and from
// the table of hooks that it left.
//
// A plain function; any thread, once the process is dead.
#ifndef CALLOUT_HOST_WORKERS_WORKER_END_H_
#define CALLOUT_HOST_WORKERS_WORKER_END_H_

#include <optional>
#include <string>

#include "host/plugin/hook_table.h"

namespace callout::host {

struct WorkerEnd {
  // "SIGSEGV while plugin 10-auth ran callout_on_request_headers"
  std::string text = {};
  // Whose doing it was; "": nobody's, or nobody can tell.
  std::string plugin = {};
  Hook hook = Hook::kProcess;  // which it was in
  bool from_outside = false;   // nothing of what ran in it ended it
};

// `wait_status` is waitpid's. `hung` is the hook for which the process was killed,
// `hung_text` what was said of it then.
WorkerEnd DescribeWorkerEnd(int wait_status, const HookTable& table,
                            const std::optional<HookTable::Running>& hung,
                            const std::string& hung_text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_WORKER_END_H_
