// SPDX-License-Identifier: Apache-2.0

// How many bytes the process may keep for its clients, and how many it keeps.
//
// Connections, streams, messages, bodies and attributes draw from one budget. The
// budget counts what is kept, the capacity of a buffer, not what is in it. It is an
// account, no allocator: who is refused frees what it holds.
//
//   MemoryBudget budget(bytes);
//   MemoryShare share(&budget);              // one for each thread that serves
//   size_t drawn = 0;
//   if (!share.Resize(&drawn, buffer.capacity())) … there is too much: let go …
//   share.Resize(&drawn, 0);
//
// Load is shed before the budget is gone: new connections are refused above fifteen
// sixteenths of it, new streams above seven eighths. So the streams that are there may
// use the rest.
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
  // What asked for memory and was refused. Also the metric's label.
  enum class Use : uint8_t { kConnection, kStream, kGrowth };
  static constexpr size_t kUseCount = 3;
  static const char* UseName(Use use);

  // SIZE_MAX: no limit.
  explicit MemoryBudget(size_t bytes_max) : max_(bytes_max) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  size_t max() const { return max_; }
  size_t used() const { return used_.load(std::memory_order_relaxed); }

  // Counts them in any case; false if that is more than there is.
  bool Take(size_t bytes) {
    return used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= max_;
  }
  void Give(size_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  bool may_open_connection() const { return used() <= max_ - max_ / 16; }
  bool may_open_stream() const { return used() <= max_ - max_ / 8; }

  // Has the allocator give freed memory back to the system at once while more than a
  // quarter of the budget is used, and keep it for a while, as it does by itself, below
  // that. Call it often.
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

// What one thread draws. It takes from the budget by the batch, so that streams that
// come and go touch no memory that threads share; it keeps at most two batches, of
// 32 KiB or a 1024th of the budget, that nobody has drawn.
class MemoryShare {
 public:
  // `budget` outlives it.
  explicit MemoryShare(MemoryBudget* budget)
      : budget_(budget), batch_(std::min<size_t>(32768, budget->max() / 1024)) {}
  ~MemoryShare() { budget_->Give(unused_); }
  MemoryShare(const MemoryShare&) = delete;
  MemoryShare& operator=(const MemoryShare&) = delete;

  MemoryBudget* budget() const { return budget_; }

  // Makes `*drawn` the bytes that somebody keeps. They count in any case; false if they
  // are more than before and more than there is.
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

// 60 % of the least of the machine's memory and the limits (memory.max, memory.high)
// of the process's cgroup and those above it, divided by `processes`.
size_t DefaultMemoryBudget(size_t processes);

// The bytes in a file such as memory.max; nullopt if it says "max", or is none.
std::optional<uint64_t> BytesOfMemoryLimit(std::string_view text);
// The least limit of the cgroup at `path` under `root` and of those above it; nullopt
// if there is none.
std::optional<uint64_t> MemoryLimitOfCgroup(const std::string& root, std::string_view path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_MEMORY_BUDGET_H_
