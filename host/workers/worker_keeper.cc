// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_keeper.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/workers/backoff.h"

namespace callout::host {
namespace {

constexpr uint64_t kEarlyNs = 1'000'000'000;

}  // namespace

WorkerKeeper::WorkerKeeper(int number, WorkerProcess::Launch launch, const HangLimits& limits,
                           Callbacks callbacks)
    : number_(number),
      launch_(std::move(launch)),
      limits_(limits),
      callbacks_(std::move(callbacks)) {}

WorkerKeeper::~WorkerKeeper() {
  LetEnd();
  Join(std::chrono::milliseconds(0));
  watchdog_.reset();
}

absl::Status WorkerKeeper::Prepare() {
  absl::StatusOr<OwnedFd> hooks = HookTable::MakeFile();
  if (!hooks.ok()) return hooks.status();
  hooks_ = *std::move(hooks);
  absl::StatusOr<HookTable*> table = HookTable::Share(hooks_.get());
  if (!table.ok()) return table.status();
  table_ = *table;
  launch_.number = number_;
  launch_.hooks = hooks_.get();
  if (!limits_.any()) return absl::OkStatus();
  // One for all processes to come: later there may be no thread to be had for it.
  absl::StatusOr<std::unique_ptr<Watchdog>> watchdog =
      Watchdog::Start(limits_, table_, [this](const HookTable::Running& hung) { OnHung(hung); });
  if (!watchdog.ok()) return watchdog.status();
  watchdog_ = *std::move(watchdog);
  return absl::OkStatus();
}

// With memory for metrics of its own, since the one before may have written anything there.
absl::StatusOr<std::shared_ptr<WorkerProcess>> WorkerKeeper::StartProcess() {
  absl::StatusOr<OwnedFd> file = MetricMemory::MakeFile();
  if (!file.ok()) return file.status();
  absl::StatusOr<std::unique_ptr<MetricMemory>> memory = MetricMemory::Map(file->get());
  if (!memory.ok()) return memory.status();
  metrics_file_ = *std::move(file);
  metrics_ = *std::move(memory);
  launch_.metrics = metrics_file_.get();
  absl::StatusOr<std::unique_ptr<WorkerProcess>> process = WorkerProcess::Start(launch_);
  if (!process.ok()) return process.status();
  return std::shared_ptr<WorkerProcess>(*std::move(process));
}

absl::Status WorkerKeeper::Start() {
  if (absl::Status status = Prepare(); !status.ok()) return status;
  auto started = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> result = started->get_future();
  ended_ = false;
  // Not this thread: the worker's life ends with the thread that starts it.
  absl::StatusOr<std::thread> thread = StartThread("a worker's keeper", [this, started] {
    Run(std::move(*started));
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return result.get();
}

void WorkerKeeper::Run(std::promise<absl::Status> started) {
  bool first = true;
  do {
    table_->Clear();
    absl::StatusOr<std::shared_ptr<WorkerProcess>> process = StartProcess();
    const bool last = first && !process.ok();
    if (std::exchange(first, false)) {
      started.set_value(process.status());
    } else if (!process.ok()) {
      Log(LogLevel::kError, "worker {}: {}", number_, MessageOf(process.status()));
    }
    if (last) return;
    if (process.ok()) {
      Keep(*process);
    } else {
      ++failures_;
    }
  } while (Pause());
}

void WorkerKeeper::Keep(const std::shared_ptr<WorkerProcess>& process) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    process_ = process;
    if (let_end_) process->Kill();  // it is not needed any more
  }
  callbacks_.on_start(process);
  const int wait_status =
      process->Attend([&](const WorkerMessage& message) { OnMessage(*process, message); });
  ended_ns_ = MonotonicNs();
  uint64_t serving_since_ns = 0;
  std::optional<Hang> hang;
  bool expected = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    process_.reset();
    serving_since_ns = std::exchange(serving_since_ns_, 0);
    hang = std::exchange(hang_, std::nullopt);
    expected = let_end_ && (wait_status == 0 || WTERMSIG(wait_status) == SIGKILL);
  }
  const WorkerEnd end =
      DescribeWorkerEnd(wait_status, *table_, hang ? std::optional(hang->hook) : std::nullopt,
                        hang ? hang->text : "");
  if (!expected) {
    Log(LogLevel::kError, "worker {} (process {}) has ended, and its streams are lost: {}", number_,
        process->pid(), end.text);
  }
  callbacks_.on_end(process, end, metrics_->Collect());
  const bool for_no_reason = end.plugin.empty() && !end.from_outside;
  const bool early =
      serving_since_ns == 0 || (for_no_reason && ended_ns_ - serving_since_ns < kEarlyNs);
  failures_ = early ? failures_ + 1 : 0;
}

void WorkerKeeper::OnMessage(const WorkerProcess& process, const WorkerMessage& message) {
  if (message.kind == WorkerMessageKind::kServing && !serving()) {
    const uint64_t now_ns = MonotonicNs();
    const uint64_t ended_ns = std::exchange(ended_ns_, 0);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      serving_since_ns_ = now_ns;
    }
    Log(LogLevel::kInfo, "worker {} (process {}) serves{}", number_, process.pid(),
        ended_ns == 0 ? ""
                      : fmt::format(" again, {} ms after the one before ended",
                                    (now_ns - ended_ns) / 1'000'000));
  }
  callbacks_.on_message(message);
}

// Kills first and logs then, since the log's reader may have stopped.
void WorkerKeeper::OnHung(const HookTable::Running& hung) {
  std::string text = DescribeHung(*table_, hung, MonotonicNs());
  pid_t pid = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // It may have been the previous process, whose table was cleared since.
    const std::vector<HookTable::Running> running = table_->ListRunning();
    const bool goes_on = std::any_of(running.begin(), running.end(), [&](const auto& one) {
      return one.thread == hung.thread && one.since_ns == hung.since_ns;
    });
    if (process_ == nullptr || !goes_on || hang_.has_value()) return;
    process_->Kill();
    pid = process_->pid();
    hang_ = {hung, text};
  }
  const bool of_instance = IsAtLoad(hung.place.hook) || hung.place.hook == Hook::kDestroy;
  Log(LogLevel::kError, "worker {} (process {}): {} ({}); it is killed", number_, pid, text,
      of_instance ? "--plugin_create_timeout_ms" : "--watchdog_ms");
}

bool WorkerKeeper::Pause() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (failures_ > 0) {
    changed_.wait_for(lock, PauseAfter(failures_), [this] { return let_end_; });
  }
  return !let_end_;
}

bool WorkerKeeper::serving() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return serving_since_ns_ != 0;
}

void WorkerKeeper::LetEnd() {
  std::lock_guard<std::mutex> lock(mutex_);
  let_end_ = true;
  changed_.notify_all();
}

void WorkerKeeper::Join(std::chrono::milliseconds timeout) {
  if (!thread_.joinable()) return;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool in_time = changed_.wait_for(lock, timeout, [this] { return ended_; });
    if (process_ != nullptr) process_->Kill();
    if (!in_time && timeout.count() > 0) {
      Log(LogLevel::kWarning, "worker {} did not end, and was killed", number_);
    }
  }
  thread_.join();
}

}  // namespace callout::host
