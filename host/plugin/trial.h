// SPDX-License-Identifier: Apache-2.0

// Counts the first calls of a new version of a plugin, at their end: a call that is deferred shows
// late what it comes to. If too many of them are faults, the version is rolled back.
//
// An instance on trial counts into it; after the trial, calls cost nothing. Faults that cannot be
// of the plugin's code (MayBeOfCode) are not counted. Any thread may call all functions.
#ifndef CALLOUT_HOST_PLUGIN_TRIAL_H_
#define CALLOUT_HOST_PLUGIN_TRIAL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

namespace callout::host {

// --reload_guard=RATE/CALLS: the trial fails if more than `rate` of the first `calls` are faults.
struct ReloadGuard {
  double rate = 0.5;
  uint32_t calls = 100;  // 0: no trial
};

class Trial {
 public:
  // `on_failed` is called once, on the thread of the fault that exceeds the limit. It must not
  // block.
  Trial(const ReloadGuard& guard, std::function<void()> on_failed)
      : calls_max_(guard.calls),
        faults_max_(static_cast<uint32_t>(guard.rate * guard.calls)),
        on_failed_(std::move(on_failed)) {}

  // Counts the end of a call, after its fault. False: it was the last one of the trial.
  bool CountCall() { return calls_.fetch_add(1, std::memory_order_relaxed) + 1 < calls_max_; }

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
