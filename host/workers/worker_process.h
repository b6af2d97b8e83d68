// SPDX-License-Identifier: Apache-2.0

// One worker process, for its supervisor: starts it from this program's file, asks it over a
// channel, and reaps it.
//
//   absl::StatusOr<std::unique_ptr<WorkerProcess>> process = WorkerProcess::Start(launch);
//   std::future<WorkerProcess::Reply> reply = (*process)->Ask(WorkerMessageKind::kGetUsage);
//   const int wait_status = (*process)->Attend([](const WorkerMessage& message) { … });
//   (*process)->Close(absl::UnavailableError("…"));   // for all who still wait
//
// The worker is killed when the thread that started it, or its supervisor, ends. One thread calls
// Start, Attend and Close; any thread may call Ask, Fail and Kill.
#ifndef CALLOUT_HOST_WORKERS_WORKER_PROCESS_H_
#define CALLOUT_HOST_WORKERS_WORKER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/owned_fd.h"
#include "host/transport/traffic.h"
#include "host/workers/worker_channel.h"

namespace callout::host {

// The descriptors that a worker inherits.
struct WorkerDescriptors {
  int channel = -1;
  int hooks = -1;    // of the HookTable's memory
  int metrics = -1;  // of the MetricMemory
  std::vector<TrafficSocket> sockets;
  int number = 0;  // of the worker, from 1 on; the same after a restart
};

// The worker's first argument: "--worker=5,6,7,1,secure:8,plaintext:9".
inline constexpr std::string_view kWorkerArgument = "--worker=";
std::string ToWorkerArgument(const WorkerDescriptors& descriptors);
std::optional<WorkerDescriptors> ParseWorkerArgument(std::string_view argument);

class WorkerProcess {
 public:
  using Reply = absl::StatusOr<std::string>;  // the body of the reply

  struct Launch {
    std::vector<std::string> options;    // Config::worker_options
    std::vector<TrafficSocket> sockets;  // the caller owns them
    int hooks = -1;                      // the caller owns these two
    int metrics = -1;
    int number = 0;  // of the worker, from 1 on
  };

  // UNAVAILABLE with the system's reason.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(const Launch& launch);
  // Kills it if it still runs.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  pid_t pid() const { return pid_; }

  // Sends the question and returns the future reply. Questions of one thread arrive in their order.
  std::future<Reply> Ask(WorkerMessageKind kind, std::string body = "");

  // Replies in place of the worker to all who wait for that kind.
  void Fail(WorkerMessageKind kind, const absl::Status& status);

  // Delivers replies, and unasked messages to `on_message`, until the process has ended. Returns
  // its status, as of waitpid.
  int Attend(const std::function<void(const WorkerMessage&)>& on_message);

  // Replies with `why` to all who wait and to all later questions.
  void Close(const absl::Status& why);

  // SIGKILL.
  void Kill() const;

 private:
  struct Pending {
    WorkerMessageKind kind;
    std::promise<Reply> promise;
  };

  WorkerProcess(pid_t pid, OwnedFd pid_fd, OwnedFd channel)
      : pid_(pid), pid_fd_(std::move(pid_fd)), channel_(channel.Release()) {}

  void TakeMessages(const std::function<void(const WorkerMessage&)>& on_message);
  void HandOut(const WorkerMessage& response);
  int Reap();

  const pid_t pid_;
  const OwnedFd pid_fd_;
  WorkerChannel channel_;
  bool reaped_ = false;

  std::mutex mutex_;  // guards the following
  uint64_t last_number_ = 0;
  std::map<uint64_t, Pending> pending_;
  absl::Status closed_;  // OK: open
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_WORKER_PROCESS_H_
