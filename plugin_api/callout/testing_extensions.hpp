// SPDX-License-Identifier: Apache-2.0

// callout/testing_extensions.hpp - timers, shared data and upstreams for unit tests, with a clock
// that the test sets. Include <callout/testing.hpp>.
//
//     callout::testing::Plugin plugin("./listed.so");
//     plugin.advance(std::chrono::minutes(1));       // its timers run here, on this thread
//     plugin.store().put("", "ada", "team-a");       // what it finds in its own space
//
// Timers run in advance(), and while a deferred call is waited for. No other thread runs them.
#ifndef CALLOUT_TESTING_EXTENSIONS_HPP_
#define CALLOUT_TESTING_EXTENSIONS_HPP_

#include <callout/shared_data.h>
#include <callout/timers.h>

#include <callout/testing_calls.hpp>
#include <callout/view.hpp>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::testing {

// A clock and a store. Plugins that are given the same one are instances of one process. Any
// thread.
class Store {
 public:
  // As the host's options, with their defaults. Set them before the store is used.
  size_t bytes_max = size_t{64} << 20;
  size_t keys_max = 100000;
  size_t value_bytes_max = size_t{1} << 20;

  // The services that plugins may call.
  Upstreams upstreams;

  std::chrono::nanoseconds now() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return now_locked();
  }
  void advance(std::chrono::nanoseconds by) {
    std::lock_guard<std::mutex> lock(mutex_);
    offset_ += by;
  }

  // For the test: the value of a key, and a value for the plugin to find. "" is the plugin's own
  // space.
  std::optional<std::string> get(std::string_view space, std::string_view key) {
    std::lock_guard<std::mutex> lock(mutex_);
    const Entry* entry = find(space, key);
    if (entry == nullptr) return std::nullopt;
    return entry->value;
  }
  std::optional<int64_t> count(std::string_view space, std::string_view key) {
    const std::optional<std::string> value = get(space, key);
    int64_t count = 0;
    if (!value.has_value() || value->size() != sizeof(count)) return std::nullopt;
    std::memcpy(&count, value->data(), sizeof(count));
    return count;
  }
  void put(std::string_view space, std::string_view key, std::string_view value) {
    callout_shared_put_t how = {};
    how.struct_size = sizeof(how);
    how.expected = CALLOUT_SHARED_ANY;
    put(to_bytes(space), to_bytes(key), to_bytes(value), &how, nullptr);
  }
  size_t size() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return entries_.size();
  }

  // The functions of callout_shared_data_t.
  callout_status_t get(callout_bytes_t space, callout_bytes_t key, char* to, size_t capacity,
                       callout_shared_entry_t* entry) {
    if (!is_legal(space, key, 0)) return CALLOUT_INVALID_ARGUMENT;
    std::lock_guard<std::mutex> lock(mutex_);
    Entry* found = find(to_view(space), to_view(key));
    if (entry != nullptr) {
      entry->size = found == nullptr ? 0 : found->value.size();
      entry->version = found == nullptr ? 0 : found->version;
      entry->expires_ns = found == nullptr ? 0 : static_cast<uint64_t>(found->expires.count());
    }
    if (found == nullptr) return CALLOUT_NOT_FOUND;
    found->used = ++last_use_;
    if (found->value.size() > capacity) return CALLOUT_OUT_OF_RANGE;
    if (!found->value.empty()) std::memcpy(to, found->value.data(), found->value.size());
    return CALLOUT_OK;
  }
  callout_status_t put(callout_bytes_t space, callout_bytes_t key, callout_bytes_t value,
                       const callout_shared_put_t* how, uint64_t* version) {
    if (how == nullptr || !CALLOUT_HAS(how, callout_shared_put_t, expected) || how->may_evict > 1 ||
        !is_legal(space, key, how->ttl_ns)) {
      return CALLOUT_INVALID_ARGUMENT;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    Entry* found = find(to_view(space), to_view(key));
    const uint64_t before = found == nullptr ? 0 : found->version;
    if (version != nullptr) *version = before;
    if (how->expected != CALLOUT_SHARED_ANY && how->expected != before) return CALLOUT_ABORTED;
    if (!make_room(to_view(space), to_view(key), value.size)) return CALLOUT_RESOURCE_EXHAUSTED;
    Entry& entry = entries_[Key(to_view(space), to_view(key))];
    entry.value.assign(to_view(value));
    entry.version = ++last_version_;
    entry.used = ++last_use_;
    entry.may_evict = how->may_evict == 1;
    entry.expires = end_of_life(how->ttl_ns);
    if (version != nullptr) *version = entry.version;
    return CALLOUT_OK;
  }
  callout_status_t remove(callout_bytes_t space, callout_bytes_t key, uint64_t expected) {
    if (!is_legal(space, key, 0)) return CALLOUT_INVALID_ARGUMENT;
    std::lock_guard<std::mutex> lock(mutex_);
    Entry* found = find(to_view(space), to_view(key));
    if (found == nullptr) return CALLOUT_NOT_FOUND;
    if (expected != CALLOUT_SHARED_ANY && expected != found->version) return CALLOUT_ABORTED;
    entries_.erase(Key(to_view(space), to_view(key)));
    return CALLOUT_OK;
  }
  callout_status_t add(callout_bytes_t space, callout_bytes_t key, int64_t amount, uint64_t ttl_ns,
                       int64_t* sum) {
    if (!is_legal(space, key, ttl_ns)) return CALLOUT_INVALID_ARGUMENT;
    std::lock_guard<std::mutex> lock(mutex_);
    Entry* entry = find(to_view(space), to_view(key));
    int64_t count = 0;
    if (entry == nullptr) {
      if (!make_room(to_view(space), to_view(key), sizeof(count))) {
        return CALLOUT_RESOURCE_EXHAUSTED;
      }
      entry = &entries_[Key(to_view(space), to_view(key))];
      entry->expires = end_of_life(ttl_ns);
    } else if (entry->value.size() != sizeof(count)) {
      return CALLOUT_INVALID_ARGUMENT;
    } else {
      std::memcpy(&count, entry->value.data(), sizeof(count));
    }
    count = add_within_limits(count, amount);
    entry->value.assign(reinterpret_cast<const char*>(&count), sizeof(count));
    entry->version = ++last_version_;
    entry->used = ++last_use_;
    if (sum != nullptr) *sum = count;
    return CALLOUT_OK;
  }

 private:
  using Key = std::pair<std::string, std::string>;
  struct Entry {
    std::string value;
    uint64_t version = 0;
    uint64_t used = 0;
    std::chrono::nanoseconds expires{0};
    bool may_evict = false;
  };

  static bool is_legal(callout_bytes_t space, callout_bytes_t key, uint64_t ttl_ns) {
    return space.size <= CALLOUT_SHARED_SPACE_BYTES_MAX && key.size > 0 &&
           key.size <= CALLOUT_SHARED_KEY_BYTES_MAX && ttl_ns <= CALLOUT_SHARED_TTL_NS_MAX;
  }
  static int64_t add_within_limits(int64_t count, int64_t amount) {
    constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
    constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
    if (amount > 0 && count > kMax - amount) return kMax;
    if (amount < 0 && count < kMin - amount) return kMin;
    return count + amount;
  }
  std::chrono::nanoseconds now_locked() const {
    return std::chrono::steady_clock::now().time_since_epoch() + offset_;
  }
  std::chrono::nanoseconds end_of_life(uint64_t ttl_ns) const {
    if (ttl_ns == 0) return std::chrono::nanoseconds(0);
    return now_locked() + std::chrono::nanoseconds(static_cast<int64_t>(ttl_ns));
  }
  Entry* find(std::string_view space, std::string_view key) {
    const auto found = entries_.find(Key(space, key));
    if (found == entries_.end()) return nullptr;
    const std::chrono::nanoseconds expires = found->second.expires;
    if (expires.count() == 0 || expires > now_locked()) return &found->second;
    entries_.erase(found);
    return nullptr;
  }
  bool fits(std::string_view space, std::string_view key, size_t value_bytes) const {
    constexpr size_t kEntryBytes = 320;  // as the host counts
    // With the mark and the size of the space, as the host has them.
    size_t bytes = 3 + space.size() + key.size() + value_bytes + kEntryBytes, keys = 1;
    for (const auto& [at, entry] : entries_) {
      if (at.first == space && at.second == key) continue;
      bytes += 3 + at.first.size() + at.second.size() + entry.value.size() + kEntryBytes;
      ++keys;
    }
    return bytes <= bytes_max && keys <= keys_max;
  }
  bool make_room(std::string_view space, std::string_view key, size_t value_bytes) {
    if (value_bytes > value_bytes_max) return false;
    for (auto at = entries_.begin(); at != entries_.end();) {
      const std::chrono::nanoseconds expires = at->second.expires;
      at = expires.count() != 0 && expires <= now_locked() ? entries_.erase(at) : std::next(at);
    }
    while (!fits(space, key, value_bytes)) {
      auto oldest = entries_.end();
      for (auto at = entries_.begin(); at != entries_.end(); ++at) {
        if (!at->second.may_evict || (at->first.first == space && at->first.second == key))
          continue;
        if (oldest == entries_.end() || at->second.used < oldest->second.used) oldest = at;
      }
      if (oldest == entries_.end()) return false;
      entries_.erase(oldest);
    }
    return true;
  }

  mutable std::mutex mutex_;  // guards the following
  std::chrono::nanoseconds offset_{0};
  std::map<Key, Entry> entries_;
  uint64_t last_version_ = 0;
  uint64_t last_use_ = 0;
};

