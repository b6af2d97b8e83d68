// SPDX-License-Identifier: Apache-2.0

#include "host/extensions/shared_data.h"

#include <cstring>
#include <functional>
#include <limits>

namespace callout::host {
namespace {

// How many expired values a write removes, so that they do not pile up while there is room.
constexpr size_t kDroppedByWrite = 8;
// Another thread may take the room that was made for a value. Not so often in a row.
constexpr int kTries = 8;

Metrics::Id DefineOr0(Metrics* metrics, Metrics::Kind kind, const char* name, const char* help) {
  return metrics->Define(kind, name, help).value_or(0);
}

bool AsCount(std::string_view bytes, int64_t* count) {
  if (bytes.size() != sizeof(*count)) return false;
  std::memcpy(count, bytes.data(), sizeof(*count));
  return true;
}

// False if it would be over the limit; then nothing has changed, not even for a moment: another
// thread would take that for a full store.
bool AddUpTo(std::atomic<size_t>* count, size_t amount, size_t max) {
  size_t now = count->load();
  do {
    if (now + amount > max) return false;
  } while (!count->compare_exchange_weak(now, now + amount));
  return true;
}

int64_t AddWithinLimits(int64_t count, int64_t amount) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(count, amount, &sum)) return sum;
  using Limits = std::numeric_limits<int64_t>;
  return amount > 0 ? Limits::max() : Limits::min();
}

}  // namespace

SharedData::SharedData(const Limits& limits, Metrics* metrics)
    : limits_(limits),
      metrics_(metrics),
      bytes_gauge_(DefineOr0(metrics, Metrics::Kind::kGauge, "callout_shared_data_bytes",
                             "Memory of the values that plugins share, as --max_shared_data_bytes "
                             "counts it")),
      keys_gauge_(DefineOr0(metrics, Metrics::Kind::kGauge, "callout_shared_data_keys",
                            "Values that plugins share")),
      expired_(DefineOr0(metrics, Metrics::Kind::kCounter, "callout_shared_data_expired_total",
                         "Shared values removed at the end of their life")),
      evicted_(DefineOr0(metrics, Metrics::Kind::kCounter, "callout_shared_data_evicted_total",
                         "Shared values dropped for room, as their plugins allow")) {}

SharedData::Shard* SharedData::ShardOf(const std::string& key) {
  return &shards_[std::hash<std::string>()(key) % kShards];
}

// The value, which has not expired; end() if there is none.
SharedData::Values::iterator SharedData::Find(Shard* shard, const std::string& key,
                                              uint64_t now_ns) {
  const auto found = shard->values.find(key);
  if (found == shard->values.end()) return found;
  const uint64_t expires_ns = found->second.expires_ns;
  if (expires_ns == 0 || expires_ns > now_ns) return found;
  Erase(shard, found);
  metrics_->Add(expired_);
  return shard->values.end();
}

void SharedData::Touch(Shard* shard, Value* value) {
  if (value->may_evict) shard->used.splice(shard->used.end(), shard->used, value->used);
}

void SharedData::Erase(Shard* shard, Values::iterator at) {
  const Value& value = at->second;
  if (value.expires_ns != 0) shard->expiries.erase({value.expires_ns, &at->first});
  if (value.may_evict) shard->used.erase(value.used);
  Release(SizeOf(at->first, value.bytes), 1);
  shard->values.erase(at);
}

void SharedData::DropExpired(Shard* shard, uint64_t now_ns, size_t count_max) {
  while (count_max-- > 0 && !shard->expiries.empty()) {
    const auto& [expires_ns, key] = *shard->expiries.begin();
    if (expires_ns > now_ns) return;
    Erase(shard, shard->values.find(*key));
    metrics_->Add(expired_);
  }
}

bool SharedData::HasRoom(size_t bytes, size_t keys) const {
  return bytes_.load() + bytes <= limits_.bytes_max && keys_.load() + keys <= limits_.keys_max;
}

bool SharedData::Reserve(size_t bytes, size_t keys) {
  if (!AddUpTo(&bytes_, bytes, limits_.bytes_max)) return false;
  if (!AddUpTo(&keys_, keys, limits_.keys_max)) {
    bytes_.fetch_sub(bytes);
    return false;
  }
  metrics_->Add(bytes_gauge_, static_cast<double>(bytes));
  metrics_->Add(keys_gauge_, static_cast<double>(keys));
  return true;
}

void SharedData::Release(size_t bytes, size_t keys) {
  bytes_.fetch_sub(bytes);
  keys_.fetch_sub(keys);
  metrics_->Add(bytes_gauge_, -static_cast<double>(bytes));
  metrics_->Add(keys_gauge_, -static_cast<double>(keys));
}

// Removes what has expired, then what may be dropped, until there is room. No lock is held.
void SharedData::MakeRoom(size_t bytes, size_t keys, uint64_t now_ns) {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    DropExpired(&shard, now_ns, std::numeric_limits<size_t>::max());
  }
  // In turn, so that no shard loses all of its values while others keep theirs.
  for (bool dropped = true; dropped && !HasRoom(bytes, keys);) {
    dropped = false;
    for (Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      if (shard.used.empty() || HasRoom(bytes, keys)) continue;
      Erase(&shard, shard.values.find(*shard.used.front()));
      metrics_->Add(evicted_);
      dropped = true;
    }
  }
}

