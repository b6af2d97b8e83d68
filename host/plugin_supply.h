// The plugins of a host, from the configuration to the chain that streams get,
// and what follows their files: the parts of reloading put together.
//
//   absl::StatusOr<std::unique_ptr<PluginSupply>> plugins = PluginSupply::Load(config, &metrics);
//   StreamEnvironment::Create(limits, &(*plugins)->chains(), &metrics);
//   (*plugins)->Follow();
//   …  (*plugins)->Stop();  … end all streams …  plugins->reset();
//
// Load, Follow, Stop and the destructor belong to one thread; the rest to any.
#ifndef CALLOUT_HOST_PLUGIN_SUPPLY_H_
#define CALLOUT_HOST_PLUGIN_SUPPLY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "host/config.h"
#include "host/metrics.h"
#include "host/plugin_set.h"
#include "host/reload_loop.h"
#include "host/reloader.h"

namespace callout::host {

class PluginSupply {
 public:
  // Loads and creates what the configuration and its directories hold now. An
  // error if a plugin does not load that has to. Both arguments outlive the
  // supply.
  static absl::StatusOr<std::unique_ptr<PluginSupply>> Load(const Config& config, Metrics* metrics);
  ~PluginSupply();
  PluginSupply(const PluginSupply&) = delete;
  PluginSupply& operator=(const PluginSupply&) = delete;

  ChainSource& chains() { return set_.chains(); }

  // Logs what was loaded, and takes up changes from here on.
  void Follow();
  // Looks now, and tries again what was refused.
  void LookAgain() { loop_.LookAgain(); }
  // Takes up no more changes.
  void Stop() { loop_.Stop(); }

  Reloader::Snapshot Status() const { return reloader_.Status(); }
  // The page /plugins.
  std::string StatusJson() const;

 private:
  PluginSupply(const Config& config, Metrics* metrics);

  const Config& config_;
  Metrics* const metrics_;
  ReloadLoop loop_;  // its waker outlives it
  PluginSet set_;
  Reloader reloader_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SUPPLY_H_
