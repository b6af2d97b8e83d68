// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_replace.h"
#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/plugin/hook_table.h"
#include "host/plugin/loader.h"
#include "host/plugin/quarantine_plugin.h"

namespace callout::host {
namespace {

// The error about the private copy, with the operator's file in its place.
absl::Status AboutOriginal(const GenerationSource& source, const std::string& copy_path,
                           const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrReplaceAll(status.message(), {{copy_path, source.path}}));
}

GenerationFacts FactsOf(const Plugin& plugin) {
  GenerationFacts facts;
  facts.name = plugin.info().name;
  facts.version = plugin.info().version;
  facts.description = plugin.info().description;
  facts.abi_version = plugin.abi_version();
  facts.config_schema = plugin.config_schema();
  facts.hooks = plugin.hook_names();
  facts.services = plugin.hooks().services().bits();
  facts.warnings = plugin.warnings();
  return facts;
}

// The reason to destroy an instance that has served, and is not in the chain that takes over.
callout_destroy_reason_t ReasonToLeave(const Instance& instance, const Chain& chain) {
  bool stays = false;
  bool newer = false;
  const auto compare = [&](const Instance& other) {
    if (other.name() != instance.name()) return;
    stays = true;
    newer = newer || other.generation() >= instance.generation();
  };
  for (const std::shared_ptr<Instance>& other : chain.instances) compare(*other);
  for (const ShadowPlace& shadow : chain.shadows) compare(*shadow.instance);
  if (!stays) return CALLOUT_DESTROY_REMOVED;
  // An earlier generation goes on in its place.
  return newer ? CALLOUT_DESTROY_REPLACED : CALLOUT_DESTROY_WITHDRAWN;
}

}  // namespace

absl::StatusOr<InstanceSettings> SettingsOf(const GenerationSource& source) {
  InstanceSettings settings;
  if (!source.settings_text.empty()) {
    absl::StatusOr<InstanceSettings> parsed = ParseInstanceSettings(source.settings_text);
    if (!parsed.ok()) return parsed.status();
    settings = *std::move(parsed);
  }
  if (source.policy.has_value()) settings.policy = source.policy;
  return settings;
}

class PluginSet::Retired {
 public:
  struct Unused {
    GenerationId id;
    std::shared_ptr<Instance> instance;
  };

  explicit Retired(std::function<void()> wake) : wake_(std::move(wake)) {}

  void Add(GenerationId id, std::shared_ptr<Instance> instance) {
    std::lock_guard<std::mutex> lock(mutex_);
    unused_.push_back({id, std::move(instance)});
    wake_();
  }

  std::vector<Unused> Take() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(unused_, {});
  }

  // A timer of the instance is running. It is kept apart until the timer has returned.
  void KeepBusy(Unused unused) {
    std::lock_guard<std::mutex> lock(mutex_);
    busy_.push_back(std::move(unused));
  }

  // It is not kept any more. The caller still holds it.
  void Drop(const Instance* instance) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (std::vector<Unused>* list : {&unused_, &busy_}) {
      std::erase_if(*list, [&](const Unused& unused) { return unused.instance.get() == instance; });
    }
  }

  // The timer of one of those has returned: all of them are looked at again.
  void TakeBackBusy() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::move(busy_.begin(), busy_.end(), std::back_inserter(unused_));
    busy_.clear();
    wake_();
  }

 private:
  const std::function<void()> wake_;
  std::mutex mutex_;  // guards the following
  std::vector<Unused> unused_;
  std::vector<Unused> busy_;
};

PluginSet::PluginSet(Options options, std::function<void()> wake)
    : options_(std::move(options)),
      extensions_(options_.extensions, options_.instance.metrics),
      shadow_extensions_(options_.extensions, &unseen_metrics_),
      wake_(std::move(wake)),
      retired_(std::make_shared<Retired>(wake_)),
      chains_(std::make_shared<Chain>()) {
  absl::StatusOr<Metrics::Id> gauge = options_.instance.metrics->Define(
      Metrics::Kind::kGauge, "callout_generations_mapped",
      "Plugin files loaded since the start, all of which stay mapped");
  if (gauge.ok()) mapped_gauge_ = *gauge;
}

PluginSet::~PluginSet() {
  ending_ = true;
  Commit({});
  retired_->TakeBackBusy();
  retired_->Take();  // each waits for its timer
}

