// SPDX-License-Identifier: Apache-2.0

#include "host/workers/quarantine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"

namespace callout::host {
namespace {

// An id has the reloader's id in its low bits, above them the number of the release, and the
// highest bit for the stand-in.
constexpr int kReturnsShift = 40;
constexpr GenerationId kSourceMask = (GenerationId{1} << kReturnsShift) - 1;
constexpr GenerationId kStandIn = GenerationId{1} << 63;

constexpr uint64_t kMsNs = 1'000'000;

}  // namespace

bool CrashCount::Add(const std::string& plugin, uint64_t now_ns) {
  ++totals_[plugin];
  if (limit_.crashes == 0) return false;
  std::deque<uint64_t>& recent = recent_[plugin];
  recent.push_back(now_ns);
  while (now_ns - recent.front() > limit_.seconds * uint64_t{1'000'000'000}) recent.pop_front();
  return recent.size() >= limit_.crashes;
}

void Quarantine::NoteCrash(const WorkerEnd& end) {
  const absl::StatusOr<Metrics::Id> crashes =
      metrics_->Define(Metrics::Kind::kCounter, "callout_plugin_crashes_total",
                       "Worker processes that ended because of a plugin", {{"plugin", end.plugin}});
  if (crashes.ok()) metrics_->Add(*crashes);
  last_crash_[end.plugin] = end.text;
}

bool Quarantine::CountCrash(const WorkerEnd& end, bool of_a_trial) {
  NoteCrash(end);
  if (!of_a_trial) return crashes_.Add(end.plugin, MonotonicNs());
  crashes_.AddToTotal(end.plugin);
  return false;
}

void Quarantine::Disable(const GenerationSource& source, const std::string& text, uint64_t now_ns) {
  Entry& entry = entries_[source.id];
  if (entry.stand_in.has_value()) return;
  const bool soon_again =
      entry.released_ns != 0 && now_ns - entry.released_ns < kQuarantineRetryMsMax * kMsNs;
  entry.delay_ms =
      soon_again ? std::min(entry.delay_ms * 2, kQuarantineRetryMsMax) : limit_.retry_ms;
  entry.retry_at_ns = entry.delay_ms == 0 ? 0 : now_ns + entry.delay_ms * kMsNs;
  entry.name = source.name;
  GenerationSource stand_in = source;
  stand_in.id = source.id | entry.returns << kReturnsShift | kStandIn;
  stand_in.quarantine = fmt::format("plugin {} is in quarantine after {} crashes, the last one: {}",
                                    source.name, crashes_.totals().at(source.name), text);
  stand_in.on_trial = false;
  entry.stand_in = std::move(stand_in);
  SetMetric(source.name, true);
  Log(LogLevel::kError, "{}; {}", entry.stand_in->quarantine, RemedyFor(entry));
}

std::string Quarantine::RemedyFor(const Entry& entry) const {
  std::string text = fmt::format(
      "it is disabled until its file changes or is touched or SIGHUP comes; meanwhile its error "
      "policy answers, by default 503");
  if (entry.retry_at_ns != 0) {
    text += fmt::format("; a trial in one worker begins after {} s (--quarantine_retry_ms)",
                        (entry.delay_ms + 999) / 1000);
  }
  return text;
}

GenerationSource Quarantine::InPlaceOf(const GenerationSource& source, bool in_trial_worker) const {
  const auto found = entries_.find(source.id);
  if (found == entries_.end()) return source;
  const Entry& entry = found->second;
  const bool tried = in_trial_worker && trying_ == source.id;
  if (entry.stand_in.has_value() && !tried) return *entry.stand_in;
  GenerationSource again = source;
  again.id = source.id | entry.returns << kReturnsShift;
  if (entry.returns > 0) again.on_trial = false;  // the reloader's trial is over
  return again;
}

std::optional<GenerationSource> Quarantine::ReturnOf(const GenerationSource& source) const {
  const auto found = entries_.find(source.id);
  if (found == entries_.end() || !found->second.stand_in.has_value()) return std::nullopt;
  GenerationSource again = source;
  // The worker of a trial has it already.
  const uint64_t returns = found->second.returns + (IsTried(source.id) ? 0 : 1);
  again.id = source.id | returns << kReturnsShift;
  again.on_trial = false;  // the reloader's trial is over
  return again;
}

void Quarantine::RefuseReturn(GenerationId id, const std::string& why, uint64_t now_ns) {
  if (IsTried(id)) return FailTrial(why, now_ns);
  const auto found = entries_.find(id);
  if (found == entries_.end() || !found->second.stand_in.has_value()) return;
  const Entry& entry = found->second;
  Log(LogLevel::kError, "plugin {} stays in quarantine: {}; {}", entry.name, why, RemedyFor(entry));
}

GenerationId Quarantine::IdOf(GenerationId id) { return id & kSourceMask; }

bool Quarantine::Release(GenerationId id, bool by_operator, uint64_t now_ns) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || !found->second.stand_in.has_value()) return false;
  Entry& entry = found->second;
  // The worker of a trial has it already.
  if (trying_ == id) {
    trying_ = 0;
  } else {
    ++entry.returns;
  }
  entry.stand_in.reset();
  entry.released_ns = by_operator ? 0 : now_ns;
  crashes_.BeginAnew(entry.name);
  SetMetric(entry.name, false);
  Log(LogLevel::kInfo, "plugin {} is out of quarantine: {}", entry.name,
      by_operator ? "its file was touched or SIGHUP came" : "its trial has ended without a crash");
  return true;
}

// --- Trials -------------------------------------------------------------------

std::optional<GenerationId> Quarantine::FindDueTrial(uint64_t now_ns) const {
  if (trying()) return std::nullopt;
  for (const auto& [id, entry] : entries_) {
    if (entry.stand_in.has_value() && entry.retry_at_ns != 0 && now_ns >= entry.retry_at_ns) {
      return id;
    }
  }
  return std::nullopt;
}

void Quarantine::BeginTrial(GenerationId id, uint64_t now_ns) {
  Entry& entry = entries_.at(id);
  ++entry.returns;
  trying_ = id;
  trial_ends_ns_ = now_ns + kTrialNs;
  Log(LogLevel::kInfo, "plugin {} is in quarantine; its trial in one worker takes {} s", entry.name,
      kTrialNs / 1'000'000'000);
}

std::optional<GenerationId> Quarantine::FindPassedTrial(uint64_t now_ns) const {
  if (!trying() || now_ns < trial_ends_ns_) return std::nullopt;
  return trying_;
}

void Quarantine::FailTrial(const std::string& text, uint64_t now_ns) {
  const auto found = entries_.find(std::exchange(trying_, 0));
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  entry.delay_ms = std::min(entry.delay_ms * 2, kQuarantineRetryMsMax);
  entry.retry_at_ns = now_ns + entry.delay_ms * kMsNs;
  Log(LogLevel::kError, "plugin {} stays in quarantine: its trial ended with {}; {}", entry.name,
      text, RemedyFor(entry));
}

void Quarantine::KeepOnly(const std::vector<GenerationId>& chain) {
  std::erase_if(entries_, [&, this](const auto& kept) {
    const auto& [id, entry] = kept;
    if (std::find(chain.begin(), chain.end(), id) != chain.end()) return false;
    if (entry.stand_in.has_value()) SetMetric(entry.name, false);
    if (trying_ == id) trying_ = 0;
    return true;
  });
}

void Quarantine::Describe(GenerationTarget::Usage* usage) const {
  for (const auto& [id, entry] : entries_) {
    if (!entry.stand_in.has_value()) continue;
    usage->quarantined[entry.name] = entry.stand_in->quarantine;
    usage->problems.push_back(fmt::format("{}; {}", entry.stand_in->quarantine, RemedyFor(entry)));
  }
  usage->last_crash = last_crash_;
  usage->crashes = crashes_.totals();
}

void Quarantine::SetMetric(const std::string& plugin, bool disabled) {
  const absl::StatusOr<Metrics::Id> gauge = metrics_->Define(
      Metrics::Kind::kGauge, "callout_plugin_quarantined",
      "1 while the plugin is disabled because it has crashed too often", {{"plugin", plugin}});
  if (gauge.ok()) metrics_->Set(*gauge, disabled ? 1 : 0);
}

}  // namespace callout::host
