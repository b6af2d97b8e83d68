// One configured creation of a plugin: what `create` made, the table of services
// handed to it, its settings and its metrics. The only place that calls through
// a hook pointer.
//
// An instance is shared by the chains that hold it; the last one to let go of it
// destroys it (callout_plugin_destroy), which is after its last stream.
#ifndef CALLOUT_HOST_PLUGIN_INSTANCE_H_
#define CALLOUT_HOST_PLUGIN_INSTANCE_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/moving_mean.h"
#include "host/metrics/metrics.h"
#include "host/plugin/call.h"
#include "host/plugin/hook_table.h"
#include "host/plugin/plugin.h"
#include "host/plugin/services.h"
#include "host/plugin/settings.h"
#include "host/plugin/trial.h"
#include "host/plugin/violation.h"
#include "host/wire/phase.h"

namespace callout::host {

// Limits an instance's answers are held to, and where its counts go.
struct InstanceContext {
  Metrics* metrics = nullptr;  // outlives the instance
  size_t message_bytes_max = 16777216;
};

class Instance {
 public:
  // The most metrics one instance may define.
  static constexpr size_t kMetricsMax = 64;

  // Calls callout_plugin_create. On failure the status says which code it returned,
  // and the error that the plugin has logged last.
  static absl::StatusOr<std::shared_ptr<Instance>> Create(std::shared_ptr<const Plugin> plugin,
                                                          std::string name,
                                                          const std::string& config,
                                                          const InstanceSettings& settings,
                                                          const InstanceContext& context);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  const std::string& name() const { return name_; }
  const Plugin& plugin() const { return *plugin_; }
  const InstanceSettings& settings() const { return settings_; }
  size_t message_bytes_max() const { return context_.message_bytes_max; }
  // 0: body hooks see chunks.
  uint64_t whole_body_bytes_max() const { return whole_body_bytes_max_; }
  // Whether hooks of the phase may wait, so that they run on the blocking pool; in
  // none, in any.
  bool BlocksIn(callout_phase_t phase) const {
    return (blocking_phases_ & CALLOUT_PHASE_BIT(phase)) != 0;
  }
  bool blocking() const { return blocking_phases_ != 0; }
  // How long calls of the phase have taken lately, where it blocks.
  MovingMean* usual_ns(callout_phase_t phase) { return &usual_ns_[phase]; }

  // True if a message of `phase` is for this instance.
  bool Wants(callout_phase_t phase) const { return (phases_ & CALLOUT_PHASE_BIT(phase)) != 0; }
  uint64_t phases() const { return phases_; }
  bool has_stream_open() const { return plugin_->hooks().stream_open != nullptr; }
  bool has_stream_close() const { return plugin_->hooks().stream_close != nullptr; }
  bool has_stream_cancel() const { return plugin_->hooks().stream_cancel != nullptr; }

  // Counts calls and faults into `trial` until it is over. Before the first call.
  void BeginTrial(std::shared_ptr<Trial> trial);

  // The following call hooks on the calling thread. `state->call` has been
  // filled in but for what is the same for all calls, which Prepare sets. `now_ns`
  // is MonotonicNs().
  void Prepare(CallState* state);
  callout_status_t OpenStream(CallState* state, uint64_t now_ns);
  void CloseStream(CallState* state);
  void CancelStream(CallState* state);
  // on_process if there is one, then the hook of call.phase if that says NEXT.
  callout_status_t Call(CallState* state, uint64_t now_ns);

  // Where a fault was, for whoever looks for the request. Views are good for the call.
  struct FaultSite {
    uint64_t stream_id = 0;
    std::string_view headers = {};  // HttpHeaders that may have x-request-id; "": not known
  };

  // Counts the fault, and logs it, with `why` if there is more to say, at most once a
  // minute for each kind, and then with how many were left out meanwhile.
  void CountViolation(Violation violation, callout_phase_t phase, std::string_view why,
                      const FaultSite& site);

  // For the table of services.
  callout_status_t DefineMetric(callout_metric_kind_t kind, std::string_view name,
                                std::string_view help, uint32_t* id);
  void RecordMetric(uint32_t id, double value);
  // The plugin has logged this as an error.
  static void NoteError(std::string_view text);

 private:
  Instance(std::shared_ptr<const Plugin> plugin, std::string name, const InstanceSettings& settings,
           const InstanceContext& context);

  HookPlace PlaceOf(Hook hook, bool may_wait) const { return {marker_, hook, may_wait}; }
  absl::Status CreatePlugin(const std::string& config);
  callout_status_t CallHooks(CallState* state, uint64_t now_ns);
  absl::Status DefineHostMetrics();

  struct PluginMetric {
    callout_metric_kind_t kind;
    Metrics::Id id;
  };

  const std::shared_ptr<const Plugin> plugin_;
  const std::string name_;
  const InstanceSettings settings_;
  const InstanceContext context_;
  const uint32_t marker_;  // of the name, in the table of running hooks
  const ServiceTable services_;
  void* plugin_data_ = nullptr;  // create's args->plugin
  bool created_ = false;
  uint64_t phases_ = 0;
  uint64_t whole_body_bytes_max_ = 0;
  uint64_t blocking_phases_ = 0;
  std::array<MovingMean, kPhaseCount> usual_ns_;
  std::array<Metrics::Id, kPhaseCount> call_seconds_{};
  std::array<Metrics::Id, kViolationCount> violations_{};
  std::vector<PluginMetric> plugin_metrics_;  // written during create only
  std::shared_ptr<Trial> trial_;
  std::atomic<Trial*> running_trial_{nullptr};  // null once it is over
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_INSTANCE_H_