namespace internal {

// The timers of one plugin. Any thread; those that run are run by one thread at a time.
class FakeTimers {
 public:
  explicit FakeTimers(std::shared_ptr<Store> clock) : clock_(std::move(clock)) {}
  ~FakeTimers() { close(); }

  callout_status_t start(const callout_timer_t& timer, uint64_t* id) {
    if (!CALLOUT_HAS(&timer, callout_timer_t, period_ns) || timer.run == nullptr ||
        timer.delay_ns > CALLOUT_TIMER_NS_MAX || timer.period_ns > CALLOUT_TIMER_NS_MAX ||
        (timer.period_ns != 0 && timer.period_ns < CALLOUT_TIMER_PERIOD_MIN_NS)) {
      return CALLOUT_INVALID_ARGUMENT;
    }
    const std::chrono::nanoseconds due =
        clock_->now() + std::chrono::nanoseconds(static_cast<int64_t>(timer.delay_ns));
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return CALLOUT_FAILED_PRECONDITION;
    if (waiting_.size() + (running_ == 0 ? 0 : 1) >= kTimersMax) return CALLOUT_RESOURCE_EXHAUSTED;
    *id = ++last_id_;
    waiting_.emplace(std::make_pair(due, *id), timer);
    return CALLOUT_OK;
  }
  callout_status_t cancel(uint64_t id) {
    callout_timer_t timer = {};
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (id != 0 && id == running_) {
        repeats_ = false;
        return CALLOUT_ABORTED;
      }
      auto at = waiting_.begin();
      while (at != waiting_.end() && at->first.second != id) ++at;
      if (at == waiting_.end()) return CALLOUT_NOT_FOUND;
      timer = at->second;
      waiting_.erase(at);
    }
    release(timer);
    return CALLOUT_OK;
  }
  // Those that wait are released; none can be started any more.
  void close() {
    std::map<At, callout_timer_t> waiting;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
      waiting.swap(waiting_);
    }
    for (const auto& entry : waiting) release(entry.second);
  }
  size_t count() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return waiting_.size();
  }
  // Of the earliest; nothing if there is none.
  std::optional<std::chrono::nanoseconds> due() const {
    std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_.empty()) return std::nullopt;
    return waiting_.begin()->first.first;
  }
  // Runs those that are due at `until`, the earliest first, and those that they start; nothing
  // while another thread runs one. A period counts from when a run was due, so that a test can
  // count them. False: none has run.
  bool run_until(std::chrono::nanoseconds until) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) return false;
    bool has_run = false;
    while (run_one(until)) has_run = true;
    return has_run;
  }

 private:
  using At = std::pair<std::chrono::nanoseconds, uint64_t>;
  static constexpr size_t kTimersMax = 10000;  // the default of --max_timers

  static void release(const callout_timer_t& timer) {
    if (timer.release != nullptr) timer.release(timer.data);
  }
  bool run_one(std::chrono::nanoseconds until) {
    At at;
    callout_timer_t timer = {};
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (waiting_.empty() || waiting_.begin()->first.first > until) return false;
      at = waiting_.begin()->first;
      timer = waiting_.begin()->second;
      waiting_.erase(waiting_.begin());
      running_ = at.second;
      repeats_ = timer.period_ns != 0;
    }
    timer.run(timer.data);
    bool goes_on = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      goes_on = repeats_ && !closed_;
      running_ = 0;
      const std::chrono::nanoseconds next =
          at.first + std::chrono::nanoseconds(static_cast<int64_t>(timer.period_ns));
      if (goes_on) waiting_.emplace(std::make_pair(next, at.second), timer);
    }
    if (!goes_on) release(timer);
    return true;
  }

  const std::shared_ptr<Store> clock_;
  std::mutex turn_;           // of the thread that runs timers
  mutable std::mutex mutex_;  // guards the following
  std::map<At, callout_timer_t> waiting_;
  uint64_t running_ = 0;
  bool repeats_ = false;  // the one that is running
  uint64_t last_id_ = 0;
  bool closed_ = false;
};

}  // namespace internal
}  // namespace callout::testing

#endif  // CALLOUT_TESTING_EXTENSIONS_HPP_
