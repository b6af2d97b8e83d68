// SPDX-License-Identifier: Apache-2.0

// What one instance's calls have come to, by phase: times, outcomes, refusals by HTTP status.
//
//   CallMetrics metrics;
//   absl::Status status = metrics.Define(&registry, name, phases);
//   metrics.Count(record);      // once for each call that is over
//
// docs/metrics.md describes them: callout_call_seconds, callout_calls_total,
// callout_calls_deferred_total, callout_call_wait_seconds_total, callout_changed_bytes_total,
// callout_denials_total, callout_ignored_total; of shadows callout_shadow_call_seconds.
//
// The number of series is bounded: labels are names of the configuration, phases, outcomes, and
// HTTP statuses, of which the first kStatusesMax of an instance have series and further ones count
// as "other". Series of rare events are created when the first one happens.
//
// Define comes first, by one thread. The others: any thread.
//
// Tested by tests/host/stream/call_observer_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CALL_METRICS_H_
#define CALLOUT_HOST_PLUGIN_CALL_METRICS_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "host/metrics/metrics.h"
#include "host/plugin/call_observer.h"
#include "host/wire/phase.h"

namespace callout::host {

class CallMetrics {
 public:
  static constexpr size_t kStatusesMax = 32;

  // `metrics` outlives the object. An error of Metrics::Define.
  // Of a shadow only the times are counted, as callout_shadow_call_seconds.
  absl::Status Define(Metrics* metrics, std::string plugin,
                      const std::vector<callout_phase_t>& phases, bool shadow = false);
  void Count(const CallRecord& call);
  void CountOverruled(Overruled overruled);
  // The exchange is answered with this status: by the plugin, or by its error policy.
  void CountDenial(int http_status, bool by_plugin);

 private:
  struct OfPhase {
    Metrics::Id seconds = 0;
    std::array<Metrics::Id, kCallOutcomes> outcomes{};
    Metrics::Id deferred = 0;
    Metrics::Id wait_seconds = 0;
    Metrics::Id changed_bytes = 0;
  };

  Metrics* metrics_ = nullptr;
  std::string plugin_;
  bool shadow_ = false;
  std::array<OfPhase, kPhaseSlots> phases_{};
  std::array<Metrics::Id, kOverruledCount> overruled_{};

  Metrics::Id DefineDenial(size_t status_slot, bool by_plugin);

  // By status, the last for all others; and whether the policy said it or the plugin. 0: not yet.
  static constexpr int kStatusMin = 100;
  static constexpr size_t kStatusSlots = 501;
  std::array<std::array<std::atomic<Metrics::Id>, 2>, kStatusSlots> denials_{};
  std::mutex mutex_;  // guards the following
  size_t statuses_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_METRICS_H_
