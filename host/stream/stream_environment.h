// SPDX-License-Identifier: Apache-2.0

// What all streams of a host share: the chain they take, the limits they keep,
// and where their counts go.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_STREAM_STREAM_ENVIRONMENT_H_
#define CALLOUT_HOST_STREAM_STREAM_ENVIRONMENT_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "host/metrics/metrics.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/chain.h"
#include "host/plugin/request_ids.h"
#include "host/stream/blocking_pool.h"
#include "host/stream/live_count.h"
#include "host/wire/envelope.h"
#include "host/wire/phase.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

// What Envoy does with a mode_override. Its own default is to ignore it, and it gives
// no sign.
enum class EnvoyModeOverride : uint8_t { kUnknown, kAllowed, kIgnored };

struct StreamLimits {
  // How long a deferred or blocking call may take before the policy answers.
  uint64_t hook_deadline_ms = 150;
  // The time asked of Envoy, with override_message_timeout, for a call that is
  // deferred; 0: none is asked. A plugin may ask for its own.
  uint64_t defer_budget_ms = 0;
  // Deferred calls outstanding in the whole process.
  size_t deferred_max = 10000;
  // RPCs that live at a time in the whole process, whatever is left of their
  // connections.
  size_t live_max = 100000;
  // What is kept for one stream: attributes, metadata, and bodies that are
  // gathered for instances that want them whole.
  size_t stream_memory_bytes_max = 67108864;
  // Headers, and attributes, of one message.
  size_t message_fields_max = kMessageFieldsMax;
  // Threads for the hooks of blocking instances.
  size_t blocking_threads_max = 16;
  // Envoy's limits on the headers that a mutation results in; over them it
  // answers 500 (HttpConnectionManager: max_headers_count and
  // max_request_headers_kb, here in bytes).
  size_t header_count_max = 100;
  size_t header_bytes_max = 61440;
  // How long the stream may wait for Envoy while it holds headers for a body that is
  // gathered, or gathers one.
  uint64_t body_wait_ms = 60000;
  // Messages that wait within one stream, behind a call that is at work. At a limit
  // no further message is read.
  size_t queued_bytes_max = 1048576;
  size_t queued_messages_max = 64;
  // What send() may have queued for one stream before the client takes it.
  size_t sent_bytes_max = 4194304;
  EnvoyModeOverride mode_override = EnvoyModeOverride::kUnknown;
  // Strings of dynamic metadata may have CR, LF and NUL.
  bool metadata_controls = false;
  // The services that are answered (--services); empty: those that some plugin has hooks
  // for. Only where it names ext_authz do request_headers hooks answer a Check.
  RpcServices services;
  // End a stream with OK as soon as no instance wants anything more of it. The
  // option's default is on; tests of phases want every message.
  bool early_end = false;
  // Where Envoy obeys (mode_override kAllowed): ask it for the phases only that some instance
  // wants. As with early_end, the option's default is on.
  bool phase_pruning = false;
};

// What becomes of an RPC of a service other than ext_proc, for the metrics.
enum class RpcOutcome : uint8_t { kStarted, kAllowed, kDenied, kError, kCancelled };

class StreamEnvironment {
 public:
  struct MetricIds {
    Metrics::Id streams_started, streams_ended_ok, streams_ended_error, streams_cancelled;
    Metrics::Id messages, request_bytes, response_bytes, deferred, streams_refused;
    Metrics::Id messages_refused, bodies_lost, stalls_ended, stalls_refused, modes_refused,
        late_body_headers, phases_pruned;
  };

  // `chains` and `metrics` outlive the environment.
  static absl::StatusOr<std::unique_ptr<StreamEnvironment>> Create(const StreamLimits& limits,
                                                                   ChainSource* chains,
                                                                   Metrics* metrics);

  const StreamLimits& limits() const { return limits_; }
  ChainSource& chains() { return *chains_; }
  Metrics& metrics() { return *metrics_; }
  const MetricIds& ids() const { return ids_; }
  BlockingPool& blocking_pool() { return blocking_pool_; }
  // Who watches RPCs: traces, explanations.
  RpcWatchers& watchers() { return watchers_; }
  LiveLimit* live_limit() { return &live_limit_; }

  // The services that are answered now.
  RpcServices services() const {
    return limits_.services.empty() ? chains_->services() : limits_.services;
  }

  uint64_t NextStreamId() { return next_stream_id_.fetch_add(1, std::memory_order_relaxed); }

  // Counts how long Envoy has waited for the response to a message.
  void ObserveMessage(callout_phase_t phase, uint64_t nanoseconds, uint64_t now_ns,
                      const RpcContext* rpc) {
    metrics_->Observe(message_seconds_[PhaseSlot(phase)], static_cast<double>(nanoseconds) * 1e-9,
                      now_ns, [rpc] { return SampledTrace(rpc); });
  }

  // Counts an RPC of a service other than ext_proc.
  void CountRpc(RpcService service, RpcOutcome outcome) {
    metrics_->Add(rpcs_[static_cast<size_t>(service)][static_cast<size_t>(outcome)]);
  }

  // Counts one more deferred call; false if that is more than deferred_max,
  // though it is counted all the same.
  bool AddDeferred();
  void RemoveDeferred();
  size_t deferred() const { return deferred_.load(std::memory_order_relaxed); }

 private:
  StreamEnvironment(const StreamLimits& limits, ChainSource* chains, Metrics* metrics)
      : limits_(limits),
        chains_(chains),
        metrics_(metrics),
        live_limit_(limits.live_max),
        blocking_pool_(limits.blocking_threads_max, metrics) {}

  const StreamLimits limits_;
  ChainSource* const chains_;
  Metrics* const metrics_;
  static constexpr size_t kRpcOutcomes = 5;
  absl::Status DefineRpcMetrics();
  absl::Status DefineMessageMetrics();

  MetricIds ids_{};
  std::array<std::array<Metrics::Id, kRpcOutcomes>, kRpcServices.size()> rpcs_{};
  std::array<Metrics::Id, kPhaseSlots> message_seconds_{};
  RpcWatchers watchers_;
  LiveLimit live_limit_;
  std::atomic<uint64_t> next_stream_id_{1};
  std::atomic<size_t> deferred_{0};
  BlockingPool blocking_pool_;  // last: its jobs use the others
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_STREAM_ENVIRONMENT_H_
