// SPDX-License-Identifier: Apache-2.0

// One configured creation of a plugin: what `create` made, the table of services
// handed to it, its settings and its metrics. The only place that calls through
// a hook pointer.
//
// An instance is shared by the chains that hold it; the last one to let go of it
// destroys it (callout_plugin_destroy), which is after its last stream.
//
// Tested by tests/broken/broken_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_INSTANCE_H_
#define CALLOUT_HOST_PLUGIN_INSTANCE_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/file.h"
#include "host/base/moving_mean.h"
#include "host/metrics/metrics.h"
#include "host/plugin/call.h"
#include "host/plugin/call_metrics.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/call_tally.h"
#include "host/plugin/hook_table.h"
#include "host/plugin/instance_extensions.h"
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
  uint64_t generation = 0;  // of the plugin: 1, 2, …; 0: not known
  // --strict_plugins: every service call that is refused is logged, not one a minute.
  bool strict = false;
  AbiShape abi = {};
  Extensions* extensions =
      nullptr;  // outlives the instance; null: get_extension gives none of them
};

class RpcContext;
class SpanWriter;

class Instance {
 public:
  // The CALLOUT_WANT_* bits that this host obeys.
  static constexpr uint64_t kGrants =
      CALLOUT_WANT_BOTH_DIRECTIONS | CALLOUT_WANT_REAL_END | CALLOUT_WANT_REQUEST_HEADERS;

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
  uint64_t generation() const { return context_.generation; }
  const InstanceSettings& settings() const { return settings_; }
  size_t message_bytes_max() const { return context_.message_bytes_max; }
  // 0: body hooks see chunks.
  uint64_t whole_body_bytes_max() const { return whole_body_bytes_max_; }
  bool strict() const { return context_.strict; }
  // Whether hooks wait: any of them, or those of `phase` (0: open and close).
  bool blocking() const { return blocking_phases_ != 0; }
  bool blocks_in(callout_phase_t phase) const {
    return (blocking_phases_ & CALLOUT_PHASE_BIT(phase)) != 0;
  }
  // How long calls of the phase have taken lately, where it blocks.
  MovingMean* usual_ns(callout_phase_t phase) { return &usual_ns_[PhaseSlot(phase)]; }
  // A CALLOUT_WANT_* bit that was granted.
  bool wants(uint64_t want) const { return (wants_ & want) != 0; }
  // Absolute paths whose change means a new generation, as the files were when the plugin called
  // follow_file(): it reads them after that.
  const std::map<std::string, FileStamp>& followed_files() const { return followed_files_; }

  // The extensions that it asked for in create.
  std::vector<std::string> asked_extensions() const { return extensions_.asked(); }
  // Ends its timers and calls to upstreams. False if a function of one is running: `on_idle` is
  // called, once or twice, when it has returned. Otherwise the destructor waits for it.
  bool EndTimers(const std::function<void()>& on_idle) { return extensions_.End(on_idle); }

  // True if a message of `phase` is for this instance.
  bool Wants(callout_phase_t phase) const { return (phases_ & CALLOUT_PHASE_BIT(phase)) != 0; }
  uint64_t phases() const { return phases_; }
  // It has a hook of its own for the phase, and wants it; on_process alone does not count.
  bool HasHook(callout_phase_t phase) const {
    return Wants(phase) && plugin_->hooks().Of(phase) != nullptr;
  }
  // Told to callout_plugin_destroy_with. Any thread.
  void SetDestroyReason(callout_destroy_reason_t reason) {
    destroy_reason_.store(reason, std::memory_order_relaxed);
  }
  bool has_stream_open() const { return plugin_->hooks().stream_open != nullptr; }
  bool has_stream_close() const { return plugin_->hooks().stream_close != nullptr; }
  bool has_stream_cancel() const { return plugin_->hooks().stream_cancel != nullptr; }

  // Counts calls and faults into `trial` until it is over. Before the first call.
  void BeginTrial(std::shared_ptr<Trial> trial);

  // It only watches copies (setting `mode`): its calls and faults count in metrics of their own.
  bool is_shadow() const { return settings_.mode == InstanceMode::kShadow; }

  // Counts calls into `tally` from now on; null: no more. The reloading thread. A tally lives as
  // long as the instance, since a call may be counting into it.
  void BeginTally(std::shared_ptr<CallTally> tally);

