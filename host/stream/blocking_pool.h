// Threads for the hooks of instances that are declared blocking, so that the
// transports' own threads never wait.
//
// Jobs run in the order of their coming, each on any of the threads. The queue
// has no limit of its own: every job is a call that counts as deferred, and the
// number of those is limited (--max_deferred). Threads are started as they are
// needed, up to the limit, and stay.
//
//   BlockingPool pool(16, &metrics);
//   pool.Submit([state] { … });     // any thread
#ifndef CALLOUT_HOST_STREAM_BLOCKING_POOL_H_
#define CALLOUT_HOST_STREAM_BLOCKING_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "host/metrics/metrics.h"

namespace callout::host {

class BlockingPool {
 public:
  // `metrics` outlives the pool. Metric: callout_blocking_jobs{state}, gauges of
  // the jobs that wait and that run.
  BlockingPool(size_t threads_max, Metrics* metrics);
  // Runs what is queued and ends the threads: waits for every job.
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  void Submit(std::function<void()> job);

 private:
  void Run();

  const size_t threads_max_;
  Metrics* const metrics_;
  Metrics::Id waiting_gauge_ = 0;
  Metrics::Id running_gauge_ = 0;

  std::mutex mutex_;  // guards the following
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_BLOCKING_POOL_H_
