#include "host/traffic_server.h"

#include <utility>

#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/grpc_transport.h"
#include "host/transport/h2/h2_server.h"

namespace callout::host {
namespace {

H2Options MakeH2Options(const Config& config) {
  H2Options options;
  static_cast<TransportLimits&>(options) = config.limits;
  options.connection_memory_bytes_max = config.transport.connection_memory_bytes_max;
  options.guard.header_block_bytes_max = config.transport.header_block_bytes_max;
  options.guard.control_frames_max = config.transport.control_frames_max;
  options.unanswered_resets_max = config.transport.unanswered_resets_max;
  return options;
}

}  // namespace

TrafficServer::TrafficServer(const Config& config, CertificateStore* certificates,
                             ChainSource* chains, Metrics* metrics)
    : config_(config),
      certificates_(certificates),
      chains_(chains),
      metrics_(metrics),
      connection_limit_(config.connections_max, config.transport.connections_per_peer_max),
      accept_loop_(metrics, [](const absl::Status& status) {
        Log(LogLevel::kWarning, "{}", MessageOf(status));
      }) {}

TrafficServer::~TrafficServer() { accept_loop_.Stop(); }

absl::Status TrafficServer::StartEnvironment() {
  absl::StatusOr<Metrics::Id> connections =
      metrics_->Define(Metrics::Kind::kGauge, "callout_connections",
                       "Open connections of the secure and plaintext listeners");
  if (!connections.ok()) return connections.status();
  connections_gauge_ = *connections;
  absl::StatusOr<Metrics::Id> live =
      metrics_->Define(Metrics::Kind::kGauge, "callout_live_streams",
                       "RPCs that are not over, for their connection or for a plugin");
  if (!live.ok()) return live.status();
  live_gauge_ = *live;
  auto environment = StreamEnvironment::Create(config_.stream_limits, chains_, metrics_);
  if (!environment.ok()) return environment.status();
  environment_ = *std::move(environment);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Transport>> TrafficServer::StartTransport() {
  if (config_.transport.kind == TransportConfig::Kind::kGrpc) {
    return StartGrpcTransport(config_.limits, config_.plaintext_address.has_value(),
                              config_.secure_address.has_value() ? certificates_ : nullptr,
                              environment_.get());
  }
  return H2Server::Start(MakeH2Options(config_), environment_.get(), certificates_);
}

absl::Status TrafficServer::Serve(const std::vector<TrafficSocket>& sockets) {
  if (absl::Status status = StartEnvironment(); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Transport>> transport = StartTransport();
  if (!transport.ok()) return transport.status();
  transport_ = *std::move(transport);
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
                         .may_accept = [this](int fd) { return connection_limit_.MayAdd(fd); }});
  }
  return accept_loop_.Start(std::move(listeners));
}

void TrafficServer::BeginDrain() { transport_->SetServing(false); }

bool TrafficServer::Drain() { return transport_->Drain(config_.drain_timeout_ms); }

std::vector<prometheus::MetricFamily> TrafficServer::CollectMetrics() {
  metrics_->Set(connections_gauge_, static_cast<double>(connection_limit_.Count()));
  metrics_->Set(live_gauge_, static_cast<double>(transport_->live()));
  return metrics_->Collect();
}

}  // namespace callout::host
