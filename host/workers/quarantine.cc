#include "host/workers/quarantine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"

namespace callout::host {
namespace {

// Not among the ids that the reloader gives.
constexpr GenerationId kStandIn = GenerationId{1} << 63;

}  // namespace

bool Quarantine::CountCrash(const WorkerEnd& end, bool of_a_trial) {
  const absl::StatusOr<Metrics::Id> crashes =
      metrics_->Define(Metrics::Kind::kCounter, "callout_plugin_crashes_total",
                       "Worker processes that ended because of a plugin", {{"plugin", end.plugin}});
  if (crashes.ok()) metrics_->Add(*crashes);
  last_crash_[end.plugin] = end.text;
  if (!of_a_trial) return crashes_.Add(end.plugin, MonotonicNs());
  crashes_.AddToTotal(end.plugin);
  return false;
}

void Quarantine::LeaveOut(const GenerationSource& source, const std::string& text) {
  if (stand_ins_.count(source.id) > 0) return;
  GenerationSource stand_in = source;
  stand_in.id = source.id | kStandIn;
  stand_in.quarantine = fmt::format("plugin {} is in quarantine after {} crashes, the last one: {}",
                                    source.name, crashes_.totals().at(source.name), text);
  stand_in.on_trial = false;
  Log(LogLevel::kError, "{}; it is disabled until its file changes, and its error policy responds",
      stand_in.quarantine);
  stand_ins_.emplace(source.id, std::move(stand_in));
  SetMetric(source.name, true);
}

const GenerationSource& Quarantine::InPlaceOf(const GenerationSource& source) const {
  const auto stand_in = stand_ins_.find(source.id);
  return stand_in == stand_ins_.end() ? source : stand_in->second;
}

GenerationId Quarantine::IdOf(GenerationId id) { return id & ~kStandIn; }

void Quarantine::KeepOnly(const std::vector<GenerationId>& chain) {
  std::erase_if(stand_ins_, [&, this](const auto& entry) {
    if (std::find(chain.begin(), chain.end(), entry.first) != chain.end()) return false;
    SetMetric(entry.second.name, false);
    return true;
  });
}

void Quarantine::Describe(GenerationTarget::Usage* usage) const {
  for (const auto& [id, stand_in] : stand_ins_) {
    usage->quarantined[stand_in.name] = stand_in.quarantine;
  }
  usage->last_crash = last_crash_;
  usage->crashes = crashes_.totals();
}

void Quarantine::SetMetric(const std::string& plugin, bool left_out) {
  const absl::StatusOr<Metrics::Id> gauge = metrics_->Define(
      Metrics::Kind::kGauge, "callout_plugin_quarantined",
      "1 while the plugin is left out because it has crashed too often", {{"plugin", plugin}});
  if (gauge.ok()) metrics_->Set(*gauge, left_out ? 1 : 0);
}

}  // namespace callout::host
