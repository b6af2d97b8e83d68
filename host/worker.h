// SPDX-License-Identifier: Apache-2.0

// A worker: a process that runs plugins and serves streams, as its supervisor
// (host/workers/worker_group.h) orders over the channel.
//
//   int exit_status = RunWorker(descriptors, config);
//
// It ends when it has drained, and at once when its supervisor has gone. It ignores signals that
// end a host, since the supervisor handles them.
//
// Tested by tests/reload/workers_test.cc.
#ifndef CALLOUT_HOST_WORKER_H_
#define CALLOUT_HOST_WORKER_H_

#include "host/config/config.h"
#include "host/workers/worker_process.h"

namespace callout::host {

// Runs the worker and returns its exit status.
int RunWorker(const WorkerDescriptors& descriptors, const Config& config);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKER_H_