absl::StatusOr<std::shared_ptr<const Plugin>> PluginSet::FindOrLoad(
    const GenerationSource& source) {
  const std::pair key(source.name, source.sha256);
  {
    const std::lock_guard<std::mutex> lock(code_mutex_);
    if (const auto known = code_.find(key); known != code_.end()) return known->second;
    if (code_.size() >= options_.generations_max) {
      return absl::ResourceExhaustedError(fmt::format(
          "cannot load plugin {}: {} files have been loaded since the start and none can be "
          "unloaded, and --max_generations allows no more; restart the host by draining it",
          source.path, options_.generations_max));
    }
  }
  const HookScope scope({HookTable::InUse()->FindOrAddPlugin(source.name), Hook::kLoad, true},
                        MonotonicNs());
  auto loaded =
      options_.load ? options_.load(source.load_path) : LoadPlugin(source.load_path, source.path);
  if (!loaded.ok()) return AboutOriginal(source, source.load_path, loaded.status());
  size_t mapped = 0;
  {
    const std::lock_guard<std::mutex> lock(code_mutex_);
    code_[key] = *loaded;
    mapped = code_.size();
  }
  options_.instance.metrics->Set(mapped_gauge_, static_cast<double>(mapped));
  const std::lock_guard<std::mutex> lock(mutex_);
  mapped_ = std::max(mapped_, mapped);
  return loaded;
}

absl::StatusOr<std::shared_ptr<const Plugin>> PluginSet::CodeOf(const GenerationSource& source) {
  return source.quarantine.empty() ? FindOrLoad(source) : QuarantinePlugin(source.phases);
}

absl::StatusOr<GenerationFacts> PluginSet::Prepare(const GenerationSource& source) {
  absl::StatusOr<InstanceSettings> settings = SettingsOf(source);
  if (!settings.ok()) return settings.status();
  absl::StatusOr<std::shared_ptr<const Plugin>> plugin = CodeOf(source);
  if (!plugin.ok()) return plugin.status();
  const std::string& config = source.quarantine.empty() ? source.config : source.quarantine;
  InstanceContext context = options_.instance;
  context.generation = source.number;
  const bool shadow = settings->mode == InstanceMode::kShadow;
  context.extensions = shadow ? &shadow_extensions_ : &extensions_;
  absl::StatusOr<std::shared_ptr<Instance>> created =
      Instance::Create(*plugin, source.name, config, *settings, context);
  if (!created.ok()) return AboutOriginal(source, (*plugin)->path(), created.status());
  if (!shadow) BeginTrial(source, created->get());
  Instance* const instance = created->get();
  Generation generation;
  generation.prepared = std::shared_ptr<Instance>(
      instance, [retired = retired_, id = source.id, owner = *std::move(created)](
                    Instance*) mutable { retired->Add(id, std::move(owner)); });
  generation.used = generation.prepared;
  generation.aside = source.aside;
  if (source.canary && settings->canary.has_value()) {
    generation.canary.emplace(settings->canary->percent, settings->canary->by_header, source.name);
  }
  std::shared_ptr<Instance> before;  // released without the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (const auto found = generations_.find(source.id); found != generations_.end()) {
    before = found->second.used.lock();
    if (before != nullptr) before->SetDestroyReason(CALLOUT_DESTROY_REPLACED);
  }
  generations_.insert_or_assign(source.id, std::move(generation));
  GenerationFacts facts = FactsOf(**plugin);
  facts.followed_files = instance->followed_files();
  facts.phases = instance->phases();
  facts.extensions = instance->asked_extensions();
  return facts;
}

// A canary has a guard of its own, since it may have to be rolled back before anybody looks.
void PluginSet::BeginTrial(const GenerationSource& source, Instance* instance) {
  ReloadGuard guard = options_.guard;
  if (source.canary && instance->settings().canary.has_value()) {
    const CanarySettings& canary = *instance->settings().canary;
    guard = {canary.max_fault_percent / 100, canary.min_calls};
  }
  if (!source.on_trial || guard.calls == 0) return;
  instance->BeginTrial(std::make_shared<Trial>(guard, [this, id = source.id] {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      failed_trials_.push_back(id);
    }
    wake_();
  }));
}

// Under mutex_. Those of `ids`, in this order.
absl::StatusOr<std::vector<PluginSet::Member>> PluginSet::FindAll(
    const std::vector<GenerationId>& ids) {
  std::vector<Member> members;
  for (const GenerationId id : ids) {
    const auto found = generations_.find(id);
    std::shared_ptr<Instance> instance;
    if (found != generations_.end()) instance = found->second.used.lock();
    if (instance == nullptr) {
      return absl::FailedPreconditionError(
          fmt::format("putting {} plugins into service: the generation with id {} is not there; "
                      "create it first",
                      ids.size(), id));
    }
    members.push_back({&found->second, std::move(instance)});
  }
  return members;
}

// Under mutex_. Instances in their order, shadows beside them, and of a canary's pair each with its
// share of the streams.
std::shared_ptr<const Chain> PluginSet::MakeChain(std::vector<Member> members) {
  std::vector<ChainPlace> places;
  Generation* before = nullptr;  // of the last place
  std::set<const Generation*> paired;
  for (Member& member : members) {
    Generation& generation = *member.generation;
    std::shared_ptr<Instance> instance = std::move(member.instance);
    const bool pair = generation.canary.has_value() && before != nullptr &&
                      places.back().instance->name() == instance->name();
    if (pair) {
      places.back().split = generation.canary->Rest();
      paired.insert({before, &generation});
      if (before->tally == nullptr || generation.tally == nullptr) {
        before->tally = std::make_shared<CallTally>();
        generation.tally = std::make_shared<CallTally>();
        places.back().instance->BeginTally(before->tally);
        instance->BeginTally(generation.tally);
      }
    }
    places.push_back({std::move(instance), pair ? *generation.canary : StreamShare()});
    before = &generation;
  }
  for (auto& [id, generation] : generations_) {
    if (generation.tally == nullptr || paired.contains(&generation)) continue;
    generation.tally = nullptr;
    const std::shared_ptr<Instance> instance = generation.used.lock();
    if (instance != nullptr) instance->BeginTally(nullptr);
  }
  return ArrangeChain(std::move(places));
}

