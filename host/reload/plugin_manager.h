// SPDX-License-Identifier: Apache-2.0

// What decides on the plugins of a host, and follows their files: reloader, loop
// and page put together, for whatever target has the generations.
//
//   auto wake = std::make_shared<Wake>();
//   PluginSet set(PluginSetOptions(config.reload, …, &metrics), [wake] { wake->Set(); });
//   absl::StatusOr<std::unique_ptr<PluginManager>> plugins =
//       PluginManager::Load({config.plugins, config.reload}, &metrics, &set, wake);
//   (*plugins)->Follow();
//   …  (*plugins)->Stop();
//
// Load, Follow, Stop and the destructor belong to one thread; the rest to any.
//
// Tested by tests/reload/following_test.cc.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_MANAGER_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_MANAGER_H_

#include <prometheus/metric_family.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/wake.h"
#include "host/metrics/metrics.h"
#include "host/reload/plugin_config.h"
#include "host/reload/plugin_set.h"
#include "host/reload/reload_loop.h"
#include "host/reload/reloader.h"

namespace callout::host {

class PluginManager {
 public:
  struct Options {
    std::vector<PluginConfig> plugins;  // of --plugin
    ReloadConfig reload;
  };

  // Loads and creates what the configuration and its directories hold now. An
  // error if a plugin does not load that has to. `wake` is set when the target has
  // something to do. The references and pointers outlive the manager.
  static absl::StatusOr<std::unique_ptr<PluginManager>> Load(const Options& options,
                                                             Metrics* metrics,
                                                             GenerationTarget* target,
                                                             std::shared_ptr<const Wake> wake);
  ~PluginManager();
  PluginManager(const PluginManager&) = delete;
  PluginManager& operator=(const PluginManager&) = delete;

  // Logs what was loaded, and takes up changes from here on.
  void Follow();
  // Looks now, and tries again what was refused.
  void RescanAll() { loop_.RescanAll(); }
  // Takes up no more changes, and waits for the one under way.
  void Stop() { loop_.Stop(); }
  // The same in two steps, for a plugin whose create may never return. False if the
  // change under way is not done within `timeout_ms`; then nothing may be destroyed.
  void BeginStop() { loop_.BeginStop(); }
  bool AwaitStop(uint64_t timeout_ms) { return loop_.AwaitStop(timeout_ms); }

  // False while a stand-in answers for a plugin that did not load at the start.
  bool complete() const { return reloader_.complete(); }
  // A plugin's create has not returned: nothing of what it may touch can be destroyed.
  bool busy() const { return Preparation::running() > 0; }

  Reloader::Snapshot Status() const { return reloader_.Status(); }
  // The page /plugins, with the calls and errors that `metrics` counts.
  std::string StatusJson(const std::vector<prometheus::MetricFamily>& metrics) const;

 private:
  PluginManager(const Options& options, Metrics* metrics, GenerationTarget* target,
                std::shared_ptr<const Wake> wake);

  const size_t generations_max_;
  GenerationTarget* const target_;
  Reloader reloader_;
  ReloadLoop loop_;
};

// The plugin set that a configuration asks for.
PluginSet::Options PluginSetOptions(const ReloadConfig& reload, size_t message_bytes_max,
                                    Metrics* metrics);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_MANAGER_H_
