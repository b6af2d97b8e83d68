// SPDX-License-Identifier: Apache-2.0

// Counts the crashes of plugins, and says what stands in the place of those that
// crash as often as --quarantine allows, and how they come back.
//
//   Quarantine quarantine({.crashes = 3, .seconds = 60}, &metrics);
//   if (quarantine.CountCrash(end, /*of_a_trial=*/false)) quarantine.LeaveOut(source, end.text,
//   now); … make quarantine.InPlaceOf(source, in_trial_worker) rather than `source` … if (auto id =
//   quarantine.FindDueTrial(now)) quarantine.BeginTrial(*id, now);   // in one worker
//   quarantine.Release(id);        // by the operator, or after a trial that went well
//   quarantine.KeepOnly(chain);    // another generation serves: it is out again
//
// A plugin in quarantine is tried again after --quarantine_retry_ms, in one worker and
// for kTrialNs. One crash ends the trial, and the next comes after twice the time.
//
// Metrics: callout_plugin_crashes_total{plugin}, callout_plugin_quarantined{plugin}.
//
// For one thread at a time.
#ifndef CALLOUT_HOST_WORKERS_QUARANTINE_H_
#define CALLOUT_HOST_WORKERS_QUARANTINE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/reload/generation.h"
#include "host/workers/crash_count.h"
#include "host/workers/worker_end.h"

namespace callout::host {

class Quarantine {
 public:
  // How long a trial has to go without a crash.
  static constexpr uint64_t kTrialNs = 10'000'000'000;

  // `metrics` outlives it.
  Quarantine(const QuarantineLimit& limit, Metrics* metrics)
      : limit_(limit), crashes_(limit), metrics_(metrics) {}

  // Of a plugin: `end` names one. A crash `of_a_trial`, of what never served, says
  // nothing about the plugin as it serves. True if the limit is reached.
  bool CountCrash(const WorkerEnd& end, bool of_a_trial);

  // From now on `source`, after the crash told in `text`. Nothing if it is already.
  void LeaveOut(const GenerationSource& source, const std::string& text, uint64_t now_ns);

  // What a worker makes for `source`: that, or while it is left out the plugin that
  // host/plugin/quarantine_plugin.h describes; with an id of its own each time it comes
  // back, since what was there before may still have streams.
  GenerationSource InPlaceOf(const GenerationSource& source, bool in_trial_worker = false) const;
  // Of what InPlaceOf has given: that of the source.
  static GenerationId IdOf(GenerationId id);

  // Back in service, in all workers. False if it was not left out. With `by_operator`
  // the next quarantine begins with the shortest time again.
  bool Release(GenerationId id, bool by_operator, uint64_t now_ns);

  // --- Trials, one at a time.
  // Which is to be tried now; none while one is.
  std::optional<GenerationId> FindDueTrial(uint64_t now_ns) const;
  void BeginTrial(GenerationId id, uint64_t now_ns);
  // The one under way, if it has gone on for long enough.
  std::optional<GenerationId> FindPassedTrial(uint64_t now_ns) const;
  // The one under way has ended with its worker, as told in `text`.
  void FailTrial(const std::string& text, uint64_t now_ns);
  bool trying() const { return trying_ != 0; }

  // A generation of `plugin` serves that has not before.
  void BeginAnew(const std::string& plugin) { crashes_.BeginAnew(plugin); }
  // Those that are not in `chain` any more are forgotten.
  void KeepOnly(const std::vector<GenerationId>& chain);

  // Fills in what is known of crashes, and who is left out.
  void Describe(GenerationTarget::Usage* usage) const;

 private:
  struct Entry {
    std::optional<GenerationSource> stand_in;  // set while it is left out
    std::string name;
    uint64_t returns = 0;      // how often it has come back, trials included
    uint64_t delay_ms = 0;     // from here to the next trial
    uint64_t retry_at_ns = 0;  // 0: never
    uint64_t released_ns = 0;
  };

  std::string RemedyFor(const Entry& entry) const;
  void SetMetric(const std::string& plugin, bool left_out);

  const QuarantineLimit limit_;
  CrashCount crashes_;
  Metrics* const metrics_;
  std::map<std::string, std::string> last_crash_;  // in words, by plugin
  std::map<GenerationId, Entry> entries_;          // by the source's id
  GenerationId trying_ = 0;                        // 0: none
  uint64_t trial_ends_ns_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_QUARANTINE_H_
