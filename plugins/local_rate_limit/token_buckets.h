// SPDX-License-Identifier: Apache-2.0

// Token buckets by name, in the host's shared data: so they outlive a new version of the plugin, or
// a change of its configuration. A bucket begins full, loses a token for each hit, and fills up
// again with time. One that is full is as good as none, so its value lives until then.
//
//   TokenBuckets buckets(setup);
//   const auto outcome = buckets.Take("ada", {.capacity = 10, .per_second = 2}, 1, false, Now());
//   if (outcome.kind != TokenBuckets::Kind::kTaken) refuse();
//
// Any thread, without a lock: whoever was slower than another tries again.
//
// Tested by tests/plugins/local_rate_limit_test.cc.
#ifndef CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_TOKEN_BUCKETS_H_
#define CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_TOKEN_BUCKETS_H_

#include <algorithm>
#include <callout/plugin.hpp>
#include <callout/shared_data.hpp>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace callout::plugins {

struct TokenRate {
  double capacity = 1;
  double per_second = 1;
};

// What is kept of a bucket. Times are those of the monotonic clock, which all versions of a plugin
// in a process have in common.
struct TokenBucket {
  using Time = std::chrono::steady_clock::time_point;

  double tokens = 0;
  int64_t then_ns = 0;

  static int64_t NanosecondsOf(Time time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  }

  // Fills it up by the rate of today, whatever it was before.
  void Refill(const TokenRate& rate, Time now) {
    constexpr double kNanoseconds = 1e9;
    const int64_t now_ns = NanosecondsOf(now);
    if (now_ns > then_ns) {  // else another thread was faster
      tokens += static_cast<double>(now_ns - then_ns) / kNanoseconds * rate.per_second;
      then_ns = now_ns;
    }
    tokens = std::min(tokens, rate.capacity);
  }

  // Until it is full; 0: it is, or never will be.
  std::chrono::nanoseconds TimeUntilFull(const TokenRate& rate) const {
    constexpr double kNanoseconds = 1e9;
    constexpr auto kMax = static_cast<double>(CALLOUT_SHARED_TTL_NS_MAX);
    const double missing = rate.capacity - tokens;
    if (missing <= 0) return std::chrono::nanoseconds(0);
    const double ns = rate.per_second <= 0 ? kMax : missing / rate.per_second * kNanoseconds;
    return std::chrono::nanoseconds(static_cast<int64_t>(std::clamp(ns, 1.0, kMax)));
  }
};

class TokenBuckets {
 public:
  using Time = TokenBucket::Time;
  using Rate = TokenRate;

  enum class Kind : uint8_t {
    kTaken,
    kShort,  // the bucket had fewer tokens; none was taken, unless it may be overdrawn
    kFull,   // the store has no room for a new bucket
  };
  struct Outcome {
    Kind kind = Kind::kTaken;
    double tokens = 0;  // left in the bucket; less than none: it is overdrawn
  };

  // Until a bucket with `tokens` has as many as `wanted`, rounded up; 0 if it never has.
  static uint32_t SecondsUntil(double wanted, double tokens, const Rate& rate) {
    if (wanted <= tokens || rate.per_second <= 0 || wanted > rate.capacity) return 0;
    const double seconds = std::ceil((wanted - tokens) / rate.per_second);
    return static_cast<uint32_t>(std::min(seconds, 4294967295.0));
  }

  // The instance is not made if the host has no shared data.
  explicit TokenBuckets(Setup& setup) : data_(setup) {}

  // Takes `hits` tokens, if there are as many or the bucket may be overdrawn. 0 takes none, and
  // asks whether there is one: what is charged later needs a bucket, so a new one is kept at once.
  Outcome Take(const std::string& name, const Rate& rate, double hits, bool overdraws,
               Time now) const {
    for (;;) {
      Kept kept = Find(name, rate, now);
      TokenBucket& bucket = kept.bucket;
      const Kind kind = bucket.tokens < std::max(hits, 1.0) ? Kind::kShort : Kind::kTaken;
      const bool is_new = kept.version == CALLOUT_SHARED_ABSENT;
      if ((hits == 0 && !is_new) || (kind == Kind::kShort && !overdraws)) {
        return {kind, bucket.tokens};
      }
      bucket.tokens -= hits;
      const callout_status_t status = hits == 0 ? Reserve(name, kept) : Put(name, kept, rate);
      if (status == CALLOUT_OK) return {kind, bucket.tokens};
      if (status != CALLOUT_ABORTED) return {Kind::kFull, 0};
    }
  }

  // Gives tokens back, up to the capacity.
  Outcome GiveBack(const std::string& name, const Rate& rate, double hits, Time now) const {
    for (;;) {
      Kept kept = Find(name, rate, now);
      kept.bucket.tokens = std::min(kept.bucket.tokens + hits, rate.capacity);
      if (kept.version == CALLOUT_SHARED_ABSENT) return {Kind::kTaken, kept.bucket.tokens};
      if (Put(name, kept, rate) != CALLOUT_ABORTED) return {Kind::kTaken, kept.bucket.tokens};
    }
  }

 private:
  struct Kept {
    TokenBucket bucket;
    uint64_t version = CALLOUT_SHARED_ABSENT;
  };

  // As it is now; a full one if there is none.
  Kept Find(const std::string& name, const Rate& rate, Time now) const {
    Kept kept{{rate.capacity, TokenBucket::NanosecondsOf(now)}, CALLOUT_SHARED_ABSENT};
    const std::optional<SharedData::Found> found = data_.find(name);
    if (!found.has_value()) return kept;
    kept.version = found->version;
    // A bucket of another version of the plugin, in a form of its own, is as good as none.
    if (found->value.size() != sizeof(kept.bucket)) return kept;
    std::memcpy(&kept.bucket, found->value.data(), sizeof(kept.bucket));
    kept.bucket.Refill(rate, now);
    return kept;
  }

  // A new bucket, though it is full.
  callout_status_t Reserve(const std::string& name, const Kept& kept) const {
    constexpr std::chrono::minutes kLife{1};
    return data_.put_if(kept.version, name, BytesOf(kept), kLife);
  }

  static std::string_view BytesOf(const Kept& kept) {
    return {reinterpret_cast<const char*>(&kept.bucket), sizeof(kept.bucket)};
  }

  callout_status_t Put(const std::string& name, const Kept& kept, const Rate& rate) const {
    const std::chrono::nanoseconds life = kept.bucket.TimeUntilFull(rate);
    if (life.count() == 0) return data_.remove_if(kept.version, name);
    return data_.put_if(kept.version, name, BytesOf(kept), life);
  }

  const SharedData data_;
};

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_TOKEN_BUCKETS_H_
