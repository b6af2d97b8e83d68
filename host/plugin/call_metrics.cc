// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "host/plugin/request_ids.h"

namespace callout::host {
namespace {

constexpr double ToSeconds(uint64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-9; }

}  // namespace

absl::Status CallMetrics::Define(Metrics* metrics, std::string plugin,
                                 const std::vector<callout_phase_t>& phases, bool shadow) {
  metrics_ = metrics;
  shadow_ = shadow;
  plugin_ = std::move(plugin);
  absl::Status error;
  const auto define = [&](Metrics::Kind kind, const char* name, const char* help,
                          Metrics::Labels labels) -> Metrics::Id {
    if (shadow_ && kind != Metrics::Kind::kHistogram) return 0;  // not counted
    labels.emplace_back("plugin", plugin_);
    absl::StatusOr<Metrics::Id> id = metrics_->Define(kind, name, help, std::move(labels));
    if (!id.ok()) error.Update(id.status());
    return id.value_or(0);
  };
  constexpr auto kCounter = Metrics::Kind::kCounter;
  for (const callout_phase_t phase : phases) {
    OfPhase& of = phases_[PhaseSlot(phase)];
    const Metrics::Labels labels = {{"phase", std::string(PhaseName(phase))}};
    of.seconds = define(
        Metrics::Kind::kHistogram, shadow_ ? "callout_shadow_call_seconds" : "callout_call_seconds",
        shadow_ ? "Time from giving a copy of a message to a plugin in shadow to its response"
                : "Time from giving a message to a plugin to its response, deferral included",
        labels);
    metrics_->KeepExemplars(of.seconds);
    for (size_t i = 0; i < kCallOutcomes; ++i) {
      Metrics::Labels with_outcome = labels;
      with_outcome.emplace_back("outcome", CallOutcomeName(static_cast<CallOutcome>(i)));
      of.outcomes[i] = define(kCounter, "callout_calls_total",
                              "Calls of plugins that are over, by outcome", with_outcome);
    }
    of.deferred =
        define(kCounter, "callout_calls_deferred_total", "Calls that plugins deferred", labels);
    of.wait_seconds =
        define(kCounter, "callout_call_wait_seconds_total",
               "The part of callout_call_seconds in which no hook ran: deferred, or waiting for a "
               "thread",
               labels);
    of.changed_bytes =
        define(kCounter, "callout_changed_bytes_total",
               "Bytes that plugins set: headers, bodies and pieces of bodies", labels);
  }
  for (size_t i = 1; i < kOverruledCount; ++i) {
    overruled_[i] = define(kCounter, "callout_ignored_total",
                           "Responses of plugins, or parts of them, that have no effect",
                           {{"what", std::string(OverruledName(static_cast<Overruled>(i)))}});
  }
  return error;
}

void CallMetrics::Count(const CallRecord& call) {
  const OfPhase& of = phases_[PhaseSlot(call.phase)];
  const CallResult& result = call.result;
  metrics_->Add(of.outcomes[static_cast<size_t>(result.outcome)]);
  if (call.begun) {
    metrics_->Observe(of.seconds, ToSeconds(call.taken_ns()), call.end_ns,
                      [&call] { return SampledTrace(call.rpc); });
  }
  if (result.changed_bytes > 0) {
    metrics_->Add(of.changed_bytes, static_cast<double>(result.changed_bytes));
  }
  if (call.deferred) metrics_->Add(of.deferred);
  if ((call.deferred || call.blocking) && call.taken_ns() > call.hook_ns) {
    metrics_->Add(of.wait_seconds, ToSeconds(call.taken_ns() - call.hook_ns));
  }
  const bool refuses =
      result.outcome == CallOutcome::kImmediate || result.outcome == CallOutcome::kDenied;
  if (refuses && result.http_status != 0) CountDenial(result.http_status, true);
  if (result.overruled != Overruled::kNot) CountOverruled(result.overruled);
}

void CallMetrics::CountOverruled(Overruled overruled) {
  metrics_->Add(overruled_[static_cast<size_t>(overruled)]);
}

void CallMetrics::CountDenial(int http_status, bool by_plugin) {
  const size_t last = kStatusSlots - 1;
  const size_t slot = http_status < kStatusMin
                          ? last
                          : std::min(static_cast<size_t>(http_status - kStatusMin), last);
  Metrics::Id id = denials_[slot][by_plugin ? 1 : 0].load(std::memory_order_relaxed);
  if (id == 0) id = DefineDenial(slot, by_plugin);
  metrics_->Add(id);
}

// Once for each slot. What has no series of its own, since there are too many, counts with the
// last slot's.
Metrics::Id CallMetrics::DefineDenial(size_t status_slot, bool by_plugin) {
  if (shadow_) return 0;
  const size_t last = kStatusSlots - 1;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (status_slot != last && ++statuses_ > kStatusesMax) status_slot = last;
  std::atomic<Metrics::Id>& known = denials_[status_slot][by_plugin ? 1 : 0];
  if (const Metrics::Id id = known.load(std::memory_order_relaxed); id != 0) return id;
  const std::string status =
      status_slot == last ? "other" : fmt::format("{}", status_slot + kStatusMin);
  const absl::StatusOr<Metrics::Id> id = metrics_->Define(
      Metrics::Kind::kCounter, "callout_denials_total",
      "Exchanges that were answered in place of the upstream, by HTTP status: by the plugin's own "
      "response, or by its error policy after a fault",
      {{"plugin", plugin_}, {"status", status}, {"by", by_plugin ? "plugin" : "policy"}});
  // Not counted if the process has too many series.
  known.store(id.value_or(0), std::memory_order_relaxed);
  return id.value_or(0);
}

}  // namespace callout::host
