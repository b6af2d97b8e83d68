#include "host/stream/blocking_pool.h"

#include <algorithm>
#include <utility>

namespace callout::host {

BlockingPool::BlockingPool(size_t threads_max, Metrics* metrics)
    : threads_max_(std::max<size_t>(threads_max, 1)), metrics_(metrics) {
  constexpr char kName[] = "callout_blocking_jobs";
  constexpr char kHelp[] = "Calls of blocking plugins, waiting for a thread or running";
  // Not counted where the name is taken, which only a test could bring about.
  waiting_gauge_ =
      metrics->Define(Metrics::Kind::kGauge, kName, kHelp, {{"state", "waiting"}}).value_or(0);
  running_gauge_ =
      metrics->Define(Metrics::Kind::kGauge, kName, kHelp, {{"state", "running"}}).value_or(0);
}

BlockingPool::~BlockingPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void BlockingPool::Submit(std::function<void()> job) {
  metrics_->Add(waiting_gauge_, 1);
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    if (idle_ < jobs_.size() && threads_.size() < threads_max_) {
      threads_.emplace_back([this] { Run(); });
    }
  }
  wake_.notify_one();
}

void BlockingPool::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    --idle_;
    if (jobs_.empty()) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    metrics_->Add(waiting_gauge_, -1);
    metrics_->Add(running_gauge_, 1);
    job();
    job = nullptr;
    metrics_->Add(running_gauge_, -1);
    lock.lock();
  }
}

}  // namespace callout::host
