// SPDX-License-Identifier: Apache-2.0

// The messages between a supervisor and its workers, over the channel
// (host/workers/worker_channel.h) of each worker.
//
// The supervisor asks a question with a number of its choice, and the worker replies once with the
// same number. Replies to questions that change something come in the order of the questions.
// Messages that a worker sends unasked have the number 0.
//
// Plain values.
#ifndef CALLOUT_HOST_WORKERS_WORKER_MESSAGES_H_
#define CALLOUT_HOST_WORKERS_WORKER_MESSAGES_H_

#include <prometheus/metric_family.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/explain/explainer.h"
#include "host/metrics/metrics.h"
#include "host/net/certificate_store.h"
#include "host/reload/generation.h"
#include "host/transport/traffic.h"

namespace callout::host {

enum class WorkerMessageKind : uint8_t {
  // Questions: their body -> the body of the reply.
  kCertificate,       // CertificatePem; the first comes before kServe
  kPrepare,           // PrepareOrder -> GenerationFacts
  kDiscard,           // GenerationId that was prepared and is not needed
  kCommit,            // vector<GenerationId>
  kServe,             // accept connections from the listening sockets
  kHealthAsked,       // uint64_t: seconds -> whether gRPC health was asked for within them (bool)
  kSetServing,        // bool: what gRPC health says
  kStopAccepting,     // and close the sockets
  kDrain,             // -> whether every stream is closed (bool). The worker then ends
  kCollectMetrics,    // -> vector<MetricFamily>
  kGetUsage,          // -> GenerationTarget::Usage
  kGetSight,          // -> TrafficSight
  kSetWatch,          // WatchSettings
  kCollectExplained,  // -> vector<Explained>
  kCollectShadows,    // -> vector<ShadowReport>
  kCollectExemplars,  // -> vector<Exemplar>

  kAnswer,  // WorkerReply

