// SPDX-License-Identifier: Apache-2.0

// Counts the memory that the process keeps for its clients, against one limit.
//
// Connections, streams, messages, bodies and attributes draw from one budget. A buffer counts with
// its capacity, not with its content. The budget only counts: a caller that is refused frees what
// it holds.
//
//   MemoryBudget budget(bytes);
//   MemoryShare share(&budget);              // one for each thread that serves
//   size_t drawn = 0;
//   if (!share.Resize(&drawn, buffer.capacity())) … over the budget: free the buffer …
//   share.Resize(&drawn, 0);
//
// Load is shed before the budget is used up: new streams are refused above 7/8 of it, new
// connections above 15/16. The rest is for running streams.
#ifndef CALLOUT_HOST_BASE_MEMORY_BUDGET_H_
#define CALLOUT_HOST_BASE_MEMORY_BUDGET_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace callout::host {

// Any thread.
class MemoryBudget {
 public:
  // What asked for memory. Also the label of the metric that counts refusals.
  enum class Use : uint8_t { kConnection, kStream, kGrowth };
  static constexpr size_t kUseCount = 3;
  static const char* UseName(Use use);

  // SIZE_MAX: no limit.
  explicit MemoryBudget(size_t bytes_max) : max_(bytes_max) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  size_t max() const { return max_; }
  size_t used() const { return used_.load(std::memory_order_relaxed); }

  // Counts the bytes in any case; false if the budget is exceeded.
  bool Take(size_t bytes) {
    return used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= max_;
  }
  void Give(size_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  bool may_open_connection() const { return used() <= max_ - max_ / 16; }
  bool may_open_stream() const { return used() <= max_ - max_ / 8; }

  // While more than a quarter of the budget is in use, makes the allocator return freed memory to
  // the system at once; below that, after a while, which is its default. Call it often.
  void TellAllocator() {
    const bool much = used() > max_ / 4;
    if (much != allocator_told_.load(std::memory_order_relaxed) &&
        allocator_told_.exchange(much, std::memory_order_relaxed) != much) {
      ReturnMemoryAtOnce(much);
    }
  }

  void CountRefusal(Use use) {
    refusals_[static_cast<size_t>(use)].fetch_add(1, std::memory_order_relaxed);
  }
  uint64_t refusals(Use use) const {
    return refusals_[static_cast<size_t>(use)].load(std::memory_order_relaxed);
  }

 private:
  static void ReturnMemoryAtOnce(bool at_once);

  const size_t max_;
  std::atomic<size_t> used_{0};
  std::atomic<bool> allocator_told_{false};
  std::atomic<uint64_t> refusals_[kUseCount] = {};
};

// One thread's part of the budget. It takes memory from the budget in batches, so that most streams
// touch no memory that threads share. It holds at most two unused batches, of 32 KiB or 1/1024 of
// the budget each.
class MemoryShare {
 public:
  // `budget` outlives it.
  explicit MemoryShare(MemoryBudget* budget)
      : budget_(budget), batch_(std::min<size_t>(32768, budget->max() / 1024)) {}
  ~MemoryShare() { budget_->Give(unused_); }
  MemoryShare(const MemoryShare&) = delete;
  MemoryShare& operator=(const MemoryShare&) = delete;

  MemoryBudget* budget() const { return budget_; }

  // Changes what a holder keeps from `*drawn` to `bytes` bytes. They count in any case; false if
  // they are more than before and the budget is exceeded.
  bool Resize(size_t* drawn, size_t bytes) {
    const size_t before = *drawn;
    *drawn = bytes;
    if (bytes <= before) {
      Put(before - bytes);
      return true;
    }
    return Draw(bytes - before);
  }

 private:
  bool Draw(size_t bytes) {
    if (bytes <= unused_) {
      unused_ -= bytes;
      return true;
    }
    const size_t wanted = bytes - unused_ + batch_;
    unused_ = batch_;
    return budget_->Take(wanted);
  }
  void Put(size_t bytes) {
    unused_ += bytes;
    if (unused_ <= 2 * batch_) return;
    budget_->Give(unused_ - batch_);
    unused_ = batch_;
  }

  MemoryBudget* const budget_;
  const size_t batch_;
  size_t unused_ = 0;
};

// 60 % of the smallest of the machine's memory and the limits (memory.max, memory.high) of the
// process's cgroup and its ancestors, divided by `processes`.
size_t DefaultMemoryBudget(size_t processes);

// The number in a file such as memory.max; nullopt if it says "max" or is invalid.
std::optional<uint64_t> BytesOfMemoryLimit(std::string_view text);
// The smallest limit of the cgroup at `path` under `root` and of its ancestors; nullopt if there is
// none.
std::optional<uint64_t> MemoryLimitOfCgroup(const std::string& root, std::string_view path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_MEMORY_BUDGET_H_
