// SPDX-License-Identifier: Apache-2.0

// What stands around an RPC that a target drives: who watches it, and the threads of blocking
// hooks.
#ifndef CALLOUT_TESTS_FUZZ_FUZZ_ENVIRONMENT_H_
#define CALLOUT_TESTS_FUZZ_FUZZ_ENVIRONMENT_H_

#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>

#include "host/plugin/call_observer.h"
#include "host/stream/stream_environment.h"

namespace callout::host {

// Counts what it is told. Outlives the environment's RPCs.
class FuzzWatcher final : public RpcWatcher {
 public:
  void WatchIn(StreamEnvironment* environment) {
    environment->watchers().Add(this);
    environment->watchers().SetActive(this, true);
  }
  std::unique_ptr<RpcObserver> Watch(const RpcStart&) override {
    ++rpcs;
    return std::make_unique<Observer>(this);
  }
  size_t rpcs = 0, calls = 0, ends = 0;

 private:
  class Observer final : public RpcObserver {
   public:
    explicit Observer(FuzzWatcher* watcher) : watcher_(watcher) { set_phases(~uint64_t{0}); }
    void OnCall(const CallRecord&) override { ++watcher_->calls; }
    void OnEnd(const RpcEnd&) override { ++watcher_->ends; }

   private:
    FuzzWatcher* const watcher_;
  };
};

// Limits with which AwaitBlockingHooks works, and no hook is late on a slow machine.
inline void LimitForFuzzing(StreamLimits* limits) {
  limits->blocking_threads_max = 1;
  limits->hook_deadline_ms = 60'000;
}

// Until the one thread has done all that it was given, so that an input always does the same.
inline void AwaitBlockingHooks(StreamEnvironment* environment) {
  std::promise<void> done;
  environment->blocking_pool().Submit([&] { done.set_value(); });
  done.get_future().wait();
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_FUZZ_ENVIRONMENT_H_
