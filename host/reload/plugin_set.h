// SPDX-License-Identifier: Apache-2.0

// The generations of this process: loads their code, creates their instances,
// gives new streams the chain of those in service, and destroys each instance
// after its last stream.
//
//   PluginSet set({.instance = {.metrics = &metrics}}, wake);
//   set.Prepare(source); set.Commit({source.id});       // the reloading thread
//   StreamEnvironment::Create(limits, &set.chains(), &metrics);
//
// Streams cost nothing here: each holds the chain it began with, as ever, and how
// many hold one is its reference count. An instance that no chain holds any more
// is handed back to the reloading thread, since destroying it may take its time
// and transports' threads have none.
//
// Code is never unloaded. A file whose bytes were loaded before under the same
// name is not loaded again: going back to a version costs no memory.
//
// Commit, Discard, Reap and the destructor belong to one thread at a time; the rest may be called
// from any. All streams have ended before the destructor.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_SET_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_SET_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

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
  };

  // `wake` tells the reloading thread that Bury or TakeFailedTrials has something
  // to do; any thread calls it, and it must not block.
  PluginSet(Options options, std::function<void()> wake);
  ~PluginSet() override;

  ChainSource& chains() { return chains_; }

  absl::StatusOr<GenerationFacts> Prepare(const GenerationSource& source) override;
  void Commit(const std::vector<GenerationId>& chain) override;
  std::vector<GenerationId> TakeFailedTrials() override;
  Usage GetUsage() const override;

  bool MayPrepareAside() const override { return true; }
  // What was prepared is not wanted after all, aside or not.
  void Discard(GenerationId id) override;

  // Destroys the instances whose last stream has ended.
  void Reap();
  void DoChores() override { Reap(); }

 private:
  // Instances that nobody uses, on their way to the reloading thread.
  class Retired;

  struct Generation {
    // What chains share; when the last lets go of it, the instance goes to the grave.
    std::weak_ptr<Instance> used;
    std::shared_ptr<Instance> prepared;  // held here until the next Commit
    bool aside = false;                  // until the next Commit that has it
  };

  struct LiveChain {
    ChainSource::Holders holders;
    std::vector<GenerationId> ids;
  };

  absl::StatusOr<std::shared_ptr<const Plugin>> CodeOf(const GenerationSource& source);
  absl::StatusOr<std::shared_ptr<const Plugin>> FindOrLoad(const GenerationSource& source);
  void BeginTrial(const GenerationSource& source, Instance* instance);

  const Options options_;
  const std::function<void()> wake_;
  const std::shared_ptr<Retired> retired_;
  Metrics::Id mapped_gauge_ = 0;
  std::mutex code_mutex_;  // guards code_; not held while anything is loaded
  std::map<std::pair<std::string, std::string>, std::shared_ptr<const Plugin>>
      code_;  // by name and sha256

  mutable std::mutex mutex_;  // guards the following
  std::map<GenerationId, Generation> generations_;
  std::vector<LiveChain> live_chains_;  // oldest first; the last is current
  std::vector<GenerationId> failed_trials_;
  size_t mapped_ = 0;

  ChainSource chains_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_SET_H_
