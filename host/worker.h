// SPDX-License-Identifier: Apache-2.0

// A worker: a process that runs the plugins and serves streams, as its supervisor
// (host/workers/worker_group.h) tells it over the channel that it was started with.
//
//   int exit_status = RunWorker(descriptors, config);
//
// It ends when it has drained, and at once, without ceremony, when its supervisor
// is gone. Signals that stop a host it leaves to the supervisor.
//
// Tested by tests/reload/workers_test.cc.
#ifndef CALLOUT_HOST_WORKER_H_
#define CALLOUT_HOST_WORKER_H_

#include "host/config/config.h"
#include "host/workers/worker_process.h"

namespace callout::host {

// From the start of the process to its end; the exit status.
int RunWorker(const WorkerDescriptors& descriptors, const Config& config);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKER_H_
