// SPDX-License-Identifier: Apache-2.0

// Runs shadows: instances that get copies of exchanges (setting "mode": "shadow"), on threads of
// their own. Nothing of what they do reaches Envoy or another instance; what leaves their place
// otherwise than without them is counted and kept as a report.
//
//   auto runner = ShadowRunner::Create(limits, stream_limits, &metrics);
//   (*runner)->Start();                          // once there is a shadow
//   if ((*runner)->HasRoom(plugin)) {              // when an exchange begins
//     (*runner)->TakeBytes(plugin, before, size);  // for each message that is copied
//     (*runner)->Submit(std::move(exchange));      // when it has ended; or ReturnBytes(bytes)
//   }
//   std::vector<ShadowReport> reports = (*runner)->Collect();
//
// Who has the live streams never waits here: an exchange for which there is no room is dropped and
// counted. So a shadow that sleeps or hangs only fills the queue. Exchanges that wait or run count
// for --max_shadow_exchanges; their messages, and those of exchanges that are being copied, for
// --max_shadow_bytes.
//
// A thread runs an exchange through a Stream (host/stream/), with the deadlines and policies of
// live ones. Deferred calls do not occupy the thread.
//
// Metrics: callout_shadow_exchanges_total{plugin}, callout_shadow_differences_total{plugin,kind},
// callout_shadow_dropped_total{plugin,why}, callout_shadow_exchanges (that wait or run),
// callout_shadow_bytes.
//
// Start, Stop and the destructor belong to one thread at a time; any thread may call the others.
//
// Tested by tests/host/shadow/shadow_runner_test.cc.
#ifndef CALLOUT_HOST_SHADOW_SHADOW_RUNNER_H_
#define CALLOUT_HOST_SHADOW_SHADOW_RUNNER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/diff/difference.h"
#include "host/metrics/metrics.h"
#include "host/shadow/shadow_exchange.h"
#include "host/stream/stream_environment.h"

namespace callout::host {

class ShadowLoop;

class ShadowRunner {
 public:
  // Why an exchange is not run. The names are values of the label `why`.
  enum class Drop : uint8_t {
    kQueueFull,  // queue_full: --max_shadow_exchanges
    kMemory,     // memory: --max_shadow_bytes
    kTooLarge,   // too_large: --max_shadow_exchange_bytes
    kRemoved,    // removed: its shadow was replaced or removed before it ran
  };
  static constexpr size_t kDrops = 4;

  // `metrics` outlives it.
  static absl::StatusOr<std::unique_ptr<ShadowRunner>> Create(const ShadowLimits& limits,
                                                              const StreamLimits& stream_limits,
                                                              Metrics* metrics);
  ~ShadowRunner();
  ShadowRunner(const ShadowRunner&) = delete;
  ShadowRunner& operator=(const ShadowRunner&) = delete;

  // Starts the threads, if they do not run yet. UNAVAILABLE if there are none.
  absl::Status Start();
  // Gives up what waits. False if a hook of a shadow has not returned after `timeout_ms`, or a
  // plugin still holds a call: then nothing that it may touch may be destroyed.
  bool Stop(uint64_t timeout_ms);

  // Whether it makes sense to copy an exchange for the plugin: the threads run, and could take it
  // now. Else it is counted as dropped.
  bool HasRoom(const std::string& plugin);
  // Whether so many more bytes of an exchange may be kept, `before` of which there are already;
  // else it is counted as dropped, and is to be given up.
  bool TakeBytes(const std::string& plugin, size_t before, size_t bytes);
  // An exchange is given up for which so many bytes were taken.
  void ReturnBytes(size_t bytes);
  // Runs it, or drops it and counts that.
  void Submit(std::unique_ptr<ShadowExchange> exchange);
  // The chain's shadows are those that there are. What waits for others is dropped, so that nobody
  // waits behind a version that is gone. All count as there before the first call.
  void SetShadows(const Chain& chain);

  // Of each shadow that has run.
  std::vector<ShadowReport> Collect() const;

 private:
  friend class ShadowLoop;

  struct PluginMetrics {
    Metrics::Id exchanges = 0;
    std::array<Metrics::Id, kDifferenceKinds> differences{};
    std::array<Metrics::Id, kDrops> drops{};
  };

  ShadowRunner(const ShadowLimits& limits, Metrics* metrics);

  void CountDrop(const std::string& plugin, Drop why);
  // Under mutex_.
  const PluginMetrics& MetricsOf(const std::string& plugin);
  void UpdateGauges();
  void Count(const ShadowExchange& exchange, const ExchangeOutcome& after,
             const DifferenceSummary::Times& calls);
  // By a loop, before an exchange runs. False: its shadow is gone, and it is dropped.
  bool MayRun(const ShadowExchange& exchange);
  // By a loop, when an exchange has run; `calls` of the shadow.
  void Finish(const ShadowExchange& exchange, const ExchangeOutcome& after,
              const DifferenceSummary::Times& calls);

  const ShadowLimits limits_;
  Metrics* const metrics_;
  Metrics::Id exchanges_gauge_ = 0, bytes_gauge_ = 0;
  std::atomic<size_t> exchanges_{0};
  std::atomic<size_t> bytes_{0};
  std::atomic<size_t> next_loop_{0};

  Metrics unseen_metrics_;  // of the streams, which are none of Envoy's
  std::unique_ptr<ChainSource> no_chains_;
  std::unique_ptr<StreamEnvironment> environment_;
  std::unique_ptr<RpcWatcher> watcher_;

  mutable std::mutex mutex_;  // guards the following
  std::map<std::string, PluginMetrics> plugin_metrics_;
  std::map<std::string, ShadowReport> reports_;  // by plugin
  // Nothing: all are there. Not followed.
  std::optional<std::vector<const Instance*>> shadows_;
  std::atomic<bool> running_{false};  // loops_ is set, and stays
  std::vector<std::unique_ptr<ShadowLoop>> loops_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_SHADOW_SHADOW_RUNNER_H_