  // Sent unasked.
  kServing,           // it accepts
  kCannotServe,       // kCommit or kServe has failed, and was answered; it does not accept
  kTrialsFailed,      // vector<GenerationId>
  kGenerationsEnded,  // the usage has changed
};

struct WorkerMessage {
  WorkerMessageKind kind = WorkerMessageKind::kAnswer;
  uint64_t number = 0;
  std::string body;
};

struct WorkerReply {
  int32_t code = 0;  // of absl::StatusCode
  std::string error;
  std::string body;
};

WorkerReply AnswerOf(const absl::Status& status);
// An invalid code becomes UNKNOWN, and a long error is cut, since workers are not trusted.
absl::StatusOr<std::string> BodyOf(WorkerReply response);

// Leaves out metrics that Metrics::Define would refuse or never makes, and series beyond
// Metrics::kSeriesMax.
void DropUnsound(std::vector<prometheus::MetricFamily>* families);
// Leaves out explanations that are no JSON objects or larger than they may be, and all but the
// first `max`.
void DropUnsound(std::vector<Explained>* explained, size_t max);
// Cuts lists and texts that are longer than those of a worker that keeps to the limits.
void BoundReports(std::vector<ShadowReport>* reports);
// Leaves out exemplars whose trace id is none.
void DropUnsound(std::vector<Exemplar>* exemplars);

// Cuts lists and texts that are longer than those of a worker that keeps to the limits.
void BoundSight(TrafficSight* sight);

struct PrepareOrder {
  GenerationSource source;  // without its `copy`, which the supervisor keeps
  // The other workers serve it already: a worker that cannot create it must not serve.
  bool must = false;
};

template <class Archive>
void VisitFields(Archive& archive, WorkerReply& response) {
  archive(response.code, response.error, response.body);
}

template <class Archive>
void VisitFields(Archive& archive, ErrorPolicy& policy) {
  archive(policy.action, policy.http_status);
}

template <class Archive>
void VisitFields(Archive& archive, GenerationSource& source) {
  archive(source.id, source.number, source.name, source.path, source.sha256, source.load_path,
          source.config, source.settings_text, source.policy, source.quarantine, source.phases,
          source.on_trial, source.canary);
}

template <class Archive>
void VisitFields(Archive& archive, PrepareOrder& order) {
  archive(order.source, order.must);
}

template <class Archive>
void VisitFields(Archive& archive, FileStamp& stamp) {
  archive(stamp.kind, stamp.error, stamp.mode, stamp.owner, stamp.group, stamp.device, stamp.inode,
          stamp.size, stamp.written_ns, stamp.changed_ns);
}

template <class Archive>
void VisitFields(Archive& archive, GenerationFacts& facts) {
  archive(facts.name, facts.version, facts.description, facts.abi_version, facts.config_schema,
          facts.followed_files, facts.hooks, facts.extensions, facts.phases, facts.services,
          facts.warnings);
}

template <class Archive>
void VisitFields(Archive& archive, CallCounts& counts) {
  archive(counts.calls, counts.faults, counts.ns, counts.buckets);
}

template <class Archive>
void VisitFields(Archive& archive, GenerationTarget::Usage& usage) {
  archive(usage.streams, usage.calls, usage.mapped, usage.quarantined, usage.last_crash,
          usage.crashes);
}

template <class Archive>
void VisitFields(Archive& archive, LiveRpc& rpc) {
  archive(rpc.kind, rpc.peer, rpc.stream_id, rpc.begin_ns, rpc.phase, rpc.plugin, rpc.state);
}

template <class Archive>
void VisitFields(Archive& archive, LiveRpcs& rpcs) {
  archive(rpcs.rpcs, rpcs.left_out, rpcs.silent_threads);
}

template <class Archive>
void VisitFields(Archive& archive, RecentFault& fault) {
  archive(fault.plugin, fault.phase, fault.kind, fault.what, fault.request_id, fault.trace_id,
          fault.stream_id, fault.time_ns, fault.count);
}

template <class Archive>
void VisitFields(Archive& archive, TrafficSight& sight) {
  archive(sight.live, sight.faults);
}

template <class Archive>
void VisitFields(Archive& archive, TapOrder& tap) {
  archive(tap.id, tap.path, tap.percent, tap.match, tap.until_ns, tap.count, tap.bytes);
}

template <class Archive>
void VisitFields(Archive& archive, WatchSettings& settings) {
  archive(settings.explain_key, settings.rules, settings.log_level, settings.plugin_log_levels,
          settings.tap);
}

template <class Archive>
void VisitFields(Archive& archive, Explained& explained) {
  archive(explained.document, explained.request_id, explained.ended_ns);
}

template <class Archive>
void VisitFields(Archive& archive, ShadowReport& report) {
  archive(report.plugin, report.generation, report.instead_of, report.summary);
}

template <class Archive>
void VisitFields(Archive& archive, Exemplar& exemplar) {
  archive(exemplar.name, exemplar.labels, exemplar.bucket, exemplar.trace_id, exemplar.value);
}

template <class Archive>
void VisitFields(Archive& archive, CertificatePem& pem) {
  archive(pem.chain, pem.key, pem.client_ca);
}

}  // namespace callout::host

// Found by their types' namespace.
namespace prometheus {

template <class Archive>
void VisitFields(Archive& archive, ClientMetric::Label& label) {
  archive(label.name, label.value);
}

template <class Archive>
void VisitFields(Archive& archive, ClientMetric::Bucket& bucket) {
  archive(bucket.cumulative_count, bucket.upper_bound);
}

// Of the kinds that there are in a host.
template <class Archive>
void VisitFields(Archive& archive, ClientMetric& metric) {
  archive(metric.label, metric.counter.value, metric.gauge.value, metric.histogram.sample_count,
          metric.histogram.sample_sum, metric.histogram.bucket);
}

template <class Archive>
void VisitFields(Archive& archive, MetricFamily& family) {
  archive(family.name, family.help, family.type, family.metric);
}

}  // namespace prometheus

#endif  // CALLOUT_HOST_WORKERS_WORKER_MESSAGES_H_
