// SPDX-License-Identifier: Apache-2.0

// Keeps one worker running: starts it, restarts it when it ends, and reports why it ended. It kills
// a worker in which a hook, a create or a destroy hangs.
//
//   WorkerKeeper keeper(1, launch, limits, {.on_start = …, .on_message = …, .on_end = …});
//   absl::Status status = keeper.Start();
//   …  keeper.LetEnd();  …  keeper.Join(timeout);
//
// It restarts at once, with one exception: if a process ended before it served, or by itself within
// a second and not because of a plugin, it waits first (host/workers/backoff.h).
//
// Start, Join and the destructor belong to one thread; the rest to any. The callbacks run on the
// keeper's thread.
//
// Tested by tests/reload/workers_test.cc.
#ifndef CALLOUT_HOST_WORKERS_WORKER_KEEPER_H_
#define CALLOUT_HOST_WORKERS_WORKER_KEEPER_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "host/base/owned_fd.h"
#include "host/metrics/metric_memory.h"
#include "host/plugin/hook_table.h"
#include "host/plugin/watchdog.h"
#include "host/workers/worker_end.h"
#include "host/workers/worker_process.h"

namespace callout::host {

class WorkerKeeper {
 public:
  struct Callbacks {
    // A process was started: bring it up to the others, without waiting for it.
    std::function<void(const std::shared_ptr<WorkerProcess>&)> on_start;
    std::function<void(const WorkerMessage&)> on_message;
    // The process has ended, with these counts (counters and histograms; from memory that a plugin
    // could write to). Must Close it. Called before the next on_start.
    std::function<void(const std::shared_ptr<WorkerProcess>&, const WorkerEnd&,
                       std::vector<prometheus::MetricFamily> counts)>
        on_end;
  };

  // `number` is for the log; `launch` without its `hooks` and `metrics`.
  WorkerKeeper(int number, WorkerProcess::Launch launch, const HangLimits& limits,
               Callbacks callbacks);
  // Kills the process.
  ~WorkerKeeper();
  WorkerKeeper(const WorkerKeeper&) = delete;
  WorkerKeeper& operator=(const WorkerKeeper&) = delete;

  // Returns once the first process was started.
  absl::Status Start();

  // Whether the current process accepts connections.
  bool serving() const;

  // The current process is not replaced when it ends.
  void LetEnd();
  // After LetEnd: waits for the process to end, and kills it at the timeout.
  void Join(std::chrono::milliseconds timeout);

 private:
  struct Hang {
    HookTable::Running hook;
    std::string text;
  };

  absl::Status Prepare();
  absl::StatusOr<std::shared_ptr<WorkerProcess>> StartProcess();
  void Run(std::promise<absl::Status> started);
  void Keep(const std::shared_ptr<WorkerProcess>& process);
  void OnMessage(const WorkerProcess& process, const WorkerMessage& message);
  void OnHung(const HookTable::Running& hung);
  // Waits before the next start. False if there will be none.
  bool Pause();

  const int number_;
  WorkerProcess::Launch launch_;
  const HangLimits limits_;
  const Callbacks callbacks_;
  OwnedFd hooks_;
  HookTable* table_ = nullptr;
  OwnedFd metrics_file_;  // of the current process
  std::unique_ptr<MetricMemory> metrics_;
  std::unique_ptr<Watchdog> watchdog_;  // of all processes of this keeper; may be null
  int failures_ = 0;                    // in a row; the keeper's thread
  uint64_t ended_ns_ = 0;

  mutable std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::shared_ptr<WorkerProcess> process_;
  uint64_t serving_since_ns_ = 0;  // 0: not yet
  std::optional<Hang> hang_;
  bool let_end_ = false;
  bool ended_ = true;
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_WORKER_KEEPER_H_
