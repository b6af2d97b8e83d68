// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_health.h"

#include <utility>
#include <vector>

#include "host/base/log.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

H2Options MakeOptions() {
  H2Options options;
  options.services = ServiceSet::kHealth;
  options.thread_count = 1;
  options.loop_connections_max = H2Health::kConnectionsMax;
  options.message_bytes_max = 1024;
  options.metadata_bytes_max = 8192;
  options.concurrent_streams_max = 16;
  options.connection_memory_bytes_max = 65536;
  return options;
}

}  // namespace

H2Health::H2Health(std::function<bool()> ready, Metrics* metrics)
    : ready_(std::move(ready)), metrics_(metrics) {}

H2Health::~H2Health() = default;

absl::Status H2Health::Start() {
  chains_ = std::make_unique<ChainSource>(
      std::make_shared<Chain>(std::vector<std::shared_ptr<Instance>>()));
  absl::StatusOr<std::unique_ptr<StreamEnvironment>> environment =
      StreamEnvironment::Create(StreamLimits(), chains_.get(), metrics_);
  if (!environment.ok()) return environment.status();
  environment_ = *std::move(environment);
  absl::StatusOr<std::unique_ptr<H2Server>> server =
      H2Server::Start(MakeOptions(), environment_.get(), &memory_, nullptr);
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

bool H2Health::Take(int fd, std::string bytes) {
  Update();
  std::lock_guard<std::mutex> lock(mutex_);
  if (!std::exchange(started_, true)) {
    if (absl::Status status = Start(); !status.ok()) {
      Log(LogLevel::kError, "the health listener cannot serve grpc.health.v1: {}",
          MessageOf(status));
    } else {
      serving_ = ready_();
      server_->SetServing(serving_);
    }
  }
  // Twice as many: while the server has yet to close those that have to go.
  if (server_ == nullptr || server_->connections() >= 2 * kConnectionsMax) return false;
  server_->HandleBegun(fd, std::move(bytes));
  return true;
}

void H2Health::Update() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (server_ == nullptr) return;
  const bool ready = ready_();
  if (std::exchange(serving_, ready) != ready) server_->SetServing(ready);
}

}  // namespace callout::host
