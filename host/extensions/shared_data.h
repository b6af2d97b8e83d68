// SPDX-License-Identifier: Apache-2.0

// Values by key, in memory, for all instances of a process: the store behind
// <callout/shared_data.h>, which has the meaning of each function.
//
//   SharedData data({.bytes_max = 1 << 20}, &metrics);
//   SharedData::Written written = data.Put(key, value, {.ttl_ns = 1'000'000'000}, MonotonicNs());
//
// The keys are spread over shards, each with a lock; bytes and keys are counted for all together. A
// value of an expired life is as good as none. It is removed by whoever finds it, by writes to its
// shard, and where room is needed.
//
// Any thread. Times are MonotonicNs().
#ifndef CALLOUT_HOST_EXTENSIONS_SHARED_DATA_H_
#define CALLOUT_HOST_EXTENSIONS_SHARED_DATA_H_

#include <callout/shared_data.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "host/metrics/metrics.h"

namespace callout::host {

class SharedData {
 public:
  struct Limits {
    // Of keys and values together, with kEntryBytes for each of them.
    size_t bytes_max = size_t{64} << 20;
    size_t keys_max = 100000;
    size_t value_bytes_max = size_t{1} << 20;
  };
  // What a value takes beside its bytes, about: its place in the map, and in the orders by life and
  // by use.
  static constexpr size_t kEntryBytes = 320;

  // `metrics` outlives it. Metrics: callout_shared_data_bytes and _keys,
  // callout_shared_data_expired_total and _evicted_total.
  SharedData(const Limits& limits, Metrics* metrics);
  SharedData(const SharedData&) = delete;
  SharedData& operator=(const SharedData&) = delete;

  struct Entry {
    uint64_t size = 0;
    uint64_t version = 0;
    uint64_t expires_ns = 0;  // 0: never
  };
  // OK, NOT_FOUND or OUT_OF_RANGE; `entry` is filled unless there is none.
  callout_status_t Get(const std::string& key, char* to, size_t capacity, Entry* entry,
                       uint64_t now_ns);

  struct PutOptions {
    uint64_t ttl_ns = 0;  // 0: for ever
    uint64_t expected = CALLOUT_SHARED_ANY;
    bool may_evict = false;
  };
  struct Written {
    callout_status_t status = CALLOUT_OK;  // or ABORTED, RESOURCE_EXHAUSTED
    uint64_t version = 0;                  // as it is afterwards; 0: no value
  };
  Written Put(const std::string& key, std::string_view value, const PutOptions& options,
              uint64_t now_ns);
  // OK, NOT_FOUND or ABORTED.
  callout_status_t Remove(const std::string& key, uint64_t expected, uint64_t now_ns);
  // OK, INVALID_ARGUMENT or RESOURCE_EXHAUSTED.
  callout_status_t Add(const std::string& key, int64_t amount, uint64_t ttl_ns, int64_t* sum,
                       uint64_t now_ns);

  const Limits& limits() const { return limits_; }
  size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  size_t keys() const { return keys_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kShards = 16;

  struct Value {
    std::string bytes;
    uint64_t version = 0;
    uint64_t expires_ns = 0;
    bool may_evict = false;
    std::list<const std::string*>::iterator used;  // in Shard::used, if it may be evicted
  };
  using Values = std::unordered_map<std::string, Value>;
  struct alignas(64) Shard {
    std::mutex mutex;  // guards the following
    Values values;
    std::set<std::pair<uint64_t, const std::string*>> expiries;
    std::list<const std::string*> used;  // those that may be evicted, the longest unused first
  };

  static size_t SizeOf(std::string_view key, std::string_view value) {
    return key.size() + value.size() + kEntryBytes;
  }
  Shard* ShardOf(const std::string& key);
  Values::iterator Find(Shard* shard, const std::string& key, uint64_t now_ns);
  void Touch(Shard* shard, Value* value);
  void Erase(Shard* shard, Values::iterator at);
  void DropExpired(Shard* shard, uint64_t now_ns, size_t count_max);
  bool Write(Shard* shard, Values::iterator at, const std::string& key, std::string_view bytes,
             const PutOptions& options, uint64_t now_ns);
  bool Reserve(size_t bytes, size_t keys);
  void Release(size_t bytes, size_t keys);
  void MakeRoom(size_t bytes, size_t keys, uint64_t now_ns);
  bool HasRoom(size_t bytes, size_t keys) const;

  const Limits limits_;
  Metrics* const metrics_;
  Metrics::Id bytes_gauge_ = 0, keys_gauge_ = 0, expired_ = 0, evicted_ = 0;
  std::atomic<size_t> bytes_{0}, keys_{0};
  std::atomic<uint64_t> last_version_{0};
  std::array<Shard, kShards> shards_;
};

// The key of the store for a key of a space: `instance` is the name of the instance, whose own
// space is that without a name.
std::string SharedKey(std::string_view instance, std::string_view space, std::string_view key);

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXTENSIONS_SHARED_DATA_H_
