// SPDX-License-Identifier: Apache-2.0

// The log lines, metrics and status of a Reloader.
//
// Tested by tests/host/reload/plugin_status_test.cc.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "host/base/status_text.h"
#include "host/reload/reloader.h"

namespace callout::host {

std::string_view StateName(Reloader::State state) {
  switch (state) {
    case Reloader::State::kServing:
      return "serving";
    case Reloader::State::kRefused:
      return "refused";
    case Reloader::State::kWaiting:
      return "waiting";
    case Reloader::State::kDisabled:
      return "disabled";
    case Reloader::State::kLibrary:
      return "library";
    case Reloader::State::kRemoved:
      break;
  }
  return "removed";
}

void Reloader::Say(LogLevel level, std::string text) {
  if (!quiet_) sayings_.emplace_back(level, std::move(text));
}

void Reloader::NoteEnded() {
  const GenerationTarget::Usage usage = options_.target->GetUsage();
  RememberWithdrawn(usage);
  for (auto& [name, slot] : slots_) {
    std::erase_if(slot.generations, [&, name = name](const GenerationStatus& generation) {
      // Whether it has ended is not known.
      if (!usage.complete || usage.streams.count(generation.id) > 0) return false;
      Log(LogLevel::kInfo, "plugin {}: generation {} has ended", name, generation.number);
      return true;
    });
  }
}

// Brings the file of withdrawn versions up to date. It has, of a plugin in quarantine, the version
// that is in it. What was withdrawn for the files that it had read, while the same version serves
// with others, is not in it: after a restart there would be nothing to serve.
void Reloader::RememberWithdrawn(const GenerationTarget::Usage& usage) {
  for (const auto& [name, slot] : slots_) {
    const auto quarantined = usage.quarantined.find(name);
    const bool disabled = quarantined != usage.quarantined.end() && slot.current.has_value() &&
                          slot.current->quarantine.empty();
    const GenerationSource* source = nullptr;
    std::string why;
    if (disabled) {
      source = &*slot.current;
      why = quarantined->second;
    } else if (slot.withdrawn.has_value() && !Serves(slot, *slot.withdrawn)) {
      source = &*slot.withdrawn;
      why = std::string(slot.refusal.message());
    }
    if (source == nullptr) {
      if (slot.taken.has_value()) withdrawn_->Remove(name);
    } else if (withdrawn_->Find(name, DigestOf(*source)) == nullptr) {
      withdrawn_->Set({name, DigestOf(*source), source->number, std::move(why), NowMs()});
    }
  }
  if (absl::Status status = withdrawn_->Save(); !status.ok()) {
    absl::StatusOr<Metrics::Id> errors =
        options_.metrics->Define(Metrics::Kind::kCounter, "callout_state_write_errors_total",
                                 "Writes to --state_dir that failed");
    if (errors.ok()) options_.metrics->Add(*errors);
    LogLimited(LogLevel::kError, "state_dir", "{}", MessageOf(status));
  }
}

// Logs and publishes what was done, after Commit.
void Reloader::Publish() {
  PublishStatus();
  for (const auto& [level, text] : std::exchange(sayings_, {})) Log(level, "{}", text);
}

void Reloader::Count(const Slot& slot, Outcome outcome) {
  static constexpr std::string_view kNames[] = {"loaded", "failed", "removed", "withdrawn",
                                                "promoted"};
  absl::StatusOr<Metrics::Id> reloads = options_.metrics->Define(
      Metrics::Kind::kCounter, "callout_reloads_total",
      "Versions of plugins that were loaded, refused, removed, withdrawn or promoted, by outcome",
      {{"plugin", slot.files.name}, {"outcome", std::string(kNames[static_cast<int>(outcome)])}});
  if (reloads.ok()) options_.metrics->Add(*reloads);
}

// True for a problem of a file that is listed and refused for that reason.
bool Reloader::IsRefusal(const PluginSources::Problem& problem) const {
  return std::any_of(slots_.begin(), slots_.end(), [&](const auto& slot) {
    return slot.second.listed && slot.second.files.wrong == problem.text;
  });
}

void Reloader::SetGauge(const char* name, const char* help, size_t value) {
  absl::StatusOr<Metrics::Id> gauge = options_.metrics->Define(Metrics::Kind::kGauge, name, help);
  if (gauge.ok()) options_.metrics->Set(*gauge, static_cast<double>(value));
}

void Reloader::PublishStatus() {
  Snapshot snapshot;
  for (auto& [name, slot] : slots_) {
    absl::StatusOr<Metrics::Id> refused = options_.metrics->Define(
        Metrics::Kind::kGauge, "callout_plugin_refused",
        "1 while the plugin's file is not the active version", {{"plugin", name}});
    if (refused.ok()) options_.metrics->Set(*refused, slot.refusal.ok() ? 0 : 1);
    absl::StatusOr<Metrics::Id> canary = options_.metrics->Define(
        Metrics::Kind::kGauge, "callout_canary_running",
        "1 while a new version of the plugin serves a share of the streams", {{"plugin", name}});
    if (canary.ok()) options_.metrics->Set(*canary, slot.canary.has_value() ? 1 : 0);
  }
  for (const std::string& name : order_) {
    const Slot& slot = slots_.at(name);
    if (slot.listed || slot.current.has_value()) snapshot.plugins.push_back(StatusOf(slot));
  }
  for (auto slot = slots_.begin(); slot != slots_.end();) {
    const bool gone = slot->second.state == State::kRemoved && !slot->second.listed;
    if (gone && !slot->second.generations.empty()) {
      snapshot.plugins.push_back(StatusOf(slot->second));
    }
    slot = gone && slot->second.generations.empty() ? slots_.erase(slot) : std::next(slot);
  }
  for (const PluginSources::Problem& problem : problems_) {
    if (!IsRefusal(problem)) snapshot.problems.push_back(problem.text);
  }
  bool lacks_stand_in = false;
  for (const auto& [name, slot] : slots_) {
    if (!slot.stale_error.ok() && !slot.refusal.ok()) {  // the refusal is its last error
      snapshot.problems.push_back(fmt::format("plugin {}: {}", name, MessageOf(slot.stale_error)));
    }
    if (slot.stand_in_error.ok()) continue;
    lacks_stand_in = true;
    snapshot.problems.emplace_back(MessageOf(slot.stand_in_error));
  }
  size_t stand_ins = 0;
  for (const PluginStatus& plugin : snapshot.plugins) {
    if (plugin.stand_in) ++stand_ins;
    if (plugin.last_error.empty()) continue;
    snapshot.problems.push_back(fmt::format("plugin {}: {}", plugin.name, plugin.last_error));
  }
  SetGauge("callout_plugin_problems",
           "Directories and plugin files with a problem; /plugins lists them",
           snapshot.problems.size());
  SetGauge("callout_plugin_stand_ins",
           "Plugins that did not load at the start, for which a stand-in answers", stand_ins);
  SetGauge("callout_plugin_creates_running",
           "Creates of new versions of plugins that have not returned", Preparation::running());
  complete_.store(stand_ins == 0 && !lacks_stand_in, std::memory_order_release);
  std::lock_guard<std::mutex> lock(mutex_);
  snapshot_ = std::move(snapshot);
}

Reloader::PluginStatus Reloader::StatusOf(const Slot& slot) const {
  PluginStatus status;
  status.name = slot.files.name;
  status.path = slot.files.path;
  status.state = slot.state;
  status.stand_in = slot.current.has_value() && !slot.current->quarantine.empty();
  if (!slot.refusal.ok()) {
    status.last_error = std::string(slot.refusal.message());
    status.last_error_at_ms = slot.refused_at_ms;
  } else if (!slot.stale_error.ok()) {
    status.last_error = std::string(slot.stale_error.message());
    status.last_error_at_ms = slot.refused_at_ms;
  }
  status.has_canary = slot.canary.has_value();
  status.may_go_back = status.has_canary || (slot.current.has_value() && slot.previous.has_value());
  status.withdrawn = slot.withdrawn.has_value();
  status.shadow = IsShadow(slot);
  status.generations = slot.generations;
  for (GenerationStatus& generation : status.generations) {
    generation.in_service = slot.current.has_value() && slot.current->id == generation.id;
    if (slot.canary.has_value() && slot.canary->source.id == generation.id) {
      generation.canary_percent = slot.canary->settings.percent;
    }
  }
  return status;
}

Reloader::Snapshot Reloader::Status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return snapshot_;
}

}  // namespace callout::host
