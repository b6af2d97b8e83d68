// SPDX-License-Identifier: Apache-2.0

// Counts the calls of one instance, for comparing two versions of a plugin (canary): how many, how
// many were faults, how long they took. Metrics count by plugin, not by version.
//
//   auto tally = std::make_shared<CallTally>();
//   instance->BeginTally(tally);             // from now on its calls count
//   CallCounts counts = tally->Get();        // counts.Add(those of another process)
//
// What cannot be of the plugin's code (MayBeOfCode) is no fault here, as in a Trial: it says
// nothing of the version.
//
// Any thread.
//
// Tested by tests/host/plugin/call_tally_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CALL_TALLY_H_
#define CALLOUT_HOST_PLUGIN_CALL_TALLY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "host/plugin/call_observer.h"

namespace callout::host {

struct CallCounts {
  uint64_t calls = 0;
  uint64_t faults = 0;
  uint64_t ns = 0;                // of all calls
  std::vector<uint64_t> buckets;  // calls by time, see CallTally; empty: none

  double FaultPercent() const;
  double MeanMs() const;
  // At most a quarter above the true value. 0 without calls.
  double QuantileMs(double quantile) const;
  void Add(const CallCounts& other);
};

class CallTally {
 public:
  // Four buckets for each doubling, from 1 us to over a minute.
  static constexpr size_t kBuckets = 4 * 26;

  void Add(const CallRecord& call);
  CallCounts Get() const;

  // The bucket of a time, and the longest time in a bucket.
  static size_t BucketOf(uint64_t ns);
  static uint64_t UpperNs(size_t bucket);

 private:
  std::atomic<uint64_t> faults_{0};
  std::atomic<uint64_t> ns_{0};
  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_TALLY_H_
