#include "host/reload/reloader.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/plugin/elf_image.h"

namespace callout::host {
namespace {

constexpr size_t kShortSha = 12;

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Whether both make the same generation.
bool IsSame(const GenerationSource& a, const GenerationSource& b) {
  return a.sha256 == b.sha256 && a.config == b.config && a.settings_text == b.settings_text &&
         a.followed == b.followed;
}

std::string Describe(const GenerationSource& source, const GenerationFacts& facts) {
  return fmt::format("generation {} of {} ({}sha256 {})", source.number, source.path,
                     facts.version.empty() ? "" : fmt::format("version {}, ", facts.version),
                     source.sha256.substr(0, kShortSha));
}

}  // namespace

Reloader::Reloader(Options options) : options_(std::move(options)), sources_(options_.sources) {}

// --- A look -------------------------------------------------------------------

absl::Status Reloader::LoadFirst(uint64_t now_ns) {
  uint64_t ignored = kNever;
  RescanEverything(now_ns, /*first=*/true, &ignored);
  if (options_.require_plugins == RequirePlugins::kAll) {
    for (const PluginSources::Problem& problem : problems_) {
      if (!problem.name.empty()) return absl::AlreadyExistsError(problem.text);
    }
  }
  for (const std::string& name : order_) {
    const Slot& slot = slots_.at(name);
    if (!slot.refusal.ok() && IsRequired(slot)) return slot.refusal;
  }
  Commit();
  Publish();
  quiet_ = false;
  return absl::OkStatus();
}

bool Reloader::IsRequired(const Slot& slot) const {
  switch (options_.require_plugins) {
    case RequirePlugins::kAll:
      return true;
    case RequirePlugins::kNone:
      return false;
    case RequirePlugins::kAuto:
      break;
  }
  return !slot.files.from_directory;
}

void Reloader::LogFirst() const {
  for (const PluginSources::Problem& problem : problems_) {
    Log(LogLevel::kWarning, "{}", problem.text);
  }
  for (const PluginStatus& plugin : Status().plugins) {
    if (!plugin.last_error.empty()) {
      Log(LogLevel::kError, "serving without plugin {}: {}", plugin.name, plugin.last_error);
    }
    if (plugin.state == State::kDisabled)
      Log(LogLevel::kInfo, "plugin {} is disabled", plugin.name);
    if (plugin.state != State::kServing) continue;
    const GenerationFacts& facts = plugin.generations.front().facts;
    for (const std::string& warning : facts.warnings) {
      Log(LogLevel::kWarning, "plugin {}: {}", plugin.name, warning);
    }
    Log(LogLevel::kInfo, "plugin {} from {}: {}", plugin.name, plugin.path,
        fmt::join(facts.hooks, ", "));
  }
}

uint64_t Reloader::Rescan(uint64_t now_ns) {
  uint64_t due_ns = kNever;
  RescanEverything(now_ns, /*first=*/false, &due_ns);
  retry_ = false;
  Commit();
  Publish();
  return due_ns;
}

void Reloader::RescanEverything(uint64_t now_ns, bool first, uint64_t* due_ns) {
  UpdateSlots();
  for (auto& [name, slot] : slots_) *due_ns = std::min(*due_ns, RescanFile(&slot, now_ns, first));
}

void Reloader::UpdateSlots() {
  PluginSources::Listing listing = sources_.List();
  watched_paths_ = sources_.WatchedPaths(listing);
  UpdateProblems(listing.problems);
  for (auto& [name, slot] : slots_) slot.listed = false;
  std::vector<std::string> order;
  for (PluginFiles& files : listing.plugins) {
    Slot& slot = slots_[files.name];
    slot.listed = true;
    order.push_back(files.name);
    slot.files = std::move(files);
    if (!slot.files.watched) continue;
    watched_paths_.insert(watched_paths_.end(), slot.followed.begin(), slot.followed.end());
  }
  // One that is listed no more keeps its place until it is taken out of service.
  for (size_t i = 0; i < order_.size(); ++i) {
    const auto slot = slots_.find(order_[i]);
    if (slot == slots_.end() || slot->second.listed || !slot->second.current.has_value()) continue;
    const auto before = i == 0 ? order.end() : std::find(order.begin(), order.end(), order_[i - 1]);
    order.insert(before == order.end() ? order.begin() : before + 1, order_[i]);
  }
  order_ = std::move(order);
}

void Reloader::UpdateProblems(const std::vector<PluginSources::Problem>& problems) {
  for (const PluginSources::Problem& problem : problems) {
    const bool known = std::any_of(problems_.begin(), problems_.end(), [&](const auto& other) {
      return other.path == problem.path && other.text == problem.text;
    });
    if (!known) Say(LogLevel::kWarning, problem.text);
  }
  problems_ = problems;
}

// When to look at it again.
uint64_t Reloader::RescanFile(Slot* slot, uint64_t now_ns, bool first) {
  if (slot->taken.has_value() && !slot->files.watched) return kNever;
  if (slot->listed && !slot->files.reachable) return kNever;
  PluginStamps stamps;
  if (slot->listed) stamps = StampsOf(slot->files);
  if (slot->listed) stamps.followed = StampsOfFollowed(*slot);
  if (stamps != slot->seen) {
    slot->seen = stamps;
    slot->seen_since_ns = now_ns;
  }
  const bool retry = retry_ && !slot->refusal.ok() && !slot->withdrawn.has_value();
  const bool known = slot->taken == stamps;
  if (known && !retry) return kNever;
  const uint64_t rested_ns = now_ns - slot->seen_since_ns;
  if (!first && !known && rested_ns < kDebounceNs) return slot->seen_since_ns + kDebounceNs;
  if (!stamps.code.exists && (!first || slot->files.from_directory)) {
    slot->taken = stamps;
    StopServing(slot, slot->listed ? State::kWaiting : State::kRemoved);
    return kNever;
  }
  switch (Take(slot, first || known, rested_ns)) {
    case Taken::kDone:
      slot->taken = stamps;
      return kNever;
    case Taken::kIncomplete:
      return slot->seen_since_ns + kIncompleteRestNs;
    case Taken::kChanging:
      break;
  }
  return now_ns + kDebounceNs;
}

std::vector<FileStamp> Reloader::StampsOfFollowed(const Slot& slot) {
  std::vector<FileStamp> stamps;
  for (const std::string& path : slot.followed) stamps.push_back(StampOf(path));
  return stamps;
}

void Reloader::Commit() {
  std::vector<GenerationId> chain;
  for (const std::string& name : order_) {
    const Slot& slot = slots_.at(name);
    if (slot.current.has_value()) chain.push_back(slot.current->id);
  }
  if (chain == committed_) return;
  options_.target->Commit(chain);
  committed_ = std::move(chain);
}

// --- One plugin's files -------------------------------------------------------

Reloader::Taken Reloader::Take(Slot* slot, bool at_once, uint64_t rested_ns) {
  absl::StatusOr<PluginContents> contents = ReadContents(slot->files, slot->seen);
  if (contents.ok()) return Decide(slot, *contents, !at_once && rested_ns < kIncompleteRestNs);
  const bool changing = absl::IsAborted(contents.status());
  // The first look waits for nothing: one that is required is an error then.
  if (!changing || at_once) Refuse(slot, contents.status());
  return changing ? Taken::kChanging : Taken::kDone;
}

Reloader::Taken Reloader::Decide(Slot* slot, const PluginContents& contents,
                                 bool may_be_incomplete) {
  GenerationSource wanted;
  wanted.sha256 = contents.sha256;
  wanted.config = contents.config;
  wanted.settings_text = contents.settings_text;
  wanted.policy = slot->files.policy;
  wanted.followed = slot->seen.followed;
  absl::StatusOr<InstanceSettings> settings = SettingsOf(wanted);
  if (!settings.ok()) {
    Refuse(slot, absl::InvalidArgumentError(fmt::format("reading {}: {}", slot->files.settings_path,
                                                        MessageOf(settings.status()))));
    return Taken::kDone;
  }
  if (settings->disabled) {
    StopServing(slot, State::kDisabled);
    return Taken::kDone;
  }
  if (slot->current.has_value() && IsSame(*slot->current, wanted)) {
    slot->refusal = absl::OkStatus();
    slot->withdrawn.reset();
    return Taken::kDone;
  }
  if (slot->withdrawn.has_value() && IsSame(*slot->withdrawn, wanted)) return Taken::kDone;
  if (may_be_incomplete && !ElfImage::Parse(contents.code).ok()) return Taken::kIncomplete;
  if (absl::Status status = Adopt(slot, contents); !status.ok()) Refuse(slot, std::move(status));
  return Taken::kDone;
}

absl::Status Reloader::Adopt(Slot* slot, const PluginContents& contents) {
  GenerationSource source;
  source.id = ++last_id_;
  source.number = slot->last_number + 1;
  source.name = slot->files.name;
  source.path = slot->files.path;
  source.sha256 = contents.sha256;
  source.config = contents.config;
  source.settings_text = contents.settings_text;
  source.policy = slot->files.policy;
  source.followed = slot->seen.followed;
  source.on_trial = slot->current.has_value();
  auto copy = CopyOf(*slot, contents);
  if (!copy.ok()) return copy.status();
  source.copy = *std::move(copy);
  source.load_path = source.copy == nullptr ? source.path : source.copy->path();
  absl::StatusOr<GenerationFacts> facts = options_.target->Prepare(source);
  if (!facts.ok() && source.copy != nullptr && HasOriginInRunPath(contents.code)) {
    return absl::Status(facts.status().code(),
                        fmt::format("{} (its run path has $ORIGIN, and what is loaded is a copy in "
                                    "a private directory)",
                                    MessageOf(facts.status())));
  }
  if (!facts.ok()) return facts.status();
  slot->last_number = source.number;
  Serve(slot, std::move(source), *std::move(facts));
  return absl::OkStatus();
}

// Null: the file is to be loaded where it is. That is for one that is not
// followed, where a copy cannot be made or would not find its own libraries.
absl::StatusOr<std::shared_ptr<const PrivateCopy>> Reloader::CopyOf(
    const Slot& slot, const PluginContents& contents) {
  for (const auto* known : {&slot.current, &slot.previous}) {
    if (known->has_value() && (*known)->sha256 == contents.sha256) return (*known)->copy;
  }
  if (!slot.files.watched && HasOriginInRunPath(contents.code)) return nullptr;
  if (copies_ == nullptr) {
    absl::StatusOr<std::shared_ptr<PrivateCopies>> copies =
        PrivateCopies::Create(options_.copy_places);
    if (!copies.ok() && !slot.files.watched) return nullptr;
    if (!copies.ok()) return copies.status();
    copies_ = *std::move(copies);
  }
  return copies_->Add(std::filesystem::path(slot.files.path).filename().string(), contents.code);
}

void Reloader::Serve(Slot* slot, GenerationSource source, GenerationFacts facts) {
  for (const std::string& warning : facts.warnings) {
    Say(LogLevel::kWarning, fmt::format("plugin {}: {}", source.name, warning));
  }
  Say(LogLevel::kInfo,
      fmt::format("plugin {}: {} serves new streams", source.name, Describe(source, facts)));
  if (facts.followed_files != slot->followed) {
    slot->followed = facts.followed_files;
    // They were read before they were known here. Of those known before, the stamps are
    // from before they were read, so that no change is missed.
    source.followed = StampsOfFollowed(*slot);
    if (slot->files.watched) {
      watched_paths_.insert(watched_paths_.end(), slot->followed.begin(), slot->followed.end());
    }
  }
  GenerationStatus status;
  status.id = source.id;
  status.number = source.number;
  status.sha256 = source.sha256;
  status.loaded_at_ms = NowMs();
  status.facts = std::move(facts);
  slot->generations.insert(slot->generations.begin(), std::move(status));
  slot->previous = std::move(slot->current);
  slot->current = std::move(source);
  slot->withdrawn.reset();
  slot->refusal = absl::OkStatus();
  slot->state = State::kServing;
  Count(*slot, Outcome::kLoaded);
}

void Reloader::Refuse(Slot* slot, absl::Status status) {
  Say(LogLevel::kError,
      fmt::format("plugin {}: {}; {}", slot->files.name, MessageOf(status),
                  slot->current.has_value()
                      ? fmt::format("generation {} goes on serving", slot->current->number)
                      : "nothing of it serves"));
  slot->refusal = std::move(status);
  slot->refused_at_ms = NowMs();
  slot->withdrawn.reset();
  if (!slot->current.has_value()) slot->state = State::kRefused;
  Count(*slot, Outcome::kFailed);
}

// The file is gone, or its settings disable it: no new streams.
void Reloader::StopServing(Slot* slot, State state) {
  const bool served = slot->current.has_value();
  if (served || (state == State::kDisabled && slot->state != state)) {
    Say(LogLevel::kInfo,
        fmt::format(
            "plugin {}: {}; {}", slot->files.name,
            state == State::kDisabled ? fmt::format("disabled by {}", slot->files.settings_path)
                                      : fmt::format("{} is gone", slot->files.path),
            served ? fmt::format("generation {} serves no new streams", slot->current->number)
                   : "nothing of it served"));
  }
  slot->current.reset();
  slot->previous.reset();
  slot->withdrawn.reset();
  slot->refusal = absl::OkStatus();
  slot->state = state;
  if (served) Count(*slot, Outcome::kRemoved);
}

// --- Trials -------------------------------------------------------------------

void Reloader::WithdrawFailed() {
  const std::vector<GenerationId> failed = options_.target->TakeFailedTrials();
  if (failed.empty()) return;
  for (GenerationId id : failed) {
    for (auto& [name, slot] : slots_) {
      if (slot.current.has_value() && slot.current->id == id && slot.previous.has_value()) {
        Withdraw(&slot);
      }
    }
  }
  Commit();
  Publish();
}

void Reloader::Withdraw(Slot* slot) {
  const GenerationSource failed = *slot->current;
  GenerationSource source = *slot->previous;
  source.id = ++last_id_;
  source.on_trial = false;
  absl::StatusOr<GenerationFacts> facts = options_.target->Prepare(source);
  if (!facts.ok()) {
    Say(LogLevel::kError,
        fmt::format("plugin {}: generation {} fails more of its first calls than --reload_guard "
                    "allows, and generation {} cannot be made again: {}",
                    failed.name, failed.number, source.number, MessageOf(facts.status())));
    return;
  }
  absl::Status reason = absl::AbortedError(fmt::format(
      "generation {} of {} was withdrawn: more of its first calls failed than --reload_guard "
      "allows; put another file there",
      failed.number, failed.path));
  Say(LogLevel::kError, fmt::format("plugin {}: {}", failed.name, MessageOf(reason)));
  Serve(slot, std::move(source), *std::move(facts));
  slot->previous.reset();
  slot->withdrawn = failed;
  slot->refusal = std::move(reason);
  slot->refused_at_ms = NowMs();
  Count(*slot, Outcome::kWithdrawn);
}

}  // namespace callout::host
