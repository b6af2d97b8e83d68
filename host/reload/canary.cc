// SPDX-License-Identifier: Apache-2.0

#include "host/reload/canary.h"

#include <fmt/format.h>

#include <algorithm>

namespace callout::host {
namespace {

constexpr double kP99 = 0.99;

CanaryVerdict RollBack(std::string why) { return {CanaryVerdict::What::kRollBack, std::move(why)}; }

}  // namespace

CanaryVerdict Judge(const CanarySettings& settings, const CallCounts& before,
                    const CallCounts& canary, uint64_t seconds) {
  const uint64_t of_calls = std::max<uint64_t>(canary.calls, settings.min_calls);
  const double faults_max = settings.max_fault_percent / 100 * static_cast<double>(of_calls);
  if (static_cast<double>(canary.faults) > faults_max) {
    return RollBack(fmt::format("{} of its {} calls failed, over max_fault_percent={} of {} calls",
                                canary.faults, canary.calls, settings.max_fault_percent, of_calls));
  }
  if (canary.calls < settings.min_calls) return {};
  const double p99_ms = canary.QuantileMs(kP99);
  if (settings.max_p99_ms > 0 && p99_ms > settings.max_p99_ms) {
    return RollBack(fmt::format("99 % of its {} calls took up to {:.3f} ms, over max_p99_ms={}",
                                canary.calls, p99_ms, settings.max_p99_ms));
  }
  const bool comparable = before.calls >= settings.min_calls;
  if (settings.max_latency_ratio > 0 && comparable &&
      canary.MeanMs() > settings.max_latency_ratio * before.MeanMs()) {
    return RollBack(fmt::format(
        "its calls took {:.3f} ms on average and those of the version before {:.3f} ms, over "
        "max_latency_ratio={}",
        canary.MeanMs(), before.MeanMs(), settings.max_latency_ratio));
  }
  if (settings.promotes_itself && seconds >= settings.for_seconds) {
    return {CanaryVerdict::What::kPromote, {}};
  }
  return {};
}

}  // namespace callout::host
