// SPDX-License-Identifier: Apache-2.0

#include "host/stream/blocking_pool.h"

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/plugin/hook_table.h"

namespace callout::host {
namespace {

constexpr uint64_t kThreadRetryNs = 1'000'000'000;

}  // namespace

BlockingPool::BlockingPool(size_t threads_max, Metrics* metrics)
    : threads_max_(std::max<size_t>(threads_max, 1)), metrics_(metrics) {
  constexpr char kName[] = "callout_blocking_jobs";
  constexpr char kHelp[] = "Calls of blocking plugins, waiting for a thread or running";
  // Not counted where the name is taken, which only a test could bring about.
  waiting_gauge_ =
      metrics->Define(Metrics::Kind::kGauge, kName, kHelp, {{"state", "waiting"}}).value_or(0);
  running_gauge_ =
      metrics->Define(Metrics::Kind::kGauge, kName, kHelp, {{"state", "running"}}).value_or(0);
  queue_seconds_ = metrics
                       ->Define(Metrics::Kind::kHistogram, "callout_queue_seconds",
                                "Time that calls of blocking plugins waited for a thread")
                       .value_or(0);
}

BlockingPool::~BlockingPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void BlockingPool::Submit(const std::function<void()>& job) {
  const bool added = Add({.run = [job](bool) { job(); }, .queued_ns = MonotonicNs()});
  if (!added) job();
}

bool BlockingPool::SubmitCall(std::function<void(bool in_time)> job, const MovingMean* usual,
                              uint64_t deadline_ns) {
  return Add({.run = std::move(job),
              .usual = usual,
              .queued_ns = MonotonicNs(),
              .deadline_ns = deadline_ns,
              .expected_ns = usual->mean()});
}

bool BlockingPool::Add(Job job) {
  {
    std::lock_guard lock(mutex_);
    if (!AddThreads(job.queued_ns)) return false;
    job.had_thread = HasFreeThread();
    if (job.usual != nullptr && !job.had_thread && !MayBeInTime(job)) return false;
    queued_work_ns_ += job.expected_ns;
    metrics_->Add(waiting_gauge_, 1);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

bool BlockingPool::HasFreeThread() const { return idle_ > jobs_.size(); }

// By the work that lies before it. What takes longer than expected is as good as done:
// nobody knows better.
bool BlockingPool::MayBeInTime(const Job& job) const {
  if (job.queued_ns >= job.deadline_ns) return false;
  const uint64_t need_ns = job.usual->Need();
  if (need_ns == 0) return true;
  uint64_t before_ns = queued_work_ns_;
  for (uint64_t until_ns : busy_until_ns_) {
    if (until_ns > job.queued_ns) before_ns += until_ns - job.queued_ns;
  }
  const uint64_t has_ns = job.deadline_ns - job.queued_ns;
  return before_ns / threads_.size() + need_ns <= has_ns - has_ns / kSpareDivisor;
}

// One more if the next job would wait for one. False if there is none at all.
bool BlockingPool::AddThreads(uint64_t now_ns) {
  if (idle_ > jobs_.size() || threads_.size() >= threads_max_ || now_ns < try_threads_at_ns_) {
    return !threads_.empty();
  }
  const size_t number = threads_.size();
  busy_until_ns_.push_back(0);
  absl::StatusOr<std::thread> thread =
      StartThread("blocking plugins", [this, number] { Run(number); });
  if (thread.ok()) {
    threads_.push_back(*std::move(thread));
    ++idle_;  // it is as good as waiting
    return true;
  }
  busy_until_ns_.pop_back();
  try_threads_at_ns_ = now_ns + kThreadRetryNs;
  LogLimited(LogLevel::kError, "blocking_pool/thread", "{}; there are {} of --blocking_threads={}",
             MessageOf(thread.status()), threads_.size(), threads_max_);
  return !threads_.empty();
}

// What did not have to wait for others is begun in any case: a kind that takes longer
// than there is time would otherwise never be begun again, and never be seen to have
// become faster.
bool BlockingPool::MayBegin(const Job& job, uint64_t now_ns) {
  if (job.usual == nullptr) return true;
  return now_ns + (job.had_thread ? 0 : job.usual->Need()) < job.deadline_ns;
}

void BlockingPool::Run(size_t number) {
  HookTable::LetThisThreadWait();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    --idle_;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    queued_work_ns_ -= job.expected_ns;
    const uint64_t now_ns = MonotonicNs();
    const bool in_time = MayBegin(job, now_ns);
    busy_until_ns_[number] = in_time ? now_ns + job.expected_ns : 0;
    lock.unlock();
    metrics_->Add(waiting_gauge_, -1);
    metrics_->Add(running_gauge_, 1);
    if (job.usual != nullptr) {
      metrics_->Observe(queue_seconds_, static_cast<double>(now_ns - job.queued_ns) * 1e-9);
    }
    job.run(in_time);
    job.run = nullptr;
    metrics_->Add(running_gauge_, -1);
    lock.lock();
    busy_until_ns_[number] = 0;
    ++idle_;
  }
}

}  // namespace callout::host
