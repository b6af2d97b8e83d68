// SPDX-License-Identifier: Apache-2.0

// Threads for the hooks of instances that are declared blocking, so that the
// transports' own threads never wait.
//
// Jobs run in the order of their coming, each on any of the threads. Threads are
// started as they are needed, up to the limit, and stay.
//
// A call has a deadline, and nobody waits for what comes after it. So that a pool that
// gets more than it can do still does what it can, a call is refused when the queue is
// so long that it could not be done in time, and dropped unbegun if its time has become
// too short in the queue. Both go by how long calls of its kind have taken lately.
// While a thread is free every call is begun, however long its kind takes. A queue of
// calls that may all be in time is short, so it needs no other limit.
//
//   BlockingPool pool(16, &metrics);
//   const bool taken = pool.SubmitCall([state](bool in_time) { … }, &usual, deadline_ns);
//   pool.Submit([state] { … });
//
// Any thread.
#ifndef CALLOUT_HOST_STREAM_BLOCKING_POOL_H_
#define CALLOUT_HOST_STREAM_BLOCKING_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "host/base/moving_mean.h"
#include "host/metrics/metrics.h"

namespace callout::host {

class BlockingPool {
 public:
  // Of the time that a call has, the part that may be left over when it is expected to
  // be done; one that is expected later is refused. Expectations are not exact.
  static constexpr uint64_t kSpareDivisor = 5;

  // `metrics` outlives the pool. Metrics: callout_blocking_jobs{state}, gauges of the
  // jobs that wait and that run; callout_queue_seconds, how long calls have waited.
  BlockingPool(size_t threads_max, Metrics* metrics);
  // Runs what is queued and ends the threads: waits for every job.
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // Queues what has to be done at any time. Where no thread can be made at all it is
  // done before this returns.
  void Submit(const std::function<void()>& job);

  // Queues a call that has to be done by `deadline_ns` (MonotonicNs), and usually takes
  // what `usual` says, which outlives the job. `job` runs once, with false if the time
  // became too short in the queue: then nothing is to be begun. Returns false, and
  // does not run it, if the call cannot be done in time or no thread can be made.
  bool SubmitCall(std::function<void(bool in_time)> job, const MovingMean* usual,
                  uint64_t deadline_ns);

 private:
  struct Job {
    std::function<void(bool in_time)> run;
    const MovingMean* usual = nullptr;  // null: no call
    uint64_t queued_ns = 0;
    uint64_t deadline_ns = 0;
    uint64_t expected_ns = 0;  // what it added to queued_work_ns_
    bool had_thread = false;   // a free one, when it was queued
  };

  bool Add(Job job);
  bool MayBeInTime(const Job& job) const;
  static bool MayBegin(const Job& job, uint64_t now_ns);
  bool HasFreeThread() const;
  bool AddThreads(uint64_t now_ns);
  void Run(size_t number);

  const size_t threads_max_;
  Metrics* const metrics_;
  Metrics::Id waiting_gauge_ = 0;
  Metrics::Id running_gauge_ = 0;
  Metrics::Id queue_seconds_ = 0;

  std::mutex mutex_;  // guards the following
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  uint64_t queued_work_ns_ = 0;
  std::vector<std::thread> threads_;
  std::vector<uint64_t> busy_until_ns_;  // by thread, as expected; 0: idle
  size_t idle_ = 0;
  uint64_t try_threads_at_ns_ = 0;  // after a failure
  bool stopping_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_BLOCKING_POOL_H_
