// SPDX-License-Identifier: Apache-2.0

#include "host/reload/reloader.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/plugin/elf_image.h"
#include "host/plugin/elf_patch.h"
#include "host/reload/canary.h"

namespace callout::host {
namespace {

constexpr size_t kShortSha = 12;
// How often the counts of a canary are looked at. Too many faults wake the thread earlier.
constexpr uint64_t kCanaryNs = 250'000'000;
constexpr uint64_t kSecondNs = 1'000'000'000;

std::string Describe(const GenerationSource& source, const GenerationFacts& facts) {
  return fmt::format("generation {} of {} ({}sha256 {}{})", source.number, source.path,
                     facts.version.empty() ? "" : fmt::format("version {}, ", facts.version),
                     source.sha256.substr(0, kShortSha),
                     source.signer.empty() ? "" : fmt::format(", signed by {}", source.signer));
}

}  // namespace

int64_t Reloader::NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Reloader::Reloader(Options options) : options_(std::move(options)), sources_(options_.sources) {}

// --- A rescan -----------------------------------------------------------------

absl::Status Reloader::LoadFirst(uint64_t now_ns) {
  absl::StatusOr<WithdrawnVersions> withdrawn = WithdrawnVersions::Open(options_.state_dir);
  if (!withdrawn.ok()) return withdrawn.status();
  withdrawn_ = *std::move(withdrawn);
  uint64_t ignored = kNever;
  RescanEverything(now_ns, /*first=*/true, &ignored);
  for (const PluginSources::Problem& problem : problems_) {
    if (problem.stray) continue;
    const bool of_directory = problem.name.empty();
    if (of_directory && options_.require_plugins != RequirePlugins::kNone) {
      return absl::NotFoundError(
          fmt::format("cannot read the plugins' directory {}: {}; check --plugins_dir, or give "
                      "--require_plugins=none to wait for it",
                      problem.path, problem.why));
    }
    if (!of_directory && options_.require_plugins == RequirePlugins::kAll) {
      return absl::AlreadyExistsError(problem.text);
    }
  }
  size_t stand_ins = 0;
  for (const std::string& name : order_) {
    Slot& slot = slots_.at(name);
    if (slot.refusal.ok()) continue;
    if (!slot.stand_in_error.ok()) return slot.stand_in_error;
    if (slot.withdrawn.has_value()) continue;  // a stand-in answers already
    if (IsRequired(slot)) return slot.refusal;
    if (IsShadow(slot)) continue;  // nothing depends on it
    if (options_.require_plugins != RequirePlugins::kAuto) continue;
    if (++stand_ins > kStandInsMax) {
      return absl::ResourceExhaustedError(
          fmt::format("more than {} plugins of --plugins_dir do not load; one of them: {}",
                      kStandInsMax, MessageOf(slot.refusal)));
    }
    if (absl::Status status = StandIn(&slot); !status.ok()) return status;
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
  if (!withdrawn_->problem().empty()) Log(LogLevel::kError, "{}", withdrawn_->problem());
  for (const PluginSources::Problem& problem : problems_) {
    if (!IsRefusal(problem)) Log(LogLevel::kWarning, "{}", problem.text);
  }
  for (const PluginStatus& plugin : Status().plugins) {
    if (!plugin.last_error.empty()) {
      Log(LogLevel::kError, "serving without plugin {}: {}{}", plugin.name, plugin.last_error,
          plugin.stand_in ? "; a stand-in answers its calls by its error policy, and the host is "
                            "not ready until a version of it serves"
                          : "");
    }
    if (plugin.state == State::kLibrary) {
      Log(LogLevel::kInfo, "{} is a library of other plugins", plugin.path);
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
  ReapAbandoned();
  RescanEverything(now_ns, /*first=*/false, &due_ns);
  RetryStandIns();
  for (const auto& [name, slot] : slots_) {
    if (retry_ && slot.current.has_value()) {
      options_.target->EndQuarantine(slot.current->id).IgnoreError();  // the target logs it
    }
  }
  retry_ = false;
  Commit();
  Publish();
  return due_ns;
}

void Reloader::RescanEverything(uint64_t now_ns, bool first, uint64_t* due_ns) {
  now_ns_ = now_ns;
  UpdateSlots();
  for (auto& [name, slot] : slots_) *due_ns = std::min(*due_ns, RescanFile(&slot, now_ns, first));
  SettleLibraries();
  for (const auto& [name, slot] : slots_) {
    if (!slot.listed) continue;
    watched_paths_.insert(watched_paths_.end(), slot.watch.begin(), slot.watch.end());
  }
}

// A file that is no plugin is a library if another file needs it, wherever that is in the list.
void Reloader::SettleLibraries() {
  for (auto& [name, slot] : slots_) {
    if (!slot.listed || slot.not_a_plugin.ok() || slot.pending.has_value()) continue;
    const bool serves = slot.current.has_value() && slot.current->quarantine.empty();
    if (!serves && IsNeeded(slot)) {
      slot.current.reset();
      slot.refusal = slot.stand_in_error = absl::OkStatus();
      slot.state = State::kLibrary;
    } else if (slot.refusal.ok()) {
      Refuse(&slot, slot.not_a_plugin);
    }
  }
}

bool Reloader::IsNeeded(const Slot& slot) const {
  const std::string file = std::filesystem::path(slot.files.path).filename().string();
  for (const auto& [name, other] : slots_) {
    if (!other.listed || &other == &slot) continue;
    for (const std::string& needed : other.needed) {
      if (needed == file || needed == slot.soname) return true;
    }
  }
  return false;
}

void Reloader::UpdateSlots() {
  PluginSources::Listing listing = sources_.List();
  watched_paths_ = sources_.WatchedPaths(listing);
  for (auto& [name, slot] : slots_) slot.listed = false;
  std::vector<std::string> order;
  for (PluginFiles& files : listing.plugins) {
    Slot& slot = slots_[files.name];
    slot.listed = true;
    order.push_back(files.name);
    slot.files = std::move(files);
    slot.files.watch = slot.watch;
    if (!slot.files.watched) continue;
    const std::set<std::string> followed = FollowedPaths(slot);
    watched_paths_.insert(watched_paths_.end(), followed.begin(), followed.end());
  }
  UpdateProblems(listing.problems);
  // A plugin that is no longer listed keeps its place until it is out of service.
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
    // What a stray file was meant to be changes with its neighbors: that is no news.
    const bool known = std::any_of(problems_.begin(), problems_.end(), [&](const auto& other) {
      return other.path == problem.path &&
             (other.text == problem.text || (other.stray && problem.stray));
    });
    if (!known && !IsRefusal(problem)) Say(LogLevel::kWarning, problem.text);
  }
  problems_ = problems;
}

// Returns the time of its next rescan.
uint64_t Reloader::RescanFile(Slot* slot, uint64_t now_ns, bool first) {
  // If the operator wants the version before, a newer one waits for what comes of it.
  const bool waits = slot->returning.has_value() && slot->returning->by_operator;
  if (slot->pending.has_value() && !waits) CheckPending(slot, now_ns);
  if (slot->renewal.has_value()) CheckRenewal(slot, now_ns);
  const uint64_t due_ns = RescanStamps(slot, now_ns, first);
  const bool creates = slot->pending.has_value() || slot->renewal.has_value();
  return creates ? std::min(due_ns, now_ns + kDebounceNs) : due_ns;
}

uint64_t Reloader::RescanStamps(Slot* slot, uint64_t now_ns, bool first) {
  const bool fixed = !slot->files.watched && !slot->withdrawn.has_value();
  if (slot->taken.has_value() && fixed) return kNever;
  if (slot->listed && !slot->files.reachable) return kNever;
  NoteStamps(slot, now_ns);
  const bool refused = !slot->refusal.ok() && !slot->withdrawn.has_value();
  const bool retry = retry_ && (refused || !slot->stale_error.ok());
  const bool known = slot->taken == slot->seen;
  const bool unchanged = known && !FollowedHaveChanged(*slot);
  // SIGHUP alone comes for other reasons, too.
  if (retry_ && slot->withdrawn.has_value() && (slot->touched || !known)) slot->forgiven = true;
  if (unchanged && !retry && !slot->forgiven) return kNever;
  const uint64_t rested_ns = now_ns - slot->seen_since_ns;
  if (!first && !unchanged && rested_ns < kDebounceNs) return slot->seen_since_ns + kDebounceNs;
  if (slot->seen.code.absent() && (!first || slot->files.from_directory)) {
    slot->taken = slot->seen;
    StopServing(slot, slot->listed ? State::kWaiting : State::kRemoved);
    return kNever;
  }
  const Taken taken = Take(slot, first || unchanged, rested_ns);
  if (taken == Taken::kDone) slot->forgiven = false;
  switch (taken) {
    case Taken::kDone:
      slot->taken = slot->seen;
      slot->taken_followed = slot->seen_followed;
      RenewCurrent(slot);
      return kNever;
    case Taken::kIncomplete:
      return slot->seen_since_ns + kIncompleteRestNs;
    case Taken::kChanging:
      break;
  }
  return now_ns + kDebounceNs;
}

void Reloader::NoteStamps(Slot* slot, uint64_t now_ns) {
  PluginStamps own;
  FollowedFiles followed;
  if (slot->listed) own = StampsOf(slot->files);
  if (slot->listed && slot->files.watched) {
    for (const std::string& path : FollowedPaths(*slot)) followed[path] = StampOf(path);
  }
  if (own == slot->seen && followed == slot->seen_followed) return;
  slot->seen = std::move(own);
  slot->seen_followed = std::move(followed);
  slot->seen_since_ns = now_ns;
}

// Of the versions that serve.
std::set<std::string> Reloader::FollowedPaths(const Slot& slot) {
  std::set<std::string> paths;
  const auto add = [&paths](const GenerationSource& source) {
    for (const auto& [path, stamp] : source.followed) paths.insert(path);
  };
  if (slot.current.has_value()) add(*slot.current);
  if (slot.canary.has_value()) add(slot.canary->source);
  return paths;
}

// Whether the version in service is the same one, whatever both have read.
bool Reloader::Serves(const Slot& slot, const GenerationSource& version) {
  return slot.current.has_value() && slot.current->quarantine.empty() &&
         IsSameVersion(*slot.current, version);
}

// Whether a file that `source` follows has changed since its creation. `now` lacks those that are
// not looked at.
bool Reloader::HasChanged(const GenerationSource& source, const FollowedFiles& now) {
  return std::any_of(source.followed.begin(), source.followed.end(), [&now](const auto& file) {
    const auto found = now.find(file.first);
    return found != now.end() && found->second != file.second;
  });
}

// Whether there is something to do about such a file.
bool Reloader::FollowedHaveChanged(const Slot& slot) {
  if (slot.seen_followed == slot.taken_followed) return false;
  return (slot.current.has_value() && HasChanged(*slot.current, slot.seen_followed)) ||
         (slot.canary.has_value() && HasChanged(slot.canary->source, slot.seen_followed));
}

void Reloader::Commit() {
  std::vector<GenerationId> chain;
  for (const std::string& name : order_) {
    const Slot& slot = slots_.at(name);
    if (slot.current.has_value()) chain.push_back(slot.current->id);
    if (slot.canary.has_value()) chain.push_back(slot.canary->source.id);
  }
  if (chain == committed_) return;
  options_.target->Commit(chain);
  committed_ = std::move(chain);
}

// --- One plugin's files -------------------------------------------------------

Reloader::Taken Reloader::Take(Slot* slot, bool at_once, uint64_t rested_ns) {
  slot->file_serves = false;
  if (!slot->files.wrong.empty()) {
    Abandon(&slot->pending);  // of files that are no longer there; so below
    Refuse(slot, absl::InvalidArgumentError(slot->files.wrong));
    return Taken::kDone;
  }
  absl::StatusOr<PluginContents> contents =
      ReadContents(slot->files, slot->seen, options_.file_rules);
  if (contents.ok()) {
    return Decide(slot, *std::move(contents), !at_once && rested_ns < kIncompleteRestNs);
  }
  const bool changing = absl::IsAborted(contents.status());
  slot->not_a_plugin = absl::OkStatus();
  // The first rescan does not wait: a required plugin that is absent is an error.
  if (!changing || at_once) {
    Abandon(&slot->pending);
    Refuse(slot, contents.status());
  }
  return changing ? Taken::kChanging : Taken::kDone;
}

Reloader::Taken Reloader::Decide(Slot* slot, PluginContents contents, bool may_be_incomplete) {
  GenerationSource wanted;
  wanted.sha256 = contents.sha256;
  wanted.config = contents.config;
  wanted.settings_text = contents.settings_text;
  wanted.watched_sha256 = contents.watched_sha256;
  wanted.policy = slot->files.policy;
  absl::StatusOr<InstanceSettings> settings = SettingsOf(wanted);
  if (!settings.ok()) {
    Abandon(&slot->pending);
    Refuse(slot, absl::InvalidArgumentError(fmt::format("reading {}: {}", slot->files.settings_path,
                                                        MessageOf(settings.status()))));
    return Taken::kDone;
  }
  slot->settings_text = contents.settings_text;
  slot->watch = slot->files.watch = settings->watch;
  slot->warnings = contents.warnings;
  if (settings->disabled) {
    StopServing(slot, State::kDisabled);
    return Taken::kDone;
  }
  NoteCode(slot, contents.code);
  const auto is_there = [&](const GenerationSource& source) {
    return IsSameVersion(source, wanted) && !HasChanged(source, slot->seen_followed);
  };
  slot->file_serves = Serves(*slot, wanted);
  if (slot->current.has_value() && is_there(*slot->current)) {
    if (slot->canary.has_value()) {
      Say(LogLevel::kInfo,
          fmt::format("plugin {}: generation {} serves no new streams: its file is "
                      "again that of generation {}",
                      slot->files.name, slot->canary->source.number, slot->current->number));
      slot->canary.reset();
    }
    if (!slot->returning.has_value()) slot->refusal = absl::OkStatus();
    slot->withdrawn.reset();
    Abandon(&slot->pending);
    // The operator has touched the files, even if the bytes are the same.
    options_.target->EndQuarantine(slot->current->id).IgnoreError();  // the target logs it
    return Taken::kDone;
  }
  if (slot->canary.has_value() && is_there(slot->canary->source)) return Taken::kDone;
  wanted.path = slot->files.path;
  if (!slot->forgiven && Recall(slot, wanted)) return Taken::kDone;
  if (IsWithdrawn(slot, wanted)) return Taken::kDone;
  if (slot->pending.has_value() && is_there(slot->pending->source)) return Taken::kDone;
  if (may_be_incomplete && !ElfImage::Parse(contents.code).ok()) return Taken::kIncomplete;
  Abandon(&slot->pending);
  if (!slot->not_a_plugin.ok()) {
    slot->refusal = absl::OkStatus();  // SettleLibraries decides
    return Taken::kDone;
  }
  if (absl::Status status = Adopt(slot, std::move(contents), *settings); !status.ok()) {
    Refuse(slot, std::move(status));
  }
  return Taken::kDone;
}

// Records what the code is for other files of its directory.
void Reloader::NoteCode(Slot* slot, const std::string& code) {
  slot->soname.clear();
  slot->needed.clear();
  slot->not_a_plugin = absl::OkStatus();
  absl::StatusOr<ElfImage> image = ElfImage::Parse(code);
  if (!image.ok()) return;
  slot->soname = image->soname();
  slot->needed.assign(image->needed().begin(), image->needed().end());
  const auto is_callouts = [](const ElfSymbol& symbol) {
    return symbol.exported() && symbol.name.find("callout_") != symbol.name.npos;
  };
  const auto& symbols = image->symbols();
  if (!slot->files.from_directory || std::any_of(symbols.begin(), symbols.end(), is_callouts)) {
    return;
  }
  slot->not_a_plugin = absl::InvalidArgumentError(
      fmt::format("cannot load plugin {}: it exports no callout_* symbol, and no other file of its "
                  "directory needs it as a library; export its hooks, or move it elsewhere",
                  slot->files.path));
}

absl::Status Reloader::Adopt(Slot* slot, PluginContents contents,
                             const InstanceSettings& settings) {
  GenerationSource source;
  source.id = ++last_id_;
  source.number = slot->last_number + 1;
  source.name = slot->files.name;
  source.path = slot->files.path;
  source.sha256 = contents.sha256;
  source.signer = contents.signer;
  source.config = contents.config;
  source.settings_text = contents.settings_text;
  source.watched_sha256 = contents.watched_sha256;
  source.policy = slot->files.policy;
  source.followed = slot->seen_followed;
  source.on_trial = slot->current.has_value() && slot->current->quarantine.empty();
  source.canary = source.on_trial && settings.canary.has_value();
  auto copy = CopyOf(*slot, &contents);
  if (!copy.ok()) return copy.status();
  source.copy = *std::move(copy);
  source.load_path = source.copy == nullptr ? source.path : source.copy->path();
  // What the operator has put there since does not wait for the version before.
  if (slot->returning.has_value()) slot->returning->by_operator = false;
  return Prepare(slot, std::move(source));
}

// Starts to create the generation, and puts it into service if create returns soon.
absl::Status Reloader::Prepare(Slot* slot, GenerationSource source) {
  if (quiet_ || !options_.target->MayPrepareAside()) {
    absl::StatusOr<GenerationFacts> facts = options_.target->Prepare(source);
    if (!facts.ok()) return facts.status();
    Serve(slot, std::move(source), *std::move(facts));
    return absl::OkStatus();
  }
  absl::StatusOr<Pending> pending = StartAside(std::move(source));
  if (!pending.ok()) return pending.status();
  slot->pending = *std::move(pending);
  CheckPending(slot, now_ns_);
  if (slot->pending.has_value()) {
    Say(LogLevel::kWarning,
        fmt::format("plugin {}: creating generation {} takes long; meanwhile {}", slot->files.name,
                    slot->pending->source.number, DescribeServing(*slot)));
  }
  return absl::OkStatus();
}

// Starts to create the generation. Most creates have returned by the time that this does.
absl::StatusOr<Reloader::Pending> Reloader::StartAside(GenerationSource source) {
  if (Preparation::running() >= kCreatesMax) {
    return absl::ResourceExhaustedError(fmt::format(
        "cannot create plugin {}: {} creates of plugins have not returned; restart the host by "
        "draining it",
        source.path, kCreatesMax));
  }
  source.aside = true;
  auto preparation = Preparation::Start(options_.target, source);
  if (!preparation.ok()) return preparation.status();
  Pending pending{std::move(source), *std::move(preparation),
                  now_ns_ + options_.create_timeout_ms * 1'000'000, false};
  pending.preparation->WaitFor(options_.create_patience_ns);
  return pending;
}

// Handles the result of a create.
void Reloader::CheckPending(Slot* slot, uint64_t now_ns) {
  if (std::optional<Created> created = TakeReturned(&slot->pending)) {
    if (created->facts.ok()) {
      Serve(slot, std::move(created->source), *std::move(created->facts));
    } else {
      Refuse(slot, created->facts.status());
    }
    return;
  }
  if (IsNowOverdue(&*slot->pending, now_ns)) {
    Refuse(slot, absl::DeadlineExceededError(fmt::format(
                     "creating {} has not returned for {} ms (--plugin_create_timeout_ms); it is "
                     "left running and serves if it returns",
                     slot->files.path, options_.create_timeout_ms)));
  }
}

// What has come of the create, which is pending no more; nothing: it has not returned.
std::optional<Reloader::Created> Reloader::TakeReturned(std::optional<Pending>* pending) {
  Preparation& preparation = *(*pending)->preparation;
  if (!preparation.WaitFor(0)) return std::nullopt;
  Created created{std::move((*pending)->source), preparation.result()};
  pending->reset();
  return created;
}

// Whether its time has run out since the last call.
bool Reloader::IsNowOverdue(Pending* pending, uint64_t now_ns) {
  return now_ns >= pending->deadline_ns && !std::exchange(pending->overdue, true);
}

// Its result will not be used.
void Reloader::Abandon(std::optional<Pending>* pending) {
  if (!pending->has_value()) return;
  abandoned_.push_back(*std::move(*pending));
  pending->reset();
  ReapAbandoned();
}

void Reloader::ReapAbandoned() {
  std::erase_if(abandoned_, [this](const Pending& pending) {
    if (!pending.preparation->WaitFor(0)) return false;
    options_.target->Discard(pending.source.id);
    return true;
  });
}

std::string Reloader::DescribeServing(const Slot& slot) const {
  if (!slot.current.has_value()) return "no version is active";
  if (!slot.current->quarantine.empty()) {
    return "a stand-in answers its calls by its error policy";
  }
  return fmt::format("generation {} goes on serving", slot.current->number);
}

// Null if the file has to be loaded in place: only for a file that is neither watched nor signed,
// if no copy can be made. Frees the code once it is copied.
absl::StatusOr<std::shared_ptr<const PrivateCopy>> Reloader::CopyOf(const Slot& slot,
                                                                    PluginContents* contents) {
  for (const auto* known : {&slot.current, &slot.previous}) {
    if (known->has_value() && (*known)->sha256 == contents->sha256) return (*known)->copy;
  }
  if (copies_ == nullptr) {
    absl::StatusOr<std::shared_ptr<PrivateCopies>> copies =
        PrivateCopies::Create(options_.copy_places);
    // What is loaded in place may be changed after its signature was verified.
    const bool in_place = !slot.files.watched && options_.file_rules.keys.empty();
    if (!copies.ok() && in_place) return nullptr;
    if (!copies.ok()) return copies.status();
    copies_ = *std::move(copies);
  }
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(slot.files.path, error);
  const std::string code =
      PatchForPrivateCopy(std::move(contents->code), path.parent_path().string());
  contents->code.clear();
  return copies_->Add(path.filename().string(), code);
}

void Reloader::Serve(Slot* slot, GenerationSource source, GenerationFacts facts) {
  // A generation that never serves gets no number.
  slot->last_number = std::max(slot->last_number, source.number);
  facts.warnings.insert(facts.warnings.end(), slot->warnings.begin(), slot->warnings.end());
  const std::string replaced = SettingsOf(source).value_or(InstanceSettings()).instead_of;
  if (!replaced.empty() && !slots_.contains(replaced)) {
    facts.warnings.push_back(
        fmt::format("the setting \"instead_of\" names {}, and there is no such plugin; what it "
                    "does is compared "
                    "with nothing in its place",
                    replaced));
  }
  for (const std::string& warning : facts.warnings) {
    Say(LogLevel::kWarning, fmt::format("plugin {}: {}", source.name, warning));
  }
  // The one that it was to serve beside may be gone.
  source.canary = source.canary && slot->current.has_value() && slot->current->quarantine.empty();
  if (!source.canary) {
    Say(LogLevel::kInfo,
        fmt::format("plugin {}: {} serves new streams", source.name, Describe(source, facts)));
  }
  AddGeneration(slot, &source, std::move(facts));
  // Only what it has read is new: the version to go back to is the same, and a return to that goes
  // on, with the reason for it.
  const bool renews = !source.canary && Serves(*slot, source);
  slot->withdrawn.reset();
  const bool fails = renews && slot->returning.has_value() && slot->returning->repeat;
  if (!fails) slot->refusal = absl::OkStatus();
  slot->stand_in_error = absl::OkStatus();
  slot->state = State::kServing;
  Count(*slot, Outcome::kLoaded);
  if (source.canary) return ServeBeside(slot, std::move(source));
  if (renews) {
    Abandon(&slot->renewal);
    slot->stale_error = absl::OkStatus();
  } else {
    CurrentLeaves(slot);
  }
  if (slot->canary.has_value()) {
    Say(LogLevel::kInfo, fmt::format("plugin {}: generation {} ends as a canary", source.name,
                                     slot->canary->source.number));
    slot->canary.reset();
  }
  // A stand-in is no version to roll back to.
  if (slot->current.has_value() && !slot->current->quarantine.empty()) slot->current.reset();
  if (!renews) slot->previous = std::move(slot->current);
  slot->current = std::move(source);
}

// Records a generation that was created, and which files it follows.
void Reloader::AddGeneration(Slot* slot, GenerationSource* source, GenerationFacts facts) {
  FollowedFiles followed;
  for (const auto& [path, stamp] : facts.followed_files) {
    // Either is from before the plugin read the file, so that no change is missed. What this host
    // has seen itself comes first: a worker that was spoilt can cause one reload too many, not
    // more.
    const auto known = source->followed.find(path);
    followed[path] = known == source->followed.end() ? stamp : known->second;
    const auto end = watched_paths_.end();
    if (slot->files.watched && std::find(watched_paths_.begin(), end, path) == end) {
      watched_paths_.push_back(path);
    }
  }
  source->followed = std::move(followed);
  GenerationStatus status;
  status.id = source->id;
  status.number = source->number;
  status.sha256 = source->sha256;
  status.signer = source->signer;
  status.loaded_at_ms = NowMs();
  status.facts = std::move(facts);
  slot->generations.insert(slot->generations.begin(), std::move(status));
}

// The generation in service is about to be another one, or none: what concerns it ends.
void Reloader::CurrentLeaves(Slot* slot) {
  Abandon(&slot->renewal);
  slot->stale_error = absl::OkStatus();
  if (!slot->returning.has_value()) return;
  Abandon(&slot->returning->pending);
  if (slot->returning->repeat) slot->refusal = absl::OkStatus();  // that it fails
  slot->returning.reset();
}

// As a canary.
void Reloader::ServeBeside(Slot* slot, GenerationSource source) {
  Canary canary;
  canary.settings =
      SettingsOf(source).value_or(InstanceSettings()).canary.value_or(CanarySettings());
  canary.since_ns = now_ns_;
  canary.crashes = options_.target->GetUsage().crashes[slot->files.name];
  Say(LogLevel::kInfo,
      fmt::format("plugin {}: {} serves {} % of new streams as a canary, generation {} the rest",
                  source.name, Describe(source, slot->generations.front().facts),
                  canary.settings.percent, slot->current->number));
  if (slot->canary.has_value()) {
    Say(LogLevel::kInfo, fmt::format("plugin {}: generation {} ends as a canary: its file was "
                                     "replaced",
                                     source.name, slot->canary->source.number));
  }
  canary.source = std::move(source);
  slot->canary = std::move(canary);
}

void Reloader::Refuse(Slot* slot, absl::Status status) {
  Say(LogLevel::kError, fmt::format("plugin {}: {}; {}", slot->files.name, MessageOf(status),
                                    DescribeServing(*slot)));
  slot->refusal = std::move(status);
  slot->refused_at_ms = NowMs();
  slot->withdrawn.reset();
  Count(*slot, Outcome::kFailed);
  const bool stands_in = slot->current.has_value() && !slot->current->quarantine.empty();
  if (!slot->current.has_value() || stands_in) slot->state = State::kRefused;
  // With the new reason, and settings that may have changed. Else the one before goes on.
  if (stands_in) StandIn(slot).IgnoreError();
}

// Replaces the plugin by a stand-in, whose calls are all faults, so that its error policy decides.
absl::Status Reloader::StandIn(Slot* slot) {
  GenerationSource source;
  source.id = ++last_id_;
  source.name = slot->files.name;
  source.path = slot->files.path;
  source.settings_text = slot->settings_text;
  source.policy = slot->files.policy;
  // The client gets this text with every fault. The reason is in the log and on the page.
  source.quarantine = fmt::format("no version of the plugin is active, as it {}; /plugins says why",
                                  slot->withdrawn.has_value() ? "is withdrawn" : "did not load");
  absl::StatusOr<GenerationFacts> facts = options_.target->Prepare(source);
  if (facts.ok()) {
    slot->current = std::move(source);
    slot->stand_in_error = absl::OkStatus();
    return absl::OkStatus();
  }
  absl::Status error(
      facts.status().code(),
      fmt::format("plugin {}: cannot create a stand-in, which would answer by its "
                  "error policy: {}; it is needed because of: {}",
                  slot->files.name, MessageOf(facts.status()), MessageOf(slot->refusal)));
  if (error != slot->stand_in_error) Say(LogLevel::kError, std::string(MessageOf(error)));
  if (!slot->current.has_value()) slot->stand_in_error = error;
  return error;
}

// Whatever kept a stand-in from being created may be gone.
void Reloader::RetryStandIns() {
  for (auto& [name, slot] : slots_) {
    if (slot.listed && !slot.stand_in_error.ok()) StandIn(&slot).IgnoreError();
  }
}

// The file was removed, or its settings disable it: no new streams.
void Reloader::StopServing(Slot* slot, State state) {
  const bool served = slot->current.has_value() && slot->current->quarantine.empty();
  if (served || (state == State::kDisabled && slot->state != state)) {
    Say(LogLevel::kInfo,
        fmt::format(
            "plugin {}: {}; {}", slot->files.name,
            state == State::kDisabled ? fmt::format("disabled by {}", slot->files.settings_path)
                                      : fmt::format("{} is gone", slot->files.path),
            served ? fmt::format("generation {} serves no new streams", slot->current->number)
                   : "no version was active"));
  }
  Abandon(&slot->pending);
  CurrentLeaves(slot);
  slot->not_a_plugin = absl::OkStatus();
  slot->needed.clear();
  slot->canary.reset();
  slot->current.reset();
  slot->previous.reset();
  slot->withdrawn.reset();
  slot->refusal = slot->stand_in_error = absl::OkStatus();
  slot->state = state;
  if (served) Count(*slot, Outcome::kRemoved);
}

// --- Trials -------------------------------------------------------------------

void Reloader::WithdrawFailed() {
  const std::vector<GenerationId> failed = options_.target->TakeFailedTrials();
  if (failed.empty()) return;
  for (GenerationId id : failed) {
    for (auto& [name, slot] : slots_) {
      if (slot.canary.has_value() && slot.canary->source.id == id) {
        RollBack(&slot,
                 absl::AbortedError(fmt::format(
                     "more than max_fault_percent={} of its first {} calls failed (setting "
                     "`canary`)",
                     slot.canary->settings.max_fault_percent, slot.canary->settings.min_calls)));
      } else if (slot.current.has_value() && slot.current->id == id && slot.previous.has_value()) {
        Withdraw(&slot);
      }
    }
  }
  Commit();
  Publish();
}

void Reloader::Withdraw(Slot* slot) {
  absl::Status status = ReturnToPrevious(
      slot, absl::AbortedError(fmt::format(
                "generation {} of {} was withdrawn: more of its first calls failed than "
                "--reload_guard allows; replace the file",
                slot->current->number, slot->current->path)));
  if (status.ok()) return;
  // The target tells of a failed trial once.
  slot->returning->repeat = true;
  NoteFailing(slot, status);
}

// --- Canaries -----------------------------------------------------------------

uint64_t Reloader::CheckCanaries(uint64_t now_ns) {
  const bool any = std::any_of(slots_.begin(), slots_.end(),
                               [](const auto& slot) { return slot.second.canary.has_value(); });
  if (!any) return kNever;
  const GenerationTarget::Usage usage = options_.target->GetUsage();
  const auto counts_of = [&](GenerationId id) {
    const auto counts = usage.calls.find(id);
    return counts == usage.calls.end() ? CallCounts() : counts->second;
  };
  bool changed = false;
  for (auto& [name, slot] : slots_) {
    if (!slot.canary.has_value()) continue;
    const Canary& canary = *slot.canary;
    const auto crashes = usage.crashes.find(name);
    if (crashes != usage.crashes.end() && crashes->second > canary.crashes) {
      const auto text = usage.last_crash.find(name);
      RollBack(&slot, absl::AbortedError(
                          fmt::format("the plugin has ended a worker: {}",
                                      text == usage.last_crash.end() ? "unknown" : text->second)));
      changed = true;
      continue;
    }
    const CanaryVerdict verdict =
        Judge(canary.settings, counts_of(slot.current->id), counts_of(canary.source.id),
              now_ns > canary.since_ns ? (now_ns - canary.since_ns) / kSecondNs : 0);
    if (verdict.what == CanaryVerdict::What::kRollBack) {
      RollBack(&slot, absl::AbortedError(fmt::format("{} (setting `canary`)", verdict.why)));
    } else if (verdict.what == CanaryVerdict::What::kPromote) {
      PromoteCanary(&slot, fmt::format("after for_seconds={}", canary.settings.for_seconds));
    }
    changed = changed || verdict.what != CanaryVerdict::What::kGoesOn;
  }
  if (changed) {
    Commit();
    Publish();
  }
  return now_ns + kCanaryNs;
}

// `reason` is what was found, with the limit.
void Reloader::RollBack(Slot* slot, const absl::Status& reason) {
  const GenerationSource failed = slot->canary->source;
  slot->canary.reset();
  slot->refusal = absl::AbortedError(
      fmt::format("generation {} of {} was withdrawn as a canary: {}; replace the file, or release "
                  "it",
                  failed.number, failed.path, MessageOf(reason)));
  slot->refused_at_ms = NowMs();
  Say(LogLevel::kError,
      fmt::format("plugin {}: {}; generation {} serves all new streams", slot->files.name,
                  MessageOf(slot->refusal), slot->current->number));
  slot->withdrawn = failed;
  slot->touched = slot->forgiven = false;
  Count(*slot, Outcome::kWithdrawn);
}

void Reloader::PromoteCanary(Slot* slot, std::string_view by) {
  GenerationSource source = std::move(slot->canary->source);
  slot->canary.reset();
  source.canary = false;
  Say(LogLevel::kInfo,
      fmt::format("plugin {}: generation {} was promoted {} and serves all new streams",
                  slot->files.name, source.number, by));
  CurrentLeaves(slot);
  slot->previous = std::move(slot->current);
  slot->current = std::move(source);
  Count(*slot, Outcome::kPromoted);
}

// --- Withdrawals --------------------------------------------------------------

// A version that was withdrawn before this start stays so. False: this one was not.
bool Reloader::Recall(Slot* slot, const GenerationSource& wanted) {
  if (slot->withdrawn.has_value()) return false;
  // That one was not withdrawn: it is in quarantine, or was, in this run.
  if (Serves(*slot, wanted)) return false;
  const WithdrawnVersions::Entry* const entry =
      withdrawn_->Find(slot->files.name, DigestOf(wanted));
  if (entry == nullptr) return false;
  slot->withdrawn = wanted;
  slot->withdrawn->number = entry->generation;
  slot->touched = false;
  slot->refusal = absl::AbortedError(fmt::format(
      "the version in {} was withdrawn before this start: {}", wanted.path, entry->why));
  slot->refused_at_ms = NowMs();
  Say(LogLevel::kError, fmt::format("plugin {}: {}; {}", slot->files.name, MessageOf(slot->refusal),
                                    DescribeServing(*slot)));
  if (slot->current.has_value()) return true;
  slot->state = State::kRefused;
  // An error stays in the slot: LoadFirst returns it, and later rescans try again.
  if (!IsShadow(*slot)) StandIn(slot).IgnoreError();
  return true;
}

// Whether its settings, as far as they are known, let it only watch.
bool Reloader::IsShadow(const Slot& slot) const {
  if (slot.settings_text.empty()) return false;
  const absl::StatusOr<InstanceSettings> settings = ParseInstanceSettings(slot.settings_text);
  return settings.ok() && settings->mode == InstanceMode::kShadow;
}

// Whether the version must not be loaded, unless the operator has forgiven it.
bool Reloader::IsWithdrawn(Slot* slot, const GenerationSource& wanted) {
  if (!slot->withdrawn.has_value() || !IsSameVersion(*slot->withdrawn, wanted)) return false;
  // If the version in service is the same one, it was withdrawn with what it had read from the
  // files that it follows. With others it may do.
  if (slot->file_serves && HasChanged(*slot->withdrawn, slot->seen_followed)) return false;
  if (!slot->forgiven) {
    slot->touched = slot->touched || slot->taken != slot->seen;
    return true;
  }
  Say(LogLevel::kInfo, fmt::format("plugin {}: the operator has released the version that was "
                                   "withdrawn",
                                   slot->files.name));
  slot->withdrawn.reset();
  return false;
}

// --- By the operator -----------------------------------------------------------

absl::Status Reloader::GoBack(const std::string& plugin) {
  const auto found = slots_.find(plugin);
  if (found == slots_.end()) {
    return absl::NotFoundError(fmt::format("there is no plugin {}", plugin));
  }
  Slot* const slot = &found->second;
  if (slot->canary.has_value()) {
    Abandon(&slot->pending);
    RollBack(slot, absl::AbortedError("the operator has taken it out of service"));
    Commit();
    Publish();
    return absl::OkStatus();
  }
  if (!slot->current.has_value() || !slot->previous.has_value()) {
    return absl::FailedPreconditionError(
        fmt::format("plugin {} has no earlier generation that could serve", plugin));
  }
  absl::Status status = ReturnToPrevious(
      slot, absl::AbortedError(fmt::format(
                "generation {} of {} was taken out of service by the operator; replace the file to "
                "load another",
                slot->current->number, slot->current->path)));
  if (status.ok()) {
    Abandon(&slot->pending);
  } else {
    status = absl::Status(status.code(), fmt::format("plugin {}: {}", plugin, MessageOf(status)));
    Return& returning = *slot->returning;
    returning.by_operator = returning.pending.has_value();
    if (!returning.pending.has_value() && !returning.repeat) slot->returning.reset();
  }
  Commit();
  Publish();
  return status;
}

absl::Status Reloader::Promote(const std::string& plugin) {
  const auto found = slots_.find(plugin);
  if (found == slots_.end()) {
    return absl::NotFoundError(fmt::format("there is no plugin {}", plugin));
  }
  if (!found->second.canary.has_value()) {
    return absl::FailedPreconditionError(
        fmt::format("plugin {} has no version that serves as a canary", plugin));
  }
  PromoteCanary(&found->second, "by the operator");
  Commit();
  Publish();
  return absl::OkStatus();
}

absl::Status Reloader::Release(const std::string& plugin) {
  const auto found = slots_.find(plugin);
  if (found != slots_.end() && found->second.withdrawn.has_value()) {
    found->second.forgiven = true;
    return absl::OkStatus();  // the next rescan loads it
  }
  if (found == slots_.end() || !found->second.current.has_value() ||
      options_.target->GetUsage().quarantined.count(plugin) == 0) {
    return absl::FailedPreconditionError(
        fmt::format("plugin {} is not in quarantine, and no version of it is withdrawn", plugin));
  }
  const absl::Status status = options_.target->EndQuarantine(found->second.current->id);
  if (!status.ok()) {
    return absl::FailedPreconditionError(
        fmt::format("plugin {} stays in quarantine: {}", plugin, MessageOf(status)));
  }
  Say(LogLevel::kInfo, fmt::format("plugin {}: the operator has ended its quarantine", plugin));
  Publish();
  return absl::OkStatus();
}

}  // namespace callout::host
