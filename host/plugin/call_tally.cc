// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_tally.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace callout::host {
namespace {

constexpr double kNsPerMs = 1e6;
constexpr uint64_t kSteps = 4;  // of a doubling

}  // namespace

double CallCounts::FaultPercent() const {
  return calls == 0 ? 0 : 100 * static_cast<double>(faults) / static_cast<double>(calls);
}

double CallCounts::MeanMs() const {
  return calls == 0 ? 0 : static_cast<double>(ns) / static_cast<double>(calls) / kNsPerMs;
}

double CallCounts::QuantileMs(double quantile) const {
  const auto wanted = static_cast<uint64_t>(std::ceil(quantile * static_cast<double>(calls)));
  uint64_t below = 0;
  for (size_t i = 0; i < buckets.size(); ++i) {
    below += buckets[i];
    if (below > 0 && below >= wanted) {
      return static_cast<double>(CallTally::UpperNs(i)) / kNsPerMs;
    }
  }
  return 0;
}

void CallCounts::Add(const CallCounts& other) {
  calls += other.calls;
  faults += other.faults;
  ns += other.ns;
  // Another process may send any number of them.
  const size_t count = std::min(other.buckets.size(), CallTally::kBuckets);
  if (buckets.size() < count) buckets.resize(count);
  for (size_t i = 0; i < count; ++i) buckets[i] += other.buckets[i];
}

// Microseconds below 4 have a bucket each; above, the two bits after the first one decide.
size_t CallTally::BucketOf(uint64_t ns) {
  const uint64_t us = std::max<uint64_t>(ns / 1000, 1);
  if (us < kSteps) return us;
  const auto doublings = static_cast<uint64_t>(std::bit_width(us)) - 3;
  const uint64_t bucket = doublings * kSteps + (us >> doublings);
  return std::min<uint64_t>(bucket, kBuckets - 1);
}

uint64_t CallTally::UpperNs(size_t bucket) {
  if (bucket < kSteps) return (bucket + 1) * 1000;
  const uint64_t doublings = bucket / kSteps - 1;
  return (((bucket % kSteps) + kSteps + 1) << doublings) * 1000;
}

void CallTally::Add(const CallRecord& call) {
  if (!call.begun) return;
  const CallResult& result = call.result;
  if (result.outcome == CallOutcome::kFault && MayBeOfCode(result.violation, result.by_peer)) {
    faults_.fetch_add(1, std::memory_order_relaxed);
  }
  ns_.fetch_add(call.taken_ns(), std::memory_order_relaxed);
  buckets_[BucketOf(call.taken_ns())].fetch_add(1, std::memory_order_relaxed);
}

CallCounts CallTally::Get() const {
  CallCounts counts;
  counts.faults = faults_.load(std::memory_order_relaxed);
  counts.ns = ns_.load(std::memory_order_relaxed);
  for (const auto& bucket : buckets_) {
    counts.buckets.push_back(bucket.load(std::memory_order_relaxed));
    counts.calls += counts.buckets.back();
  }
  return counts;
}

}  // namespace callout::host
