// SPDX-License-Identifier: Apache-2.0

// How a Reloader creates a version again that has served: to go back to it, or since files that it
// follows have changed.
//
// Tested by tests/host/reload/reloader_test.cc.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "host/base/clock.h"
#include "host/base/status_text.h"
#include "host/reload/reloader.h"

namespace callout::host {

// --- Going back ---------------------------------------------------------------

// `reason` is why the generation in service leaves. An error if it has not: the earlier one cannot
// be created, or its create has not returned. The plugin's create may hang, so it runs aside.
absl::Status Reloader::ReturnToPrevious(Slot* slot, absl::Status reason) {
  if (!slot->returning.has_value()) {
    slot->returning = Return{std::move(reason), false, false, std::nullopt, 0};
  }
  Return& returning = *slot->returning;
  if (returning.pending.has_value()) {
    returning.pending->preparation->WaitFor(options_.create_patience_ns);
    return CheckReturn(slot);
  }
  GenerationSource source = *slot->previous;
  source.id = ++last_id_;
  source.on_trial = source.canary = false;
  // Before its create reads the files, so that no change is missed.
  for (auto& [path, stamp] : source.followed) stamp = StampOf(path);
  if (!options_.target->MayPrepareAside()) {
    absl::StatusOr<GenerationFacts> facts = options_.target->Prepare(source);
    return FinishReturn(slot, std::move(source), std::move(facts));
  }
  absl::StatusOr<Pending> pending = StartAside(source);
  if (!pending.ok()) return FinishReturn(slot, std::move(source), pending.status());
  returning.pending = *std::move(pending);
  returning.pending->deadline_ns = 0;  // the next CheckReturns knows the time
  return CheckReturn(slot);
}

// Handles the result of its create.
absl::Status Reloader::CheckReturn(Slot* slot) {
  std::optional<Pending>* const pending = &slot->returning->pending;
  if (std::optional<Created> created = TakeReturned(pending)) {
    return FinishReturn(slot, std::move(created->source), std::move(created->facts));
  }
  return absl::DeadlineExceededError(
      fmt::format("generation {} is being created again, which takes long; it serves once its "
                  "create has returned",
                  (*pending)->source.number));
}

absl::Status Reloader::FinishReturn(Slot* slot, GenerationSource source,
                                    absl::StatusOr<GenerationFacts> facts) {
  if (!facts.ok()) {
    return absl::Status(facts.status().code(),
                        fmt::format("generation {} cannot be created again: {}", source.number,
                                    MessageOf(facts.status())));
  }
  const GenerationSource failed = *slot->current;
  absl::Status reason = std::move(slot->returning->reason);
  if (slot->returning->by_operator) Abandon(&slot->pending);
  slot->returning.reset();
  Say(LogLevel::kError, fmt::format("plugin {}: {}", failed.name, MessageOf(reason)));
  std::optional<Canary> canary = std::exchange(slot->canary, std::nullopt);
  Serve(slot, std::move(source), *std::move(facts));
  slot->previous.reset();
  Count(*slot, Outcome::kWithdrawn);
  if (canary.has_value()) {
    // It is the version of the plugin's file, so what has failed is not.
    Say(LogLevel::kInfo, fmt::format("plugin {}: generation {} goes on as a canary beside it",
                                     failed.name, canary->source.number));
    slot->canary = std::move(canary);
    return absl::OkStatus();
  }
  slot->withdrawn = failed;
  slot->touched = slot->forgiven = false;
  slot->refusal = std::move(reason);
  slot->refused_at_ms = NowMs();
  return absl::OkStatus();
}

uint64_t Reloader::CheckReturns(uint64_t now_ns) {
  uint64_t due_ns = kNever;
  bool any = false;
  for (auto& [name, slot] : slots_) {
    if (!slot.returning.has_value()) continue;
    due_ns = std::min(due_ns, AdvanceReturn(&slot, now_ns));
    any = true;
  }
  if (any) {
    Commit();
    Publish();
  }
  return due_ns;
}

// Returns the time at which it is to be called again.
uint64_t Reloader::AdvanceReturn(Slot* slot, uint64_t now_ns) {
  Return& returning = *slot->returning;
  absl::Status status;
  if (returning.pending.has_value()) {
    status = CheckReturn(slot);
  } else {
    if (returning.retry_ns == 0) returning.retry_ns = now_ns + kReturnRetryNs;
    if (now_ns < returning.retry_ns) return returning.retry_ns;
    returning.retry_ns = 0;
    status = ReturnToPrevious(slot, returning.reason);
  }
  if (status.ok()) return kNever;  // there is no `returning` any more
  if (returning.pending.has_value()) return AwaitReturn(slot, now_ns);
  returning.by_operator = false;
  if (returning.repeat) {
    NoteFailing(slot, status);
    returning.retry_ns = now_ns + kReturnRetryNs;
    return returning.retry_ns;
  }
  Say(LogLevel::kError,
      fmt::format("plugin {}: {}; generation {} goes on serving. The operator may ask again",
                  slot->files.name, MessageOf(status), slot->current->number));
  slot->returning.reset();
  return kNever;
}

// Its create has not returned yet.
uint64_t Reloader::AwaitReturn(Slot* slot, uint64_t now_ns) {
  Pending& pending = *slot->returning->pending;
  if (pending.deadline_ns == 0) {
    pending.deadline_ns = now_ns + options_.create_timeout_ms * kNsPerMs;
  }
  if (IsNowOverdue(&pending, now_ns)) {
    const absl::Status status = absl::DeadlineExceededError(
        fmt::format("creating generation {} again has not returned for {} ms "
                    "(--plugin_create_timeout_ms); it is left running and serves if it returns",
                    pending.source.number, options_.create_timeout_ms));
    if (slot->returning->repeat) {
      NoteFailing(slot, status);
    } else {
      Say(LogLevel::kError, fmt::format("plugin {}: {}", slot->files.name, MessageOf(status)));
    }
  }
  return now_ns + kDebounceNs;
}

// A generation that has failed its trial goes on serving, as the earlier one does not serve yet.
void Reloader::NoteFailing(Slot* slot, const absl::Status& why) {
  const std::string retry =
      slot->returning->pending.has_value()
          ? ""
          : fmt::format(", and the host tries again every {} ms", kReturnRetryNs / kNsPerMs);
  slot->refusal = absl::AbortedError(fmt::format(
      "generation {} of {} fails more of its first calls than --reload_guard allows, and {}; "
      "meanwhile generation {} goes on serving{}; replace the file",
      slot->current->number, slot->current->path, MessageOf(why), slot->current->number, retry));
  slot->refused_at_ms = NowMs();
  Say(LogLevel::kError, fmt::format("plugin {}: {}", slot->files.name, MessageOf(slot->refusal)));
}

// --- Files that the version in service follows --------------------------------

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
  if (std::optional<Created> created = TakeReturned(&slot->renewal)) {
    FinishRenewal(slot, std::move(created->source), std::move(created->facts));
    return;
  }
  if (IsNowOverdue(&*slot->renewal, now_ns)) {
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
  const uint64_t number = slot->current->number;
  slot->stale_error = absl::Status(
      why.code(),
      fmt::format("files that generation {} of {} follows have changed, and it cannot be created "
                  "again: {}; meanwhile generation {} goes on serving without the change",
                  number, slot->current->path, MessageOf(why), number));
  slot->refused_at_ms = NowMs();
  Say(LogLevel::kError,
      fmt::format("plugin {}: {}", slot->files.name, MessageOf(slot->stale_error)));
  Count(*slot, Outcome::kFailed);
}

}  // namespace callout::host
