// SPDX-License-Identifier: Apache-2.0

#include "host/traffic_server.h"

#include <functional>
#include <utility>

#include "host/base/clock.h"
#include "host/base/health_asked.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/grpc_transport.h"
#include "host/ops/health.h"
#include "host/transport/h2/h2_server.h"

namespace callout::host {
namespace {

H2Options MakeH2Options(const Config& config) {
  H2Options options;
  options.services = config.limits.reflection ? ServiceSet::kAll : ServiceSet::kWithoutReflection;
  static_cast<TransportLimits&>(options) = config.limits;
  options.connection_memory_bytes_max = config.transport.connection_memory_bytes_max;
  options.guard.header_block_bytes_max = config.transport.header_block_bytes_max;
  options.guard.control_frames_max = config.transport.control_frames_max;
  options.unanswered_resets_max = config.transport.unanswered_resets_max;
  options.turn_messages_max = config.transport.turn_messages_max;
  options.turn_handshakes_max = config.transport.turn_handshakes_max;
  options.handshake_percent_max = config.transport.handshake_percent_max;
  return options;
}

// What the end of the process waits for the collector of traces, and for recordings.
constexpr uint64_t kFlushMs = 1000;
// What the end of the process waits for hooks and deferred calls of shadows, and no longer.
constexpr uint64_t kShadowsEndMs = 500;
// How long a list of RPCs waits for a thread that a hook occupies.
constexpr uint64_t kListMs = 100;
// For health checks, admin pages and new versions of plugins.
constexpr int kDescriptorsLeft = 16;

// A fifth is reserved for the allocator's overhead and for the program itself. Measured with
// everything hoarded at once (tests/attack/memory_test): 31 to 51 MiB beside 224 that were kept,
// and 25 for the program.
size_t BudgetOf(const Config& config) {
  const size_t bytes = config.transport.memory_budget_bytes != 0
                           ? config.transport.memory_budget_bytes
                           : DefaultMemoryBudget(config.containment.workers);
  return bytes - bytes / 5;
}

}  // namespace

TrafficServer::TrafficServer(const Config& config, CertificateStore* certificates,
                             ChainSource* chains, Metrics* metrics, int worker)
    : config_(config),
      certificates_(certificates),
      chains_(chains),
      metrics_(metrics),
      memory_(BudgetOf(config)),
      worker_(worker),
      explainer_(metrics, config.explained_max),
      recorder_(metrics, "option"),
      tap_recorder_(metrics, "tap"),
      connection_limit_(config.connections_max, config.transport.connections_per_peer_max),
      accept_loop_(
          metrics,
          [](const absl::Status& status) { Log(LogLevel::kWarning, "{}", MessageOf(status)); },
          config.containment.workers > 1 ? [this] { return connection_limit_.CountLately(); }
                                         : std::function<size_t()>()) {}

TrafficServer::~TrafficServer() {
  accept_loop_.Stop();
  // The environment, whose watchers they are, ends before them.
  if (shadow_watcher_.has_value()) shadow_watcher_->Detach();
  recorder_.Detach();
  tap_recorder_.Detach();
}

absl::Status TrafficServer::StartEnvironment() {
  absl::StatusOr<Metrics::Id> connections =
      metrics_->Define(Metrics::Kind::kGauge, "callout_connections",
                       "Open connections of the secure and plaintext listeners");
  if (!connections.ok()) return connections.status();
  connections_gauge_ = *connections;
  absl::StatusOr<Metrics::Id> live =
      metrics_->Define(Metrics::Kind::kGauge, "callout_live_streams",
                       "RPCs that their connection or a plugin still needs");
  if (!live.ok()) return live.status();
  live_gauge_ = *live;
  if (absl::Status status = DefineMemoryMetrics(); !status.ok()) return status;
  auto environment = StreamEnvironment::Create(config_.stream_limits, chains_, metrics_);
  if (!environment.ok()) return environment.status();
  environment_ = *std::move(environment);
  explainer_.Attach(&environment_->watchers());
  recorder_.Attach(&environment_->watchers());
  tap_recorder_.Attach(&environment_->watchers());
  StartRecording();
  if (config_.traces.enabled) StartTraces();
  return StartShadows();
}

// Its threads only once there is a shadow.
absl::Status TrafficServer::StartShadows() {
  auto runner = ShadowRunner::Create(config_.shadow, config_.stream_limits, metrics_);
  if (!runner.ok()) return runner.status();
  shadows_ = *std::move(runner);
  shadow_watcher_.emplace(shadows_.get());
  shadow_watcher_->Attach(&environment_->watchers(), chains_);
  return absl::OkStatus();
}

// Streams do not depend on traces.
void TrafficServer::StartTraces() {
  absl::StatusOr<std::unique_ptr<OtlpExporter>> exporter =
      OtlpExporter::Start(config_.traces, metrics_);
  if (!exporter.ok()) {
    return Log(LogLevel::kError, "no traces are sent: {}", MessageOf(exporter.status()));
  }
  exporter_ = *std::move(exporter);
  SpanLimits limits = config_.traces.span_limits;
  limits.bytes_max = config_.reload.extensions.trace_bytes_max;
  trace_watcher_.emplace(config_.traces.sampler, exporter_.get(), limits);
  environment_->watchers().Add(&*trace_watcher_);
  environment_->watchers().SetActive(&*trace_watcher_, true);
}

RecordSession::Options TrafficServer::RecordOptions(const std::string& path) const {
  const RecordConfig& config = config_.record;
  return {.path = worker_ == 0 ? path : WorkerPath(path, worker_),
          .rule = {},
          .redaction = Redaction(config.redacted),
          .bodies = config.bodies,
          .file_bytes_max = config.file_bytes_max,
          .files = config.files,
          .rotates = true,
          .queue_bytes_max = config.queue_bytes_max,
          .exchange_bytes_max = config.exchange_bytes_max,
          .until_ns = 0,
          .count_max = 0,
          .host_version = kHostVersion};
}

// Nor do they depend on recordings. The options have been checked.
void TrafficServer::StartRecording() {
  if (config_.record.path.empty()) return;
  RecordSession::Options options = RecordOptions(config_.record.path);
  absl::StatusOr<RecordRule> rule = MakeRecordRule(config_.record.percent, config_.record.match);
  absl::Status status = rule.status();
  if (rule.ok()) {
    options.rule = *std::move(rule);
    status = recorder_.Start(std::move(options));
  }
  if (!status.ok()) {
    Log(LogLevel::kError, "--record: nothing is recorded: {}", MessageOf(status));
  }
}

void TrafficServer::SetTap(const TapOrder& order) {
  const std::lock_guard<std::mutex> lock(tap_mutex_);
  if (order.id == tap_id_) return;
  tap_id_ = order.id;
  // A worker may have been started after the end.
  if (order.id == 0 || order.until_ns <= MonotonicNs()) return tap_recorder_.Stop();
  RecordSession::Options options = RecordOptions(order.path);
  options.file_bytes_max = order.bytes;
  options.files = 2;  // with that of a worker that has crashed
  options.rotates = false;
  options.until_ns = order.until_ns;
  options.count_max = order.count;
  absl::StatusOr<RecordRule> rule = MakeRecordRule(order.percent, order.match);
  absl::Status status = rule.status();
  if (rule.ok()) {
    options.rule = *std::move(rule);
    status = tap_recorder_.Start(std::move(options));
  }
  if (!status.ok()) {
    Log(LogLevel::kError, "tap {}: nothing is recorded: {}", order.path, MessageOf(status));
  }
}

absl::Status TrafficServer::DefineMemoryMetrics() {
  absl::StatusOr<Metrics::Id> used =
      metrics_->Define(Metrics::Kind::kGauge, "callout_memory_bytes",
                       "Bytes kept for clients, of --memory_budget_bytes (nghttp2)");
  if (!used.ok()) return used.status();
  memory_gauge_ = *used;
  absl::StatusOr<Metrics::Id> budget =
      metrics_->Define(Metrics::Kind::kGauge, "callout_memory_budget_bytes",
                       "The part of --memory_budget_bytes that may be used: four fifths");
  if (!budget.ok()) return budget.status();
  metrics_->Set(*budget, static_cast<double>(memory_.max()));
  for (size_t i = 0; i < refusals_.size(); ++i) {
    absl::StatusOr<Metrics::Id> refusals =
        metrics_->Define(Metrics::Kind::kCounter, "callout_memory_refusals_total",
                         "Connections and streams that were refused, and streams that were ended, "
                         "because of --memory_budget_bytes",
                         {{"what", MemoryBudget::UseName(static_cast<MemoryBudget::Use>(i))}});
    if (!refusals.ok()) return refusals.status();
    refusals_[i] = *refusals;
  }
  return absl::OkStatus();
}

void TrafficServer::TellMemory() {
  const std::lock_guard<std::mutex> lock(telling_);
  metrics_->Set(memory_gauge_, static_cast<double>(memory_.used()));
  for (size_t i = 0; i < refusals_.size(); ++i) {
    const uint64_t refusals = memory_.refusals(static_cast<MemoryBudget::Use>(i));
    metrics_->Add(refusals_[i], static_cast<double>(refusals - refusals_told_[i]));
    refusals_told_[i] = refusals;
  }
}

void TrafficServer::EndRecordings() {
  for (Recorder* recorder : {&recorder_, &tap_recorder_}) recorder->Stop();
  for (Recorder* recorder : {&recorder_, &tap_recorder_}) {
    if (recorder->Join(kFlushMs)) continue;
    Log(LogLevel::kWarning, "a recording's disk is slow: its last exchanges are lost");
  }
}

absl::StatusOr<std::unique_ptr<Transport>> TrafficServer::StartTransport() {
  if (config_.transport.kind == TransportConfig::Kind::kGrpc) {
    return StartGrpcTransport(config_.limits, config_.plaintext_address.has_value(),
                              config_.secure_address.has_value() ? certificates_ : nullptr,
                              environment_.get());
  }
  return H2Server::Start(MakeH2Options(config_), environment_.get(), &memory_, certificates_);
}

absl::Status TrafficServer::Serve(const std::vector<TrafficSocket>& sockets) {
  if (absl::Status status = StartEnvironment(); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Transport>> transport = StartTransport();
  if (!transport.ok()) return transport.status();
  {
    const std::lock_guard<std::mutex> lock(serving_mutex_);
    transport_ = *std::move(transport);
    transport_->SetServing(serving_);
  }
  std::vector<AcceptLoop::Listener> listeners;
  for (const TrafficSocket& socket : sockets) {
    const bool secure = socket.name == "secure";
    listeners.push_back({.name = socket.name,
                         .fd = socket.fd,
                         .on_connection =
                             [this, transport = transport_.get(), secure](int fd) {
                               connection_limit_.Add(fd);
                               secure ? transport->HandleSecure(fd)
                                      : transport->HandlePlaintext(fd);
                             },
                         .may_accept = [this](int fd) { return connection_limit_.MayAdd(fd); },
                         .descriptors_left = kDescriptorsLeft});
  }
  return accept_loop_.Start(std::move(listeners));
}

void TrafficServer::SetServing(bool serving) {
  const std::lock_guard<std::mutex> lock(serving_mutex_);
  serving_ = serving;
  if (transport_ != nullptr) transport_->SetServing(serving);
}

// Whoever sets them has checked them.
void TrafficServer::SetWatch(const WatchSettings& settings) {
  if (absl::Status status = explainer_.Set(settings); !status.ok()) {
    Log(LogLevel::kError, "what to log and explain is as before: {}", MessageOf(status));
  }
  SetTap(settings.tap);
}

bool TrafficServer::HealthAskedWithin(uint64_t seconds) { return host::HealthAskedWithin(seconds); }

bool TrafficServer::Drain() {
  const bool closed = transport_->Drain(config_.drain_timeout_ms);
  shadow_watcher_->Detach();
  const bool shadows_closed = shadows_->Stop(kShadowsEndMs);
  if (!shadows_closed) {
    Log(LogLevel::kWarning,
        "a plugin in shadow still holds a call after {} ms: a hook has not returned, or a deferred "
        "call is not finished; it is abandoned",
        kShadowsEndMs);
  }
  if (exporter_ != nullptr) exporter_->Stop(kFlushMs);
  EndRecordings();
  return closed && shadows_closed;
}

TrafficSight TrafficServer::GetSight() {
  return {transport_->ListRpcs(TrafficSight::kRpcsMax, kListMs), RecentFaults::InProcess().List()};
}

std::vector<prometheus::MetricFamily> TrafficServer::CollectMetrics() {
  metrics_->Set(connections_gauge_, static_cast<double>(connection_limit_.Count()));
  metrics_->Set(live_gauge_, static_cast<double>(transport_->live()));
  TellMemory();
  if (exporter_ != nullptr) exporter_->UpdateMetrics();
  return metrics_->Collect();
}

}  // namespace callout::host