// False if there is no room; then nothing has changed.
bool SharedData::Write(Shard* shard, Values::iterator at, const std::string& key,
                       std::string_view bytes, const PutOptions& options, uint64_t now_ns) {
  const bool is_new = at == shard->values.end();
  const size_t before = is_new ? 0 : SizeOf(key, at->second.bytes);
  const size_t after = SizeOf(key, bytes);
  if (after > before && !Reserve(after - before, is_new ? 1 : 0)) return false;
  if (is_new) at = shard->values.try_emplace(key).first;
  if (after < before) Release(before - after, 0);
  Value& value = at->second;
  if (value.expires_ns != 0) shard->expiries.erase({value.expires_ns, &at->first});
  if (value.may_evict) shard->used.erase(value.used);
  std::string(bytes).swap(value.bytes);  // assign() would keep the larger buffer
  value.version = last_version_.fetch_add(1) + 1;
  value.expires_ns = options.ttl_ns == 0 ? 0 : now_ns + options.ttl_ns;
  value.may_evict = options.may_evict;
  if (value.expires_ns != 0) shard->expiries.emplace(value.expires_ns, &at->first);
  if (value.may_evict) value.used = shard->used.insert(shard->used.end(), &at->first);
  return true;
}

callout_status_t SharedData::Get(const std::string& key, char* to, size_t capacity, Entry* entry,
                                 uint64_t now_ns) {
  Shard* const shard = ShardOf(key);
  const std::lock_guard lock(shard->mutex);
  const auto found = Find(shard, key, now_ns);
  if (found == shard->values.end()) return CALLOUT_NOT_FOUND;
  Value& value = found->second;
  Touch(shard, &value);
  *entry = {value.bytes.size(), value.version, value.expires_ns};
  if (value.bytes.size() > capacity) return CALLOUT_OUT_OF_RANGE;
  if (!value.bytes.empty()) std::memcpy(to, value.bytes.data(), value.bytes.size());
  return CALLOUT_OK;
}

SharedData::Written SharedData::Put(const std::string& key, std::string_view bytes,
                                    const PutOptions& options, uint64_t now_ns) {
  Shard* const shard = ShardOf(key);
  const size_t size = SizeOf(key, bytes);
  const bool may_fit = bytes.size() <= limits_.value_bytes_max && size <= limits_.bytes_max;
  uint64_t version = 0;
  for (int tries = 0; tries < kTries; ++tries) {
    {
      const std::lock_guard lock(shard->mutex);
      DropExpired(shard, now_ns, kDroppedByWrite);
      const auto found = Find(shard, key, now_ns);
      version = found == shard->values.end() ? 0 : found->second.version;
      if (options.expected != CALLOUT_SHARED_ANY && options.expected != version) {
        return {CALLOUT_ABORTED, version};
      }
      if (may_fit && Write(shard, found, key, bytes, options, now_ns)) {
        return {CALLOUT_OK, shard->values.find(key)->second.version};
      }
    }
    if (!may_fit) break;
    MakeRoom(size, 1, now_ns);
  }
  return {CALLOUT_RESOURCE_EXHAUSTED, version};
}

callout_status_t SharedData::Remove(const std::string& key, uint64_t expected, uint64_t now_ns) {
  Shard* const shard = ShardOf(key);
  const std::lock_guard lock(shard->mutex);
  const auto found = Find(shard, key, now_ns);
  if (found == shard->values.end()) return CALLOUT_NOT_FOUND;
  if (expected != CALLOUT_SHARED_ANY && expected != found->second.version) return CALLOUT_ABORTED;
  Erase(shard, found);
  return CALLOUT_OK;
}

callout_status_t SharedData::Add(const std::string& key, int64_t amount, uint64_t ttl_ns,
                                 int64_t* sum, uint64_t now_ns) {
  Shard* const shard = ShardOf(key);
  for (int tries = 0; tries < kTries; ++tries) {
    {
      const std::lock_guard lock(shard->mutex);
      DropExpired(shard, now_ns, kDroppedByWrite);
      const auto found = Find(shard, key, now_ns);
      const bool is_new = found == shard->values.end();
      int64_t count = 0;
      if (!is_new && !AsCount(found->second.bytes, &count)) return CALLOUT_INVALID_ARGUMENT;
      count = AddWithinLimits(count, amount);
      if (!is_new) {
        std::memcpy(found->second.bytes.data(), &count, sizeof(count));
        found->second.version = last_version_.fetch_add(1) + 1;
        Touch(shard, &found->second);
      }
      const std::string_view bytes(reinterpret_cast<const char*>(&count), sizeof(count));
      if (!is_new || Write(shard, found, key, bytes, {.ttl_ns = ttl_ns}, now_ns)) {
        *sum = count;
        return CALLOUT_OK;
      }
    }
    MakeRoom(key.size() + sizeof(*sum) + kEntryBytes, 1, now_ns);
  }
  return CALLOUT_RESOURCE_EXHAUSTED;
}

// Sizes are in it, so that no two pairs of space and key give the same.
std::string SharedKey(std::string_view instance, std::string_view space, std::string_view key) {
  const bool is_own = space.empty();
  const std::string_view owner = is_own ? instance : space;
  const auto size = static_cast<uint16_t>(owner.size());
  std::string all;
  all.reserve(3 + owner.size() + key.size());
  all.push_back(is_own ? 'i' : 's');
  all.push_back(static_cast<char>(size >> 8));
  all.push_back(static_cast<char>(size & 0xff));
  return all.append(owner).append(key);
}

}  // namespace callout::host
