// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/chain.h"

#include <atomic>

namespace callout::host {
namespace {

size_t ShardOfThisThread() {
  static std::atomic<size_t> threads{0};
  thread_local const size_t shard = threads.fetch_add(1) % ChainSource::kShards;
  return shard;
}

}  // namespace

size_t ChainSource::Holders::Count() const {
  size_t count = 0;
  for (const auto& holder : by_shard_) count += static_cast<size_t>(holder.use_count());
  return count;
}

std::shared_ptr<const Chain> ChainSource::current() const {
  const Shard& shard = shards_[ShardOfThisThread()];
  std::lock_guard<std::mutex> lock(shard.mutex);
  return shard.chain;
}

ChainSource::Holders ChainSource::Switch(const std::shared_ptr<const Chain>& chain) {
  Holders holders;
  for (size_t i = 0; i < kShards; ++i) {
    const auto owner = std::make_shared<const std::shared_ptr<const Chain>>(chain);
    std::shared_ptr<const Chain> held(owner, chain.get());
    holders.by_shard_[i] = held;
    std::lock_guard<std::mutex> lock(shards_[i].mutex);
    shards_[i].chain.swap(held);
  }
  services_.store(chain->services.bits(), std::memory_order_relaxed);
  return holders;
}

}  // namespace callout::host
