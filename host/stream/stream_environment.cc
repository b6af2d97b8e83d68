// SPDX-License-Identifier: Apache-2.0

#include "host/stream/stream_environment.h"

#include <utility>

namespace callout::host {

absl::StatusOr<std::unique_ptr<StreamEnvironment>> StreamEnvironment::Create(
    const StreamLimits& limits, ChainSource* chains, Metrics* metrics) {
  auto environment =
      std::unique_ptr<StreamEnvironment>(new StreamEnvironment(limits, chains, metrics));
  using Kind = Metrics::Kind;
  struct Wanted {
    Metrics::Id* id;
    Kind kind;
    const char* name;
    const char* help;
    std::vector<std::pair<std::string, std::string>> labels;
  };
  MetricIds& ids = environment->ids_;
  constexpr char kEnded[] = "callout_streams_ended_total";
  constexpr char kEndedHelp[] = "Process streams that ended, by outcome";
  constexpr char kStalls[] = "callout_stalled_bodies_total";
  constexpr char kStallsHelp[] =
      "Bodies in BUFFERED_PARTIAL with all bytes of content-length but no end, after which Envoy "
      "goes on only if the stream ends";
  const Wanted wanted[] = {
      {&ids.streams_started,
       Kind::kCounter,
       "callout_streams_started_total",
       "Process streams that started",
       {}},
      {&ids.streams_ended_ok, Kind::kCounter, kEnded, kEndedHelp, {{"outcome", "ok"}}},
      {&ids.streams_ended_error, Kind::kCounter, kEnded, kEndedHelp, {{"outcome", "error"}}},
      {&ids.streams_cancelled, Kind::kCounter, kEnded, kEndedHelp, {{"outcome", "cancelled"}}},
      {&ids.messages, Kind::kCounter, "callout_messages_total", "ProcessingRequests received", {}},
      {&ids.request_bytes,
       Kind::kCounter,
       "callout_request_bytes_total",
       "Bytes of ProcessingRequests received",
       {}},
      {&ids.response_bytes,
       Kind::kCounter,
       "callout_response_bytes_total",
       "Bytes of ProcessingResponses sent",
       {}},
      {&ids.deferred,
       Kind::kGauge,
       "callout_deferred_calls",
       "Calls deferred by plugins and not finished yet",
       {}},
      {&ids.messages_refused,
       Kind::kCounter,
       "callout_messages_refused_total",
       "Messages with more headers or attributes than --max_message_fields",
       {}},
      {&ids.streams_refused,
       Kind::kCounter,
       "callout_streams_refused_total",
       "RPCs over --max_live_streams",
       {}},
      {&ids.bodies_lost,
       Kind::kCounter,
       "callout_bodies_lost_total",
       "Bodies taken from Envoy that could not be given back",
       {}},
      {&ids.stalls_ended, Kind::kCounter, kStalls, kStallsHelp, {{"outcome", "ended"}}},
      {&ids.stalls_refused, Kind::kCounter, kStalls, kStallsHelp, {{"outcome", "refused"}}},
      {&ids.late_body_headers,
       Kind::kCounter,
       "callout_late_body_headers_total",
       "Changes of content-length or content-encoding in body responses that were left out because "
       "the headers had gone",
       {}},
      {&ids.phases_pruned,
       Kind::kCounter,
       "callout_exchanges_pruned_total",
       "HTTP exchanges of which Envoy was asked to leave out phases that no plugin wants "
       "(--phase_pruning)",
       {}},
      {&ids.modes_refused,
       Kind::kCounter,
       "callout_mode_overrides_dropped_total",
       "Body modes asked for by plugins that were not asked of Envoy, since the stream could not "
       "tell what holds (--envoy_mode_override)",
       {}},
  };
  for (const Wanted& metric : wanted) {
    absl::StatusOr<Metrics::Id> id =
        metrics->Define(metric.kind, metric.name, metric.help, metric.labels);
    if (!id.ok()) return id.status();
    *metric.id = *id;
  }
  if (absl::Status status = environment->DefineRpcMetrics(); !status.ok()) return status;
  if (absl::Status status = environment->DefineMessageMetrics(); !status.ok()) return status;
  return environment;
}

absl::Status StreamEnvironment::DefineMessageMetrics() {
  for (const callout_phase_t phase : kPhases) {
    absl::StatusOr<Metrics::Id> id =
        metrics_->Define(Metrics::Kind::kHistogram, "callout_message_seconds",
                         "Time that Envoy waits for the response to a message, deferral included",
                         {{"phase", std::string(PhaseName(phase))}});
    if (!id.ok()) return id.status();
    metrics_->KeepExemplars(*id);
    message_seconds_[PhaseSlot(phase)] = *id;
  }
  return absl::OkStatus();
}

absl::Status StreamEnvironment::DefineRpcMetrics() {
  constexpr std::array<const char*, kRpcOutcomes> kOutcomes = {"", "allowed", "denied", "error",
                                                               "cancelled"};
  for (const RpcServiceInfo& info : kRpcServices) {
    if (info.service == RpcService::kExtProc) continue;  // its streams have counters of their own
    for (size_t outcome = 0; outcome < kRpcOutcomes; ++outcome) {
      const bool starts = outcome == static_cast<size_t>(RpcOutcome::kStarted);
      Metrics::Labels labels = {{"service", std::string(info.name)}};
      if (!starts) labels.emplace_back("outcome", kOutcomes[outcome]);
      absl::StatusOr<Metrics::Id> id = metrics_->Define(
          Metrics::Kind::kCounter,
          starts ? "callout_rpcs_started_total" : "callout_rpcs_ended_total",
          starts ? "RPCs of services other than ext_proc that started, by service"
                 : "RPCs of services other than ext_proc that ended, by service and outcome",
          std::move(labels));
      if (!id.ok()) return id.status();
      rpcs_[static_cast<size_t>(info.service)][outcome] = *id;
    }
  }
  return absl::OkStatus();
}

bool StreamEnvironment::AddDeferred() {
  const size_t before = deferred_.fetch_add(1, std::memory_order_relaxed);
  metrics_->Add(ids_.deferred, 1);
  return before < limits_.deferred_max;
}

void StreamEnvironment::RemoveDeferred() {
  deferred_.fetch_sub(1, std::memory_order_relaxed);
  metrics_->Add(ids_.deferred, -1);
}

}  // namespace callout::host
