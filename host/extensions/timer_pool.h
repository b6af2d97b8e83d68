// SPDX-License-Identifier: Apache-2.0

// Threads that run functions later, for the timers of plugins (<callout/timers.h>).
//
//   TimerPool pool({.threads_max = 4}, &metrics);
//   TimerSet timers(&pool, {.name = "10-auth", .timers_max = 1000, .call = …});
//   timers.Start({.run = Refresh, .data = list, .period_ns = 60'000'000'000}, &id);
//   timers.Open();                   // from now on they run
//   …  if (!timers.Close(on_idle)) … a run is under way; on_idle is called when it has returned …
//
// The timers of a set run one after the other, those of different sets at once, the earliest first.
// Threads are started as they are needed, up to the limit, and stay. Functions of timers are called
// without a lock.
//
// Any thread, but Open, Close and the destructor of a set belong to its owner. A pool outlives its
// sets.
#ifndef CALLOUT_HOST_EXTENSIONS_TIMER_POOL_H_
#define CALLOUT_HOST_EXTENSIONS_TIMER_POOL_H_

#include <callout/timers.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/metrics/metrics.h"

namespace callout::host {

class TimerSet;

class TimerPool {
 public:
  struct Options {
    size_t threads_max = 4;
    // False: timers can be started and never run, where plugins are only checked.
    bool runs = true;
  };

  // `metrics` outlives the pool.
  TimerPool(const Options& options, Metrics* metrics);
  // Every set is gone.
  ~TimerPool();
  TimerPool(const TimerPool&) = delete;
  TimerPool& operator=(const TimerPool&) = delete;

  // No further run begins, for the end of the process. Waits for those under way, at most
  // `timeout_ms`; false if one has not returned: then nothing that it may touch can be destroyed.
  bool Stop(uint64_t timeout_ms);

 private:
  friend class TimerSet;

  bool AddThread();
  void Run();
  void RunOne(TimerSet* set, std::unique_lock<std::mutex>* lock);
  void Queue(TimerSet* set);
  void Unqueue(TimerSet* set);

  const Options options_;
  Metrics* const metrics_;

  std::mutex mutex_;  // guards the following, and what the sets say it guards
  std::condition_variable due_;
  std::condition_variable returned_;  // a run has, or a thread
  // Sets of which nothing runs, by their earliest timer.
  std::set<std::pair<uint64_t, TimerSet*>> queue_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  size_t running_ = 0;
  uint64_t last_id_ = 0;
  uint64_t try_threads_at_ns_ = 0;  // after a failure
  bool stopping_ = false;
};

class TimerSet {
 public:
  struct Options {
    std::string name;  // of the instance, for metrics and log lines
    size_t timers_max = 10000;
    // Calls run(data) or release(data), on whatever thread.
    std::function<void(void (*function)(void*), void* data)> call;
  };

  // Metrics: callout_timers, callout_timer_seconds, callout_timer_late_seconds,
  // callout_timers_refused_total.
  TimerSet(TimerPool* pool, Options options);
  ~TimerSet() { CloseAndWait(); }
  TimerSet(const TimerSet&) = delete;
  TimerSet& operator=(const TimerSet&) = delete;

  // As <callout/timers.h> says; refusals are logged.
  callout_status_t Start(const callout_timer_t& timer, uint64_t* id);
  callout_status_t Cancel(uint64_t id);

  // Until then timers can be started and do not run.
  void Open();
  // No further run begins, and no timer can be started; releases those that wait. False if one is
  // running: `on_idle` is called once, on another thread, when it has returned. May be called
  // again.
  bool Close(std::function<void()> on_idle);
  // The same, and waits for it. The log says so if it takes long.
  void CloseAndWait();

 private:
  friend class TimerPool;
  enum class State : uint8_t { kNew, kOpen, kClosed };
  enum class Running : uint8_t { kNone, kRuns, kRunsForTheLastTime };
  using Waiting = std::map<std::pair<uint64_t, uint64_t>, callout_timer_t>;  // by due_ns and id

  void Release(const callout_timer_t& timer);
  callout_status_t Refuse(callout_status_t status, std::string_view why);
  // What is wrong with it; "": nothing.
  static std::string WhyInvalid(const callout_timer_t& timer);
  bool IsReady() const { return state_ == State::kOpen && running_ == Running::kNone; }
  size_t Count() const { return waiting_.size() + (running_ == Running::kNone ? 0 : 1); }

  TimerPool* const pool_;
  const Options options_;
  Metrics::Id timers_gauge_ = 0, seconds_ = 0, late_seconds_ = 0, refused_ = 0;

  // Guarded by the pool's mutex.
  State state_ = State::kNew;
  Waiting waiting_;
  std::map<uint64_t, uint64_t> due_;  // of each that waits, by id
  Running running_ = Running::kNone;
  uint64_t running_id_ = 0;
  uint64_t queued_at_ns_ = 0;  // its place in the pool's queue; kNotQueued: none
  std::function<void()> on_idle_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXTENSIONS_TIMER_POOL_H_
