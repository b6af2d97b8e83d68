// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/chain.h"

#include <atomic>
#include <utility>

namespace callout::host {
namespace {

size_t ShardOfThisThread() {
  static std::atomic<size_t> threads{0};
  thread_local const size_t shard = threads.fetch_add(1) % ChainSource::kShards;
  return shard;
}

}  // namespace

std::shared_ptr<const Chain> ArrangeChain(std::vector<ChainPlace> in_order) {
  std::vector<ChainPlace> places;
  std::vector<ShadowPlace> shadows;
  for (ChainPlace& place : in_order) {
    if (!place.instance->is_shadow()) {
      places.push_back(std::move(place));
    } else if (!place.instance->plugin().stands_in()) {
      shadows.push_back({std::move(place.instance), places.size()});
    }
  }
  for (ShadowPlace& shadow : shadows) {
    const std::string& name = shadow.instance->settings().instead_of;
    for (size_t i = places.size(); i > 0 && !name.empty(); --i) {
      if (places[i - 1].instance->name() != name) continue;
      shadow.position = i - 1;
      ++shadow.replaces;
    }
    auto alone = std::make_shared<Chain>(std::vector<ChainPlace>{{shadow.instance}});
    // Who copies exchanges for it goes by its share.
    alone->has_share = false;
    shadow.alone = std::move(alone);
  }
  return std::make_shared<const Chain>(std::move(places), std::move(shadows));
}

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

void ChainSource::OnSwitch(std::function<void(const Chain&)> told) {
  const std::lock_guard<std::mutex> lock(told_mutex_);
  told_ = std::move(told);
  if (told_) told_(*current());
}

ChainSource::Holders ChainSource::Switch(const std::shared_ptr<const Chain>& chain) {
  Holders holders;
  {
    const std::lock_guard<std::mutex> lock(told_mutex_);
    if (told_) told_(*chain);
  }
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