  // Sets what is the same for all calls.
  void Prepare(callout_call_t* call) const;
  // The following call hooks on the calling thread, with a call that has been filled in, in
  // a slot of its own; Call takes the one in `state->slot`. `now_ns` is MonotonicNs().
  callout_status_t OpenStream(callout_call_t* call, CallState* state, uint64_t now_ns);
  // `end` tells how the stream ended. Its struct_size is filled in here.
  void CloseStream(callout_call_t* call, callout_stream_end_t end);
  void CancelStream(callout_call_t* call);
  // on_process if there is one, then the hook of call.phase if that says NEXT.
  callout_status_t Call(CallState* state, uint64_t now_ns);

  // Counts a call that is over, and its outcome. On the RPC's thread.
  void CountCall(const CallRecord& call) {
    call_metrics_.Count(call);
    CallTally* const tally = running_tally_.load(std::memory_order_acquire);
    if (tally != nullptr) tally->Add(call);
    if (running_trial_.load(std::memory_order_relaxed) != nullptr) CountInTrial(call);
  }
  // Counts that its error policy has answered the exchange with this status.
  void CountPolicyDenial(int http_status) { call_metrics_.CountDenial(http_status, false); }
  // Counts a part of a response that is not used.
  void CountOverruled(Overruled overruled) { call_metrics_.CountOverruled(overruled); }

  // Where a fault was, for whoever looks for the request. Views are good for the call.
  struct FaultSite {
    uint64_t stream_id = 0;
    std::string_view headers = {};     // HttpHeaders that may have x-request-id; "": not known
    const RpcContext* rpc = nullptr;   // for its trace; null: not known
    std::string_view request_id = {};  // "": look into `headers`
    const SpanWriter* span = nullptr;  // of a trace that the host records; it may have begun it
    bool by_peer = false;              // of the Finding
  };

  // Counts the fault, and logs it, with `why` if there is more to say, at most once a
  // minute for each kind, and then with how many were left out meanwhile. A trial counts only what
  // may be of the plugin's code.
  void CountViolation(Violation violation, callout_phase_t phase, std::string_view why,
                      const FaultSite& site);

  // For the table of services.
  absl::StatusOr<uint32_t> DefineMetric(const callout_metric_spec_t& spec);
  callout_status_t FollowFile(std::string_view path);
  InstanceExtensions* extensions() { return &extensions_; }
  // The plugin has logged this as an error.
  static void NoteError(std::string_view text);

 private:
  Instance(std::shared_ptr<const Plugin> plugin, std::string name, const InstanceSettings& settings,
           const InstanceContext& context);

  // Only the thread says whether a hook may wait: of an instance with a blocking phase, the other
  // phases run on the threads that serve streams.
  HookPlace PlaceOf(Hook hook) const { return {marker_, hook, HookTable::ThisThreadMayWait()}; }
  uint64_t OfferedPhases() const;
  absl::Status CreatePlugin(const std::string& config);
  callout_status_t CountedCall(CallState* state, uint64_t now_ns);
  void CountInTrial(const CallRecord& call);
  callout_status_t CallHooks(CallState* state, uint64_t now_ns);
  absl::Status DefineHostMetrics();

  const std::shared_ptr<const Plugin> plugin_;
  const std::string name_;
  const InstanceSettings settings_;
  const InstanceContext context_;
  const uint32_t marker_;  // of the name, in the table of running hooks
  std::unique_ptr<ServiceTable> services_;
  InstanceExtensions extensions_;
  void* plugin_data_ = nullptr;  // create's args->plugin
  bool created_ = false;
  uint64_t phases_ = 0;
  uint64_t whole_body_bytes_max_ = 0;
  uint64_t blocking_phases_ = 0;
  uint64_t wants_ = 0;
  bool calls_process_ = false;  // on_process is exported and wanted
  std::map<std::string, FileStamp> followed_files_;
  std::atomic<callout_destroy_reason_t> destroy_reason_{CALLOUT_DESTROY_UNKNOWN};
  std::array<MovingMean, kPhaseSlots> usual_ns_;
  CallMetrics call_metrics_;
  std::array<Metrics::Id, kViolationCount> violations_{};
  std::shared_ptr<Trial> trial_;
  std::atomic<Trial*> running_trial_{nullptr};  // null once it is over
  std::vector<std::shared_ptr<CallTally>> tallies_;
  std::atomic<CallTally*> running_tally_{nullptr};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_INSTANCE_H_
