// SPDX-License-Identifier: Apache-2.0

// The memory behind host/metrics/metrics.h: arrays that grow without moving, a shard of cells for
// each thread, and the pool that lends the shards.
//
// Tested by tests/host/metrics/metrics_test.cc.
#ifndef CALLOUT_HOST_METRICS_METRIC_SHARDS_H_
#define CALLOUT_HOST_METRICS_METRIC_SHARDS_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace callout::host {

// Two cache lines of 64 bytes, because processors fetch them in pairs.
inline constexpr size_t kNoSharingBytes = 128;

// An array of up to `size_max` elements, in blocks that are allocated when first needed and never
// move. One thread at a time may call Get; any thread may call Find.
template <class T>
class BlockArray {
 public:
  explicit BlockArray(size_t size_max) : blocks_(size_max / kBlockSize + 1) {}
  ~BlockArray() {
    for (auto& block : blocks_) delete block.load(std::memory_order_relaxed);
  }
  BlockArray(const BlockArray&) = delete;
  BlockArray& operator=(const BlockArray&) = delete;

  T* Find(size_t index) const {
    Block* block = blocks_[index / kBlockSize].load(std::memory_order_acquire);
    return block == nullptr ? nullptr : &block->items[index % kBlockSize];
  }

  T& Get(size_t index) {
    std::atomic<Block*>& slot = blocks_[index / kBlockSize];
    Block* block = slot.load(std::memory_order_relaxed);
    if (block == nullptr) {
      block = new Block;
      slot.store(block, std::memory_order_release);
    }
    return block->items[index % kBlockSize];
  }

 private:
  static constexpr size_t kBlockSize = 256;
  struct alignas(kNoSharingBytes) Block {
    T items[kBlockSize]{};
  };

  std::vector<std::atomic<Block*>> blocks_;
};

// Cells that one thread at a time writes and any thread reads. Counts are doubles, exact up to
// 2^53.
class MetricShard {
 public:
  using Cell = std::atomic<double>;
  static_assert(Cell::is_always_lock_free);

  explicit MetricShard(size_t cells_max) : cells_(cells_max) {}

  // Only for the writing thread: a load and a store instead of a locked add.
  void Add(size_t cell, double delta) {
    Cell& value = cells_.Get(cell);
    value.store(value.load(std::memory_order_relaxed) + delta, std::memory_order_relaxed);
  }

  double Read(size_t cell) const {
    const Cell* value = cells_.Find(cell);
    return value == nullptr ? 0 : value->load(std::memory_order_relaxed);
  }

  // Creates the cell, so that Find returns it on every thread.
  void Make(size_t cell) { cells_.Get(cell); }
  Cell* Find(size_t cell) { return cells_.Find(cell); }

 private:
  BlockArray<Cell> cells_;
};

// Lends shards to threads. A released shard keeps its counts and is lent again.
class MetricShardPool {
 public:
  explicit MetricShardPool(size_t cells_max) : cells_max_(cells_max) {}

  MetricShard* Acquire() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) {
      all_.push_back(std::make_unique<MetricShard>(cells_max_));
      return all_.back().get();
    }
    MetricShard* shard = free_.back();
    free_.pop_back();
    return shard;
  }

  void Release(MetricShard* shard) {
    std::lock_guard lock(mutex_);
    free_.push_back(shard);
  }

  // All shards; they live as long as the pool.
  std::vector<MetricShard*> All() const {
    std::lock_guard lock(mutex_);
    std::vector<MetricShard*> shards;
    shards.reserve(all_.size());
    for (const auto& shard : all_) shards.push_back(shard.get());
    return shards;
  }

 private:
  const size_t cells_max_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<MetricShard>> all_;
  std::vector<MetricShard*> free_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_METRIC_SHARDS_H_
