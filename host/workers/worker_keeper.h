// SPDX-License-Identifier: Apache-2.0

// Keeps one worker alive: starts it, starts another when it ends, and tells why it
// ended.
//
//   WorkerKeeper keeper(1, launch, watchdog_ms, {.on_start = …, .on_message = …, .on_end = …});
//   absl::Status status = keeper.Start();
//   …  keeper.LetEnd();  …  keeper.Join(timeout);
//
// The next one is started at once; only after processes that ended before they
// served, or within a second of it by themselves and without a plugin that was at
// fault, it waits, from 0.1 s up to 5 s.
//
// Start, Join and the destructor belong to one thread; the rest to any. The
// callbacks run on the keeper's own.
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

#include "absl/status/status.h"
#include "host/base/owned_fd.h"
#include "host/plugin/hook_table.h"
#include "host/plugin/watchdog.h"
#include "host/workers/worker_end.h"
#include "host/workers/worker_process.h"

namespace callout::host {

class WorkerKeeper {
 public:
  struct Callbacks {
    // A process is there: bring it to where the others are, without waiting for it.
    std::function<void(const std::shared_ptr<WorkerProcess>&)> on_start;
    std::function<void(const WorkerMessage&)> on_message;
    // It has ended. Has to Close it, and comes before the next on_start.
    std::function<void(const std::shared_ptr<WorkerProcess>&, const WorkerEnd&)> on_end;
  };

  // `number` is for the log; `launch` without its `hooks`. `watchdog_ms` 0: none.
  WorkerKeeper(int number, WorkerProcess::Launch launch, uint64_t watchdog_ms, Callbacks callbacks);
  // Kills the process.
  ~WorkerKeeper();
  WorkerKeeper(const WorkerKeeper&) = delete;
  WorkerKeeper& operator=(const WorkerKeeper&) = delete;

  // Returns once the first process is there.
  absl::Status Start();

  // Whether the process there is now accepts connections.
  bool serving() const;

  // No other is started when the one there ends.
  void LetEnd();
  // After LetEnd: waits for the end, and kills what has not ended by then.
  void Join(std::chrono::milliseconds timeout);

 private:
  struct Hang {
    HookTable::Running hook;
    std::string text;
  };

  absl::Status Prepare();
  void Run(std::promise<absl::Status> started);
  void Keep(const std::shared_ptr<WorkerProcess>& process);
  void OnMessage(const WorkerProcess& process, const WorkerMessage& message);
  void OnHung(const HookTable::Running& hung);
  // Before the next start. False if there is to be none.
  bool Pause();

  const int number_;
  WorkerProcess::Launch launch_;
  const uint64_t watchdog_ms_;
  const Callbacks callbacks_;
  OwnedFd hooks_;
  HookTable* table_ = nullptr;
  std::unique_ptr<Watchdog> watchdog_;  // of all processes there will be; may be null
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
