// SPDX-License-Identifier: Apache-2.0

// The first calls of a new version of a plugin, counted: if too many of them are
// faults, the version is to be withdrawn.
//
// An instance on trial counts into it; once the trial is over, calls cost nothing
// any more. All functions may be called from any thread.
#ifndef CALLOUT_HOST_PLUGIN_TRIAL_H_
#define CALLOUT_HOST_PLUGIN_TRIAL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

namespace callout::host {

// --reload_guard=RATE/CALLS: more faults than `rate` of the first `calls`.
struct ReloadGuard {
  double rate = 0.5;
  uint32_t calls = 100;  // 0: no trial
};

class Trial {
 public:
  // `on_failed` is called once, on the thread of the fault that was one too many;
  // it must not block.
  Trial(const ReloadGuard& guard, std::function<void()> on_failed)
      : calls_max_(guard.calls),
        faults_max_(static_cast<uint32_t>(guard.rate * guard.calls)),
        on_failed_(std::move(on_failed)) {}

  // False if the trial is over, and this call no part of it.
  bool CountCall() { return calls_.fetch_add(1, std::memory_order_relaxed) < calls_max_; }

  void CountFault() {
    if (faults_.fetch_add(1, std::memory_order_relaxed) == faults_max_) on_failed_();
  }

 private:
  const uint32_t calls_max_;
  const uint32_t faults_max_;
  const std::function<void()> on_failed_;
  std::atomic<uint32_t> calls_{0};
  std::atomic<uint32_t> faults_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_TRIAL_H_