void PluginSet::Commit(const std::vector<GenerationId>& chain) {
  if (absl::Status status = CommitAll(chain); !status.ok()) {
    Log(LogLevel::kError, "{}; new streams go on with the plugins before", MessageOf(status));
  }
}

absl::Status PluginSet::CommitAll(const std::vector<GenerationId>& chain) {
  std::vector<std::shared_ptr<Instance>> released;  // released without the lock
  std::shared_ptr<const Chain> next;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    absl::StatusOr<std::vector<Member>> members = FindAll(chain);
    if (!members.ok()) return members.status();
    next = MakeChain(*std::move(members));
    for (auto& [id, generation] : generations_) {
      const bool wanted = std::find(chain.begin(), chain.end(), id) != chain.end();
      std::shared_ptr<Instance> instance = generation.used.lock();
      if (instance != nullptr) SetDestroyReason(wanted, *next, instance.get(), &generation);
      if (generation.prepared != nullptr && !(generation.aside && !wanted)) {
        generation.aside = false;
        released.push_back(std::move(generation.prepared));
      }
      if (instance != nullptr) released.push_back(std::move(instance));
    }
  }
  ChainSource::Holders holders = chains_.Switch(next);
  next.reset();
  std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(live_chains_, [](const LiveChain& live) { return live.holders.Count() == 0; });
  live_chains_.push_back({std::move(holders), chain});
  return absl::OkStatus();
}

// Under mutex_. Streams may keep an instance for long: the reason is that of when it left.
void PluginSet::SetDestroyReason(bool wanted, const Chain& next, Instance* instance,
                                 Generation* generation) const {
  using Place = Generation::Place;
  if (wanted) {
    generation->place = Place::kServes;
    instance->SetDestroyReason(CALLOUT_DESTROY_SHUTDOWN);
  } else if (ending_ && generation->place != Place::kLeft) {
    instance->SetDestroyReason(CALLOUT_DESTROY_SHUTDOWN);
  } else if (generation->place == Place::kServes) {
    generation->place = Place::kLeft;
    instance->SetDestroyReason(ReasonToLeave(*instance, next));
  } else if (generation->place == Place::kNew) {
    instance->SetDestroyReason(CALLOUT_DESTROY_WITHDRAWN);  // unless a later Commit has it
  }
}

void PluginSet::Discard(GenerationId id) {
  std::shared_ptr<Instance> released;  // released without the lock
  std::lock_guard<std::mutex> lock(mutex_);
  const auto generation = generations_.find(id);
  if (generation == generations_.end()) return;
  released = std::move(generation->second.prepared);
  if (released != nullptr) released->SetDestroyReason(CALLOUT_DESTROY_WITHDRAWN);
}

std::vector<GenerationId> PluginSet::TakeFailedTrials() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(failed_trials_, {});
}

PluginSet::Usage PluginSet::GetUsage() const {
  Usage usage;
  std::lock_guard<std::mutex> lock(mutex_);
  usage.mapped = mapped_;
  for (const auto& [id, generation] : generations_) {
    usage.streams[id] = 0;
    if (generation.tally != nullptr) usage.calls[id] = generation.tally->Get();
  }
  for (const LiveChain& live : live_chains_) {
    const bool is_current = &live == &live_chains_.back();
    const size_t others = is_current ? ChainSource::kShards : 0;
    const size_t holders = live.holders.Count();
    const size_t streams = holders > others ? holders - others : 0;
    for (GenerationId id : live.ids) {
      const auto count = usage.streams.find(id);
      if (count != usage.streams.end()) count->second += streams;
    }
  }
  return usage;
}

void PluginSet::Reap() {
  for (Retired::Unused& unused : retired_->Take()) {
    // A timer that takes long must not delay the reloads of other plugins. It may return while the
    // instance is being put aside; so that is done first.
    std::shared_ptr<Instance> instance = unused.instance;
    const GenerationId id = unused.id;
    retired_->KeepBusy(std::move(unused));
    if (!instance->EndTimers([retired = retired_] { retired->TakeBackBusy(); })) continue;
    retired_->Drop(instance.get());
    instance.reset();  // callout_plugin_destroy
    std::lock_guard<std::mutex> lock(mutex_);
    // The id may be that of a newer instance by now.
    const auto generation = generations_.find(id);
    const bool over = generation != generations_.end() && generation->second.used.expired();
    if (over) generations_.erase(generation);
  }
}

}  // namespace callout::host
