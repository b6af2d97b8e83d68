// Counts the crashes of plugins, and says what stands in the place of those that
// crash as often as --quarantine allows.
//
//   Quarantine quarantine({.crashes = 3, .seconds = 60}, &metrics);
//   if (quarantine.CountCrash(end, /*of_a_trial=*/false)) quarantine.LeaveOut(source, end.text);
//   … make quarantine.InPlaceOf(source) rather than `source` …
//   quarantine.KeepOnly(chain);   // another generation serves: it is out again
//
// Metrics: callout_plugin_crashes_total{plugin}, callout_plugin_quarantined{plugin}.
//
// For one thread at a time.
#ifndef CALLOUT_HOST_WORKERS_QUARANTINE_H_
#define CALLOUT_HOST_WORKERS_QUARANTINE_H_

#include <map>
#include <string>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/reload/generation.h"
#include "host/workers/crash_count.h"
#include "host/workers/worker_end.h"

namespace callout::host {

class Quarantine {
 public:
  // `metrics` outlives it.
  Quarantine(const QuarantineLimit& limit, Metrics* metrics) : crashes_(limit), metrics_(metrics) {}

  // Of a plugin: `end` names one. A crash `of_a_trial`, of what never served, says
  // nothing about the plugin as it serves. True if the limit is reached.
  bool CountCrash(const WorkerEnd& end, bool of_a_trial);

  // From now on `source`, after the crash told in `text`. Nothing if it is already.
  void LeaveOut(const GenerationSource& source, const std::string& text);

  // `source`, or the plugin that host/plugin/quarantine_plugin.h describes, with an id of
  // its own.
  const GenerationSource& InPlaceOf(const GenerationSource& source) const;
  // Of a generation, its own or that of what stands in its place: its own.
  static GenerationId IdOf(GenerationId id);

  // A generation of `plugin` serves that has not before.
  void BeginAnew(const std::string& plugin) { crashes_.BeginAnew(plugin); }
  // Those that are not in `chain` any more are forgotten.
  void KeepOnly(const std::vector<GenerationId>& chain);

  // Fills in what is known of crashes, and who is left out.
  void Describe(GenerationTarget::Usage* usage) const;

 private:
  void SetMetric(const std::string& plugin, bool left_out);

  CrashCount crashes_;
  Metrics* const metrics_;
  std::map<std::string, std::string> last_crash_;       // in words, by plugin
  std::map<GenerationId, GenerationSource> stand_ins_;  // by the id they stand in for
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_QUARANTINE_H_
