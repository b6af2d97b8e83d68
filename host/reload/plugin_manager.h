// SPDX-License-Identifier: Apache-2.0

// Loads the plugins of a host, and then follows their files on a thread of its own: it waits for
// something to happen and lets the Reloader rescan. The generations live in a GenerationTarget,
// which is this process (PluginSet) or workers (WorkerGroup).
//
//   auto wake = std::make_shared<Wake>();
//   PluginSet set(PluginSetOptions(config.reload, …, &metrics), [wake] { wake->Set(); });
//   absl::StatusOr<std::unique_ptr<PluginManager>> plugins =
//       PluginManager::Load({config.plugins, config.reload}, &metrics, &set, wake);
//   (*plugins)->Follow();
//   …  (*plugins)->Stop();
//
// Load, Follow, the functions that stop and the destructor belong to one thread; the rest to any.
//
// Tested by tests/reload/following_test.cc.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_MANAGER_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_MANAGER_H_

#include <prometheus/metric_family.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/directory_watch.h"
#include "host/base/wake.h"
#include "host/metrics/metrics.h"
#include "host/reload/plugin_config.h"
#include "host/reload/plugin_set.h"
#include "host/reload/reloader.h"

namespace callout::host {

class PluginManager {
 public:
  struct Options {
    std::vector<PluginConfig> plugins;  // of --plugin
    ReloadConfig reload;
  };

  // Loads and creates the plugins of the configuration and its directories. An error if a plugin
  // that is required does not load. Whoever sets `wake` wakes the thread: the target does when it
  // has something to do. What the pointers point to outlives the manager.
  static absl::StatusOr<std::unique_ptr<PluginManager>> Load(const Options& options,
                                                             Metrics* metrics,
                                                             GenerationTarget* target,
                                                             std::shared_ptr<const Wake> wake);
  ~PluginManager();
  PluginManager(const PluginManager&) = delete;
  PluginManager& operator=(const PluginManager&) = delete;

  // Logs what was loaded, and starts the thread. Without a thread the log says that changes are
  // not taken up.
  void Follow();
  // Rescans now, and tries refused files again.
  void RescanAll();
  // Asked for by the operator: Reloader::GoBack, Promote and Release, on the manager's thread. They
  // wait for it: DEADLINE_EXCEEDED if it has not come to them within `timeout_ms`, and then never
  // does. GoBack also returns it if the create of the earlier generation takes long, which then
  // serves once that has returned.
  absl::Status GoBack(const std::string& plugin, uint64_t timeout_ms);
  absl::Status Promote(const std::string& plugin, uint64_t timeout_ms);
  absl::Status Release(const std::string& plugin, uint64_t timeout_ms);

  // Ends the thread, after the rescan that it is in. Harmless if called twice.
  void Stop();
  // The same in two steps, for a plugin whose create may never return. AwaitStop returns false if
  // the thread has not ended within `timeout_ms`; then nothing may be destroyed.
  void BeginStop();
  bool AwaitStop(uint64_t timeout_ms);

  // False while a stand-in answers for a plugin that did not load at the start.
  bool complete() const { return reloader_.complete(); }
  // True while a plugin's create has not returned: nothing that it may touch can be destroyed.
  bool busy() const { return Preparation::running() > 0; }

  Reloader::Snapshot Status() const { return reloader_.Status(); }
  GenerationTarget::Usage GetUsage() const { return target_->GetUsage(); }
  size_t generations_max() const { return generations_max_; }
  // The page /plugins, with the calls and errors that `metrics` counts.
  std::string StatusJson(const std::vector<prometheus::MetricFamily>& metrics) const;

 private:
  PluginManager(const Options& options, Metrics* metrics, GenerationTarget* target,
                std::shared_ptr<const Wake> wake);

  // What another thread wants done on the manager's.
  struct Order {
    std::function<absl::Status()> run;
    std::promise<absl::Status> result;
  };

  void Run();
  void Sleep(uint64_t due_ns) const;
  absl::Status Ask(std::function<absl::Status()> run, uint64_t timeout_ms);
  void TakeOrder();

  const size_t generations_max_;
  GenerationTarget* const target_;
  Reloader reloader_;  // of the thread, once that runs

  const std::shared_ptr<const Wake> wake_;
  const std::unique_ptr<DirectoryWatch> watch_;
  std::atomic<bool> rescan_all_{false};
  std::atomic<bool> stop_{false};
  bool rescan_now_ = false;       // of the thread
  std::mutex order_mutex_;        // guards order_
  std::shared_ptr<Order> order_;  // null: none waits
  std::mutex ended_mutex_;        // guards ended_
  std::condition_variable ended_changed_;
  bool ended_ = true;
  std::thread thread_;
};

// The plugin set that a configuration asks for.
PluginSet::Options PluginSetOptions(const ReloadConfig& reload, size_t message_bytes_max,
                                    Metrics* metrics);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_MANAGER_H_
