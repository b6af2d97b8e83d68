// SPDX-License-Identifier: Apache-2.0

// How often each plugin has crashed, and whether that is too often.
//
//   CrashCount crashes({.crashes = 3, .seconds = 60});
//   if (crashes.Add("10-auth", MonotonicNs())) … leave it out of the chain …
//
// For one thread at a time.
#ifndef CALLOUT_HOST_WORKERS_CRASH_COUNT_H_
#define CALLOUT_HOST_WORKERS_CRASH_COUNT_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>

namespace callout::host {

// --quarantine=CRASHES/SECONDS
struct QuarantineLimit {
  uint32_t crashes = 3;  // 0: a plugin may crash as often as it likes
  uint32_t seconds = 60;
  // --quarantine_retry_ms: until the first trial of a plugin in quarantine; twice as
  // long after each that fails, up to kQuarantineRetryMsMax. 0: no trials.
  uint64_t retry_ms = 60'000;
};
inline constexpr uint64_t kQuarantineRetryMsMax = 3'600'000;

class CrashCount {
 public:
  explicit CrashCount(const QuarantineLimit& limit) : limit_(limit) {}

  // Counts a crash at `now_ns`, not before the one counted last. True if as many
  // as the limit have come within its time.
  bool Add(const std::string& plugin, uint64_t now_ns);

  // Counts one that says nothing about the plugin as it serves.
  void AddToTotal(const std::string& plugin) { ++totals_[plugin]; }

  // What was counted so far says nothing about the plugin as it is now.
  void BeginAnew(const std::string& plugin) { recent_.erase(plugin); }

  // Since the start.
  const std::map<std::string, uint64_t>& totals() const { return totals_; }

 private:
  const QuarantineLimit limit_;
  std::map<std::string, std::deque<uint64_t>> recent_;  // when, oldest first
  std::map<std::string, uint64_t> totals_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_CRASH_COUNT_H_
