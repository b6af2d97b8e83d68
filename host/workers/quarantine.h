// SPDX-License-Identifier: Apache-2.0

// Counts the crashes of plugins. A plugin that reaches the limit of --quarantine is disabled: a
// stand-in takes its place in the chain until it is released.
//
//   Quarantine quarantine({.crashes = 3, .seconds = 60}, &metrics);
//   if (quarantine.CountCrash(end, /*of_a_trial=*/false)) quarantine.Disable(source, end.text,
//   now); … create quarantine.InPlaceOf(source, in_trial_worker) instead of `source` … if (auto id
//   = quarantine.FindDueTrial(now)) quarantine.BeginTrial(*id, now);  // in one worker
//   … create quarantine.ReturnOf(source), beside the stand-in; if that was possible:
//   quarantine.Release(id, by_operator, now);  // by the operator, or after a trial without a crash
//   quarantine.KeepOnly(chain);                // forgets generations that no longer serve
//
// A trial begins after --quarantine_retry_ms and takes kTrialNs. A crash ends it, and doubles the
// time to the next one.
//
// Metrics: callout_plugin_crashes_total{plugin}, callout_plugin_quarantined{plugin}.
//
// For one thread at a time.
#ifndef CALLOUT_HOST_WORKERS_QUARANTINE_H_
#define CALLOUT_HOST_WORKERS_QUARANTINE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/reload/generation.h"
#include "host/workers/containment.h"
#include "host/workers/worker_end.h"

namespace callout::host {

// Counts how often each plugin has crashed, and says when that is too often.
class CrashCount {
 public:
  explicit CrashCount(const QuarantineLimit& limit) : limit_(limit) {}

  // Counts a crash at `now_ns`, which is not before the last counted one. True if the plugin has
  // reached the limit.
  bool Add(const std::string& plugin, uint64_t now_ns);

  // Counts a crash for totals() only.
  void AddToTotal(const std::string& plugin) { ++totals_[plugin]; }

  // Forgets the crashes so far, except in totals().
  void BeginAnew(const std::string& plugin) { recent_.erase(plugin); }

  // By plugin, since the start.
  const std::map<std::string, uint64_t>& totals() const { return totals_; }

 private:
  const QuarantineLimit limit_;
  std::map<std::string, std::deque<uint64_t>> recent_;  // times, oldest first
  std::map<std::string, uint64_t> totals_;
};

class Quarantine {
 public:
  // How long a trial takes.
  static constexpr uint64_t kTrialNs = 10'000'000'000;

  // `metrics` outlives it.
  Quarantine(const QuarantineLimit& limit, Metrics* metrics)
      : limit_(limit), crashes_(limit), metrics_(metrics) {}

  // Counts the crash of the plugin that `end` names. True if it has reached the limit, which a
  // crash `of_a_trial` does not count for: that version never served, or serves no more.
  bool CountCrash(const WorkerEnd& end, bool of_a_trial);
  // Of a version that serves no more: it is told, and counts for none.
  void NoteCrash(const WorkerEnd& end);

  // Disables `source`, whose `phases` are those of the stand-in; `text` says what the last crash
  // was. Does nothing if it is disabled.
  void Disable(const GenerationSource& source, const std::string& text, uint64_t now_ns);

  // What a worker creates for `source`: the source itself or, while it is disabled, the stand-in
  // (host/plugin/quarantine_plugin.h). The source gets a new id each time it is released, since
  // the instance before may still have streams.
  GenerationSource InPlaceOf(const GenerationSource& source, bool in_trial_worker = false) const;
  // The source's id, from an id that InPlaceOf gave.
  static GenerationId IdOf(GenerationId id);

  // What InPlaceOf gives for `source` once it is released. Nothing if it is not disabled.
  std::optional<GenerationSource> ReturnOf(const GenerationSource& source) const;
  // ReturnOf could not be created, so the plugin stays disabled; `why` is for the log. A trial of
  // it has failed.
  void RefuseReturn(GenerationId id, const std::string& why, uint64_t now_ns);

  // Enables the plugin again, in all workers. False if it was not disabled. With `by_operator`
  // the next quarantine begins with the shortest time to a trial again.
  bool Release(GenerationId id, bool by_operator, uint64_t now_ns);

  // --- Trials, one at a time.
  // The plugin whose trial is due. None while a trial runs.
  std::optional<GenerationId> FindDueTrial(uint64_t now_ns) const;
  void BeginTrial(GenerationId id, uint64_t now_ns);
  // The plugin whose trial has taken kTrialNs without a crash.
  std::optional<GenerationId> FindPassedTrial(uint64_t now_ns) const;
  // The trial has ended by a crash, or could not begin; `text` says why.
  void FailTrial(const std::string& text, uint64_t now_ns);
  bool trying() const { return trying_ != 0; }
  bool IsTried(GenerationId id) const { return trying() && trying_ == id; }

  // A new generation of `plugin` serves: crashes before do not count for it.
  void BeginAnew(const std::string& plugin) { crashes_.BeginAnew(plugin); }
  // Forgets the generations that are not in `chain`.
  void KeepOnly(const std::vector<GenerationId>& chain);

  // Fills in the crashes and the disabled plugins.
  void Describe(GenerationTarget::Usage* usage) const;

 private:
  struct Entry {
    std::optional<GenerationSource> stand_in;  // set while the plugin is disabled
    std::string name;
    uint64_t returns = 0;      // how often it was released or tried
    uint64_t delay_ms = 0;     // from the crash to the next trial
    uint64_t retry_at_ns = 0;  // 0: never
    uint64_t released_ns = 0;
  };

  std::string RemedyFor(const Entry& entry) const;
  void SetMetric(const std::string& plugin, bool disabled);

  const QuarantineLimit limit_;
  CrashCount crashes_;
  Metrics* const metrics_;
  std::map<std::string, std::string> last_crash_;  // WorkerEnd::text, by plugin
  std::map<GenerationId, Entry> entries_;          // by the source's id
  GenerationId trying_ = 0;                        // 0: none
  uint64_t trial_ends_ns_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_QUARANTINE_H_
