// SPDX-License-Identifier: Apache-2.0

#include "host/ops/readiness_watch.h"

#include <chrono>
#include <utility>

#include "host/base/thread.h"

namespace callout::host {
namespace {

constexpr std::chrono::milliseconds kPoll(100);

}  // namespace

ReadinessWatch::ReadinessWatch(std::function<bool()> ready, std::function<void(bool)> tell)
    : ready_(std::move(ready)), tell_(std::move(tell)) {}

absl::StatusOr<std::unique_ptr<ReadinessWatch>> ReadinessWatch::Start(
    std::function<bool()> ready, std::function<void(bool)> tell) {
  std::unique_ptr<ReadinessWatch> watch(new ReadinessWatch(std::move(ready), std::move(tell)));
  const bool first = watch->ready_();
  watch->tell_(first);
  absl::StatusOr<std::thread> thread =
      StartThread("watching readiness", [watch = watch.get(), first] { watch->Run(first); });
  if (!thread.ok()) return thread.status();
  watch->thread_ = *std::move(thread);
  return watch;
}

ReadinessWatch::~ReadinessWatch() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ReadinessWatch::Run(bool told) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopped_.wait_for(lock, kPoll, [this] { return stop_; })) {
    lock.unlock();
    const bool ready = ready_();
    if (std::exchange(told, ready) != ready) tell_(ready);
    lock.lock();
  }
}

}  // namespace callout::host
