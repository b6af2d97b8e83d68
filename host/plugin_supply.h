// What decides on the plugins of a host, and follows their files: reloader, loop
// and page put together, for whatever target has the generations.
//
//   auto wake = std::make_shared<Wake>();
//   PluginSet set(PluginSetOptions(config, &metrics), [wake] { wake->Set(); });
//   absl::StatusOr<std::unique_ptr<PluginSupply>> plugins =
//       PluginSupply::Load(config, &metrics, &set, wake);
//   (*plugins)->Follow();
//   …  (*plugins)->Stop();
//
// Load, Follow, Stop and the destructor belong to one thread; the rest to any.
#ifndef CALLOUT_HOST_PLUGIN_SUPPLY_H_
#define CALLOUT_HOST_PLUGIN_SUPPLY_H_

#include <prometheus/metric_family.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/config.h"
#include "host/metrics.h"
#include "host/plugin_set.h"
#include "host/reload_loop.h"
#include "host/reloader.h"
#include "host/wake.h"

namespace callout::host {

class PluginSupply {
 public:
  // Loads and creates what the configuration and its directories hold now. An
  // error if a plugin does not load that has to. `wake` is set when the target has
  // something to do. The references and pointers outlive the supply.
  static absl::StatusOr<std::unique_ptr<PluginSupply>> Load(const Config& config, Metrics* metrics,
                                                            GenerationTarget* target,
                                                            std::shared_ptr<const Wake> wake);
  ~PluginSupply();
  PluginSupply(const PluginSupply&) = delete;
  PluginSupply& operator=(const PluginSupply&) = delete;

  // Logs what was loaded, and takes up changes from here on.
  void Follow();
  // Looks now, and tries again what was refused.
  void LookAgain() { loop_.LookAgain(); }
  // Takes up no more changes.
  void Stop() { loop_.Stop(); }

  Reloader::Snapshot Status() const { return reloader_.Status(); }
  // The page /plugins, with the calls and errors that `metrics` counts.
  std::string StatusJson(const std::vector<prometheus::MetricFamily>& metrics) const;

 private:
  PluginSupply(const Config& config, Metrics* metrics, GenerationTarget* target,
               std::shared_ptr<const Wake> wake);

  const Config& config_;
  GenerationTarget* const target_;
  Reloader reloader_;
  ReloadLoop loop_;
};

// The plugin set that a configuration asks for.
PluginSet::Options PluginSetOptions(const Config& config, Metrics* metrics);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SUPPLY_H_
