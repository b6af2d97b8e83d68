// SPDX-License-Identifier: Apache-2.0

// The moving mean and deviation of a value, such as the time that calls take.
//
//   MovingMean mean;
//   mean.Add(taken_ns);
//   mean.Need();   // mean plus deviation; 0 before the first value
//
// Any thread. Of two values at the same moment, one may be lost.
#ifndef CALLOUT_HOST_BASE_MOVING_MEAN_H_
#define CALLOUT_HOST_BASE_MOVING_MEAN_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace callout::host {

class MovingMean {
 public:
  void Add(uint64_t value) {
    value = std::max<uint64_t>(value, 1);
    const uint64_t mean = mean_.load(std::memory_order_relaxed);
    if (mean == 0) return mean_.store(value, std::memory_order_relaxed);
    const uint64_t away = value > mean ? value - mean : mean - value;
    const uint64_t deviation = deviation_.load(std::memory_order_relaxed);
    deviation_.store(Towards(deviation, away), std::memory_order_relaxed);
    mean_.store(std::max<uint64_t>(Towards(mean, value), 1), std::memory_order_relaxed);
  }

  uint64_t mean() const { return mean_.load(std::memory_order_relaxed); }
  uint64_t Need() const { return mean() + deviation_.load(std::memory_order_relaxed); }

 private:
  // An eighth of the distance.
  static uint64_t Towards(uint64_t from, uint64_t to) {
    return to > from ? from + (to - from) / 8 : from - (from - to) / 8;
  }

  std::atomic<uint64_t> mean_{0};
  std::atomic<uint64_t> deviation_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_MOVING_MEAN_H_
