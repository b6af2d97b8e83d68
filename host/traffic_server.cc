#include "host/traffic_server.h"

#include <utility>

#include "host/log.h"
#include "host/status_text.h"
#include "host/transport/grpc_credentials.h"
#include "host/transport/grpc_log.h"

namespace callout::host {
namespace {

GrpcServerOptions GrpcOptions(const Config& config,
                              std::shared_ptr<grpc::ServerCredentials> secure) {
  GrpcServerOptions options;
  options.thread_count = config.server_thread_count;
  options.message_bytes_max = config.message_bytes_max;
  options.metadata_bytes_max = config.metadata_bytes_max;
  options.concurrent_streams_max = config.concurrent_streams_max;
  options.handshake_timeout_ms = config.handshake_timeout_ms;
  options.connection_idle_ms = config.connection_idle_ms;
  options.connection_age_ms = config.connection_age_ms;
  options.connection_age_grace_ms = config.connection_age_grace_ms;
  options.plaintext = config.plaintext_address.has_value();
  options.secure = std::move(secure);
  return options;
}

}  // namespace

TrafficServer::TrafficServer(const Config& config, CertificateStore* certificates,
                             ChainSource* chains, Metrics* metrics)
    : config_(config),
      certificates_(certificates),
      chains_(chains),
      metrics_(metrics),
      connection_limit_(config.connections_max),
      accept_loop_(metrics, [](const absl::Status& status) {
        Log(LogLevel::kWarning, "{}", MessageOf(status));
      }) {}

TrafficServer::~TrafficServer() { accept_loop_.Stop(); }

absl::Status TrafficServer::StartTransport() {
  absl::StatusOr<Metrics::Id> connections =
      metrics_->Define(Metrics::Kind::kGauge, "callout_connections",
                       "Open connections of the secure and plaintext listeners");
  if (!connections.ok()) return connections.status();
  connections_gauge_ = *connections;
  auto environment = StreamEnvironment::Create(config_.stream_limits, chains_, metrics_);
  if (!environment.ok()) return environment.status();
  environment_ = *std::move(environment);
  if (config_.secure_address.has_value()) credentials_ = MakeTlsCredentials(certificates_);
  RouteGrpcLog();
  absl::StatusOr<std::unique_ptr<GrpcServer>> grpc =
      GrpcServer::Start(GrpcOptions(config_, credentials_), environment_.get());
  if (!grpc.ok()) return grpc.status();
  grpc_ = *std::move(grpc);
  return absl::OkStatus();
}

absl::Status TrafficServer::Serve(const std::vector<TrafficSocket>& sockets) {
  if (absl::Status status = StartTransport(); !status.ok()) return status;
  std::vector<AcceptLoop::Listener> listeners;
  for (const TrafficSocket& socket : sockets) {
    const bool secure = socket.name == "secure";
    listeners.push_back({.name = socket.name,
                         .fd = socket.fd,
                         .on_connection =
                             [this, grpc = grpc_.get(), secure](int fd) {
                               connection_limit_.Add(fd);
                               secure ? grpc->HandleSecure(fd) : grpc->HandlePlaintext(fd);
                             },
                         .may_accept = [this] { return connection_limit_.MayAdd(); }});
  }
  return accept_loop_.Start(std::move(listeners));
}

void TrafficServer::BeginDrain() { grpc_->SetServing(false); }

bool TrafficServer::Drain() { return grpc_->Drain(config_.drain_timeout_ms); }

std::vector<prometheus::MetricFamily> TrafficServer::CollectMetrics() {
  metrics_->Set(connections_gauge_, static_cast<double>(connection_limit_.Count()));
  return metrics_->Collect();
}

}  // namespace callout::host
