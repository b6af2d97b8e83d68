#include "host/transport/h2/h2_server.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace callout::host {
namespace {

// How long closing streams may take once their connections are closed.
constexpr uint64_t kCloseTimeMs = 500;
// How long clients have to take what ends their streams when a drain's time is up.
constexpr uint64_t kEndTimeMs = 500;

}  // namespace

absl::StatusOr<std::unique_ptr<H2Server>> H2Server::Start(const H2Options& options,
                                                          StreamEnvironment* environment,
                                                          const CertificateStore* certificates) {
  std::unique_ptr<H2Server> server(new H2Server(options));
  absl::StatusOr<H2Metrics> metrics = H2Metrics::Define(&environment->metrics());
  if (!metrics.ok()) return metrics.status();
  server->metrics_ = *metrics;
  const int threads = options.threads();
  for (int i = 0; i < threads; ++i) {
    absl::StatusOr<std::unique_ptr<H2Loop>> loop = H2Loop::Start(
        server->options_, environment, server->metrics_, &server->serving_, certificates);
    if (!loop.ok()) return loop.status();
    server->loops_.push_back(*std::move(loop));
  }
  return server;
}

H2Server::~H2Server() {
  if (!drained_) Drain(0);
}

void H2Server::SetServing(bool serving) {
  serving_.store(serving);
  for (const auto& loop : loops_) loop->TellServingChanged();
}

size_t H2Server::live() const {
  size_t live = 0;
  for (const auto& loop : loops_) live += loop->live();
  return live;
}

bool H2Server::AwaitNone(size_t (H2Loop::*count)() const, uint64_t timeout_ms) const {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (const auto& loop : loops_) {
    while ((*loop.*count)() != 0) {
      if (std::chrono::steady_clock::now() >= give_up) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return true;
}

bool H2Server::Drain(uint64_t timeout_ms) {
  drained_ = true;
  for (const auto& loop : loops_) loop->BeginShutdown();
  if (!AwaitNone(&H2Loop::connections, timeout_ms)) {
    for (const auto& loop : loops_) loop->EndStreams();
    if (!AwaitNone(&H2Loop::connections, kEndTimeMs)) {
      for (const auto& loop : loops_) loop->CloseAll();
    }
  }
  if (!AwaitNone(&H2Loop::live, kCloseTimeMs)) return false;
  for (const auto& loop : loops_) loop->Stop();
  return true;
}

}  // namespace callout::host
