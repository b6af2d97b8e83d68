// SPDX-License-Identifier: Apache-2.0

// Token buckets by name. A bucket begins full, loses a token for each hit, and fills up again with
// time. One that is full is as good as none, so full buckets make room for new ones.
//
//   TokenBuckets buckets(100000);
//   const auto outcome = buckets.Take("ada", {.capacity = 10, .per_second = 2}, 1, Now());
//   if (outcome.kind != TokenBuckets::Kind::kTaken) refuse();
//
// The buckets lie in shards, each with its own lock, so that threads rarely wait for each other.
// Any thread.
//
// Tested by tests/plugins/local_rate_limit_test.cc.
#ifndef CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_TOKEN_BUCKETS_H_
#define CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_TOKEN_BUCKETS_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <mutex>
#include <string>
#include <unordered_map>

namespace callout::plugins {

class TokenBuckets {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Rate {
    double capacity = 1;
    double per_second = 1;
  };
  enum class Kind : uint8_t {
    kTaken,
    kShort,  // the bucket has fewer tokens; none was taken
    kFull,   // there are as many buckets as may be, and none of them is full
  };
  struct Outcome {
    Kind kind = Kind::kTaken;
    double tokens = 0;  // left in the bucket
  };

  // Until a bucket with `tokens` has as many as `wanted`, rounded up; 0 if it never has.
  static uint32_t SecondsUntil(double wanted, double tokens, const Rate& rate) {
    if (wanted <= tokens || rate.per_second <= 0 || wanted > rate.capacity) return 0;
    const double seconds = std::ceil((wanted - tokens) / rate.per_second);
    return static_cast<uint32_t>(std::min(seconds, 4294967295.0));
  }

  explicit TokenBuckets(size_t buckets_max)
      : shard_max_(std::max<size_t>(1, buckets_max / kShards)) {}

  // Takes `hits` tokens, if there are as many. 0 takes none, and asks whether there is one. A
  // bucket keeps the rate that it was last asked with.
  Outcome Take(const std::string& name, const Rate& rate, double hits, Time now) {
    Shard& shard = ShardOf(name);
    const std::lock_guard<std::mutex> lock(shard.mutex);
    Bucket* const bucket = Find(&shard, name, rate, now);
    if (bucket == nullptr) return {Kind::kFull, 0};
    Refill(bucket, now);
    if (bucket->tokens < std::max(hits, 1.0)) return {Kind::kShort, bucket->tokens};
    bucket->tokens -= hits;
    return {Kind::kTaken, bucket->tokens};
  }

  // Gives tokens back, up to the capacity.
  Outcome GiveBack(const std::string& name, const Rate& rate, double hits, Time now) {
    Shard& shard = ShardOf(name);
    const std::lock_guard<std::mutex> lock(shard.mutex);
    const auto found = shard.buckets.find(name);
    if (found == shard.buckets.end()) return {Kind::kTaken, rate.capacity};
    Bucket& bucket = found->second;
    bucket.rate = rate;
    Refill(&bucket, now);
    bucket.tokens = std::min(bucket.tokens + hits, rate.capacity);
    return {Kind::kTaken, bucket.tokens};
  }

  size_t size() const {
    size_t size = 0;
    for (const Shard& shard : shards_) {
      const std::lock_guard<std::mutex> lock(shard.mutex);
      size += shard.buckets.size();
    }
    return size;
  }

 private:
  static constexpr size_t kShards = 16;
  // To look for full buckets takes as long as there are buckets: not for each request.
  static constexpr std::chrono::milliseconds kBetweenSweeps{100};

  struct Bucket {
    double tokens = 0;
    Rate rate;
    Time then;
  };
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    std::unordered_map<std::string, Bucket> buckets;
    Time swept = Time::min();
  };

  Shard& ShardOf(const std::string& name) {
    return shards_[std::hash<std::string>()(name) / 7 % kShards];
  }

  static void Refill(Bucket* bucket, Time now) {
    if (now <= bucket->then) return;  // another thread was faster
    const double seconds = std::chrono::duration<double>(now - bucket->then).count();
    bucket->tokens =
        std::min(bucket->tokens + seconds * bucket->rate.per_second, bucket->rate.capacity);
    bucket->then = now;
  }

  // With the shard's lock held. Null: there is no room for a new one.
  Bucket* Find(Shard* shard, const std::string& name, const Rate& rate, Time now) {
    const auto found = shard->buckets.find(name);
    if (found != shard->buckets.end()) {
      Refill(&found->second, now);
      found->second.rate = rate;
      return &found->second;
    }
    if (shard->buckets.size() >= shard_max_) Sweep(shard, now);
    if (shard->buckets.size() >= shard_max_) return nullptr;
    return &shard->buckets.emplace(name, Bucket{rate.capacity, rate, now}).first->second;
  }

  static void Sweep(Shard* shard, Time now) {
    if (shard->swept != Time::min() && now - shard->swept < kBetweenSweeps) return;
    shard->swept = now;
    for (auto entry = shard->buckets.begin(); entry != shard->buckets.end();) {
      Refill(&entry->second, now);
      const bool is_full = entry->second.tokens >= entry->second.rate.capacity;
      entry = is_full ? shard->buckets.erase(entry) : std::next(entry);
    }
  }

  const size_t shard_max_;
  std::array<Shard, kShards> shards_;
};

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_TOKEN_BUCKETS_H_
