// SPDX-License-Identifier: Apache-2.0

// The generations of this process. It loads their code, creates their instances, gives new streams
// the current chain, and destroys each instance after its last stream.
//
//   PluginSet set({.instance = {.metrics = &metrics}}, wake);
//   set.Prepare(source); set.Commit({source.id});       // the reloading thread
//   StreamEnvironment::Create(limits, &set.chains(), &metrics);
//
// A stream holds the chain that it began with; the chain's reference count is the number of its
// streams. When the last chain with an instance is gone, the reloading thread destroys the
// instance, since that may take long and must not block a serving thread.
//
// Code is never unloaded. A file whose bytes were loaded before under the same name is not loaded
// again, so going back to an old version takes no memory.
//
// An id may be prepared again. The instance before it then ends with its last stream, and the id is
// that of the new one.
//
// Commit, CommitAll, Discard, Reap and the destructor belong to one thread at a time; any thread
// may call the rest. All streams must have ended before the destructor.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_SET_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_SET_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/extensions/extensions.h"
#include "host/plugin/chain.h"
#include "host/plugin/instance.h"
#include "host/plugin/plugin.h"
#include "host/plugin/trial.h"
#include "host/reload/generation.h"

namespace callout::host {

class PluginSet final : public GenerationTarget {
 public:
  using Load = std::function<absl::StatusOr<std::shared_ptr<const Plugin>>(const std::string&)>;

  struct Options {
    InstanceContext instance;
    size_t generations_max = 1000;  // --max_generations
    ReloadGuard guard;
    Load load;  // null: LoadPlugin
    ExtensionOptions extensions;
  };

  // `wake` tells the reloading thread that Reap or TakeFailedTrials has something to do. Any thread
  // calls it, and it must not block.
  PluginSet(Options options, std::function<void()> wake);
  ~PluginSet() override;

  ChainSource& chains() { return chains_; }

  absl::StatusOr<GenerationFacts> Prepare(const GenerationSource& source) override;
  // As CommitAll. An error is logged, and new streams go on with the chain before.
  void Commit(const std::vector<GenerationId>& chain) override;
  // Commit, for a caller that can do something about an error. FAILED_PRECONDITION if a generation
  // of `chain` is not here; then nothing changes, since no chain may go without one of its plugins.
  absl::Status CommitAll(const std::vector<GenerationId>& chain);
  std::vector<GenerationId> TakeFailedTrials() override;
  Usage GetUsage() const override;

  bool MayPrepareAside() const override { return true; }
  // Discards a prepared generation, on whatever thread it was prepared.
  void Discard(GenerationId id) override;

  // Destroys the instances whose last stream has ended. One whose timer is running is destroyed by
  // a later call; `wake` is called when it can be.
  void Reap();
  // No timer of a plugin begins to run any more, and no call to an upstream ends, for the end of
  // the process. False if a function of one has not returned after `timeout_ms`: then the set must
  // not be destroyed. Any thread.
  bool StopExtensions(uint64_t timeout_ms) {
    const bool live = extensions_.Stop(timeout_ms);
    return shadow_extensions_.Stop(timeout_ms) && live;
  }
  uint64_t DoChores() override {
    Reap();
    return kNothingDue;
  }

 private:
  // Unused instances that the reloading thread has to destroy.
  class Retired;

  struct Generation {
    // Shared by chains; when the last one releases it, the instance goes to the list of unused
    // ones.
    std::weak_ptr<Instance> used;
    std::shared_ptr<Instance> prepared;  // kept until the next Commit
    bool aside = false;                  // kept until a Commit that has it
    // Whether a Commit has had it, and whether one after that has left it out.
    enum class Place : uint8_t { kNew, kServes, kLeft };
    Place place = Place::kNew;
    std::optional<StreamShare> canary;  // its share, while it is one
    // Counts its calls, as long as it is one of a canary's pair; null: it is not.
    std::shared_ptr<CallTally> tally;
  };

  // A generation of a chain, which holds its instance meanwhile.
  struct Member {
    Generation* generation;
    std::shared_ptr<Instance> instance;
  };

  struct LiveChain {
    ChainSource::Holders holders;
    std::vector<GenerationId> ids;
  };

  absl::StatusOr<std::shared_ptr<const Plugin>> CodeOf(const GenerationSource& source);
  absl::StatusOr<std::shared_ptr<const Plugin>> FindOrLoad(const GenerationSource& source);
  void BeginTrial(const GenerationSource& source, Instance* instance);
  absl::StatusOr<std::vector<Member>> FindAll(const std::vector<GenerationId>& ids);
  std::shared_ptr<const Chain> MakeChain(std::vector<Member> members);
  void SetDestroyReason(bool wanted, const Chain& next, Instance* instance,
                        Generation* generation) const;

  const Options options_;
  Extensions extensions_;  // outlives the instances
  // Of shadows, so that what they keep and count is not the others'.
  Metrics unseen_metrics_;
  Extensions shadow_extensions_;
  const std::function<void()> wake_;
  const std::shared_ptr<Retired> retired_;
  Metrics::Id mapped_gauge_ = 0;
  std::mutex code_mutex_;  // guards code_; not held while a file is loaded
  std::map<std::pair<std::string, std::string>, std::shared_ptr<const Plugin>>
      code_;  // by name and sha256

  mutable std::mutex mutex_;  // guards the following
  std::map<GenerationId, Generation> generations_;
  std::vector<LiveChain> live_chains_;  // oldest first; the last is current
  std::vector<GenerationId> failed_trials_;
  size_t mapped_ = 0;
  bool ending_ = false;  // the destructor runs

  ChainSource chains_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_SET_H_
