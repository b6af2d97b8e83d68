// SPDX-License-Identifier: Apache-2.0

// How a Reloader creates a version again that has served: to go back to it, or since files that it
// follows have changed.
//
// Tested by tests/host/reload/reloader_test.cc.
#include <fmt/format.h>

#include <utility>

#include "host/base/status_text.h"
#include "host/reload/reloader.h"

namespace callout::host {

// --- Going back ---------------------------------------------------------------

// `reason` is why the current generation does not serve.
absl::Status Reloader::ReturnToPrevious(Slot* slot, absl::Status reason) {
  const GenerationSource failed = *slot->current;
  GenerationSource source = *slot->previous;
  source.id = ++last_id_;
  source.on_trial = source.canary = false;
  // Before its create reads the files, so that no change is missed.
  for (auto& [path, stamp] : source.followed) stamp = StampOf(path);
  absl::StatusOr<GenerationFacts> facts = options_.target->Prepare(source);
  if (!facts.ok()) {
    return absl::Status(facts.status().code(),
                        fmt::format("generation {} cannot be created again: {}", source.number,
                                    MessageOf(facts.status())));
  }
  Say(LogLevel::kError, fmt::format("plugin {}: {}", failed.name, MessageOf(reason)));
  Serve(slot, std::move(source), *std::move(facts));
  slot->previous.reset();
  slot->withdrawn = failed;
  slot->touched = slot->forgiven = false;
  slot->refusal = std::move(reason);
  slot->refused_at_ms = NowMs();
  Count(*slot, Outcome::kWithdrawn);
  return absl::OkStatus();
}

// --- Files that the version in service follows -------------------------------------

// The files have changed, and the plugin's own file has another version: withdrawn, refused, or a
// canary. It is still the same version, so it keeps its number.
void Reloader::RenewCurrent(Slot* slot) {
  if (slot->file_serves || !slot->current.has_value()) return;
  if (!HasChanged(*slot->current, slot->seen_followed)) return;
  if (slot->renewal.has_value() && !HasChanged(slot->renewal->source, slot->seen_followed)) return;
  GenerationSource source = *slot->current;
  source.id = ++last_id_;
  for (auto& [path, stamp] : source.followed) {
    const auto seen = slot->seen_followed.find(path);
    if (seen != slot->seen_followed.end()) stamp = seen->second;
  }
  Abandon(&slot->renewal);  // it may have read them before they changed
  if (!options_.target->MayPrepareAside()) {
    absl::StatusOr<GenerationFacts> facts = options_.target->Prepare(source);
    FinishRenewal(slot, std::move(source), std::move(facts));
    return;
  }
  absl::StatusOr<Pending> renewal = StartAside(std::move(source));
  if (!renewal.ok()) {
    NoteStale(slot, renewal.status());
    return;
  }
  slot->renewal = *std::move(renewal);
  CheckRenewal(slot, now_ns_);
}

// Handles the result of its create.
void Reloader::CheckRenewal(Slot* slot, uint64_t now_ns) {
  Pending& renewal = *slot->renewal;
  if (renewal.preparation->WaitFor(0)) {
    GenerationSource source = std::move(renewal.source);
    absl::StatusOr<GenerationFacts> facts = renewal.preparation->result();
    slot->renewal.reset();
    FinishRenewal(slot, std::move(source), std::move(facts));
    return;
  }
  if (now_ns >= renewal.deadline_ns && !renewal.overdue) {
    renewal.overdue = true;
    NoteStale(slot, absl::DeadlineExceededError(fmt::format(
                        "its create has not returned for {} ms (--plugin_create_timeout_ms); it is "
                        "left running and serves if it returns",
                        options_.create_timeout_ms)));
  }
}

// Unlike Serve it leaves alone what is known about the plugin's own file, the canary and the
// version to go back to.
void Reloader::FinishRenewal(Slot* slot, GenerationSource source,
                             absl::StatusOr<GenerationFacts> facts) {
  if (!facts.ok()) {
    NoteStale(slot, facts.status());
    return;
  }
  Say(LogLevel::kInfo, fmt::format("plugin {}: files that generation {} follows have changed; it "
                                   "was created again and serves new streams",
                                   source.name, source.number));
  AddGeneration(slot, &source, *std::move(facts));
  slot->current = std::move(source);
  slot->stale_error = absl::OkStatus();
  Count(*slot, Outcome::kLoaded);
}

// The generation in service goes on, without what has changed.
void Reloader::NoteStale(Slot* slot, const absl::Status& why) {
  slot->stale_error = absl::Status(
      why.code(), fmt::format("files that generation {} of {} follows have changed, and it cannot "
                              "be created again: {}; it goes on serving without the change",
                              slot->current->number, slot->current->path, MessageOf(why)));
  slot->refused_at_ms = NowMs();
  Say(LogLevel::kError,
      fmt::format("plugin {}: {}", slot->files.name, MessageOf(slot->stale_error)));
  Count(*slot, Outcome::kFailed);
}

}  // namespace callout::host
