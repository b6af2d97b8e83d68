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

#include "host/metrics/metric_memory.h"

namespace callout::host {

// Two cache lines of 64 bytes, because processors fetch them in pairs.
inline constexpr size_t kNoSharingBytes = 128;

// An array of up to `size_max` elements, in blocks that are allocated when first needed and never
// move. One thread at a time may call Get; any thread may call Find.
template <class T>
class BlockArray {
 public:
  static constexpr size_t kBlockSize = 256;

  explicit BlockArray(size_t size_max) : blocks_(size_max / kBlockSize + 1) {}
  BlockArray(const BlockArray&) = delete;
  BlockArray& operator=(const BlockArray&) = delete;

  [[gnu::always_inline]] inline T* Find(size_t index) const {
    T* const block = blocks_[index / kBlockSize].load(std::memory_order_acquire);
    return block == nullptr ? nullptr : block + index % kBlockSize;
  }

  T& Get(size_t index) {
    T* const block = blocks_[index / kBlockSize].load(std::memory_order_relaxed);
    if (block != nullptr) return block[index % kBlockSize];
    own_.push_back(std::make_unique<Block>());
    Put(index, own_.back()->items);
    return own_.back()->items[index % kBlockSize];
  }

  // Gives the element and its neighbours this memory, for kBlockSize elements, that stays the
  // caller's. As Get, and only if it has none yet.
  void Put(size_t index, T* block) {
    blocks_[index / kBlockSize].store(block, std::memory_order_release);
  }

 private:
  struct alignas(kNoSharingBytes) Block {
    T items[kBlockSize]{};
  };

  std::vector<std::atomic<T*>> blocks_;
  std::vector<std::unique_ptr<Block>> own_;
};

// Cells that one thread at a time writes and any thread reads. Counts are doubles, exact up to
// 2^53.
class MetricShard {
 public:
  using Cell = MetricMemory::Cell;
  static_assert(Cell::is_always_lock_free);

  // `memory` outlives it; null: memory of this process.
  explicit MetricShard(size_t cells_max, MetricMemory* memory = nullptr)
      : cells_(cells_max), memory_(memory) {}

  // Only for the writing thread: a load and a store instead of a locked add.
  [[gnu::always_inline]] inline void Add(size_t cell, double delta) {
    Cell* const known = cells_.Find(cell);
    if (known == nullptr) return AddToNew(cell, delta);
    Raise(known, delta);
  }

  double Read(size_t cell) const {
    const Cell* value = cells_.Find(cell);
    return value == nullptr ? 0 : value->load(std::memory_order_relaxed);
  }

  // Creates the cell, so that Find returns it on every thread.
  void Make(size_t cell) { cells_.Get(cell); }
  Cell* Find(size_t cell) { return cells_.Find(cell); }

 private:
  static_assert(MetricMemory::kBlockCells == BlockArray<Cell>::kBlockSize);

  static void Raise(Cell* value, double delta) {
    value->store(value->load(std::memory_order_relaxed) + delta, std::memory_order_relaxed);
  }

  // Not inline, and the last that Add does: so Add has no registers to save.
  [[gnu::noinline]] void AddToNew(size_t cell, double delta) {
    if (memory_ != nullptr) {
      const size_t first = cell - cell % MetricMemory::kBlockCells;
      if (Cell* block = memory_->TakeBlock(first); block != nullptr) cells_.Put(cell, block);
    }
    Raise(&cells_.Get(cell), delta);
  }

  BlockArray<Cell> cells_;
  MetricMemory* const memory_;
};

// Lends shards to threads. A released shard keeps its counts and is lent again.
class MetricShardPool {
 public:
  explicit MetricShardPool(size_t cells_max, MetricMemory* memory = nullptr)
      : cells_max_(cells_max), memory_(memory) {}

  MetricShard* Acquire() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) {
      all_.push_back(std::make_unique<MetricShard>(cells_max_, memory_));
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
  MetricMemory* const memory_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<MetricShard>> all_;
  std::vector<MetricShard*> free_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_METRIC_SHARDS_H_
