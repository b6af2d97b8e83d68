// SPDX-License-Identifier: Apache-2.0

// How many RPCs live in the process, over all connections, and when there are too
// many.
//
// The places are common to all threads, but a thread takes and gives them back by
// the batch, so that RPCs that come and go touch no memory that threads share. A
// thread may keep two batches unused, a 2048th of the limit; limits below 4096 are
// kept to the place.
//
//   LiveLimit limit(100000);
//   LiveCount count(&limit);        // one for each thread that serves
//   if (!count.Add()) refuse;  …  count.Remove();
#ifndef CALLOUT_HOST_STREAM_LIVE_COUNT_H_
#define CALLOUT_HOST_STREAM_LIVE_COUNT_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <utility>

namespace callout::host {

// Any thread.
class LiveLimit {
 public:
  explicit LiveLimit(size_t max) : max_(max), free_(max) {}
  LiveLimit(const LiveLimit&) = delete;
  LiveLimit& operator=(const LiveLimit&) = delete;

  size_t max() const { return max_; }
  // More than half of the places are taken: those left are shared out.
  bool scarce() const { return free_.load(std::memory_order_relaxed) < max_ - max_ / 2; }
  // As many places as there are, up to `wanted`.
  size_t Take(size_t wanted) {
    size_t free = free_.load(std::memory_order_relaxed);
    while (!free_.compare_exchange_weak(free, free - std::min(free, wanted),
                                        std::memory_order_relaxed)) {
    }
    return std::min(free, wanted);
  }
  void Give(size_t places) { free_.fetch_add(places, std::memory_order_relaxed); }

 private:
  const size_t max_;
  std::atomic<size_t> free_;
};

// One thread's, but for live().
class LiveCount {
 public:
  // `limit` outlives it.
  explicit LiveCount(LiveLimit* limit)
      : limit_(limit), batch_(std::min(kBatchMax, limit->max() / 4096)) {}
  ~LiveCount() { limit_->Give(unused_); }
  LiveCount(const LiveCount&) = delete;
  LiveCount& operator=(const LiveCount&) = delete;

  // False: there are too many, and it is not counted.
  bool Add() {
    if (unused_ == 0) unused_ = limit_->Take(batch_ + 1);
    if (unused_ == 0) return false;
    --unused_;
    live_.store(live_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return true;
  }
  void Remove() {
    live_.store(live_.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    if (++unused_ > 2 * batch_) limit_->Give(std::exchange(unused_, batch_) - batch_);
  }

  // Places that a thread takes at once.
  size_t batch() const { return batch_; }
  // Those of this thread. Any thread.
  size_t live() const { return live_.load(std::memory_order_acquire); }

 private:
  static constexpr size_t kBatchMax = 64;

  LiveLimit* const limit_;
  const size_t batch_;
  size_t unused_ = 0;  // taken of the limit
  std::atomic<size_t> live_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_LIVE_COUNT_H_
