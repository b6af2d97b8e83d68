// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_server.h"

#include <algorithm>

#include "host/transport/drain_poll.h"

namespace callout::host {
namespace {}  // namespace

absl::StatusOr<std::unique_ptr<H2Server>> H2Server::Start(const H2Options& options,
                                                          StreamEnvironment* environment,
                                                          MemoryBudget* memory,
                                                          const CertificateStore* certificates) {
  std::unique_ptr<H2Server> server(new H2Server(options, memory));
  absl::StatusOr<H2Metrics> metrics = H2Metrics::Define(&environment->metrics());
  if (!metrics.ok()) return metrics.status();
  server->metrics_ = *metrics;
  const int threads = options.threads();
  for (int i = 0; i < threads; ++i) {
    absl::StatusOr<std::unique_ptr<H2Loop>> loop =
        H2Loop::Start(server->options_, environment, server->metrics_, &server->shared_,
                      &server->serving_, certificates);
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

size_t H2Server::connections() const {
  size_t connections = 0;
  for (const auto& loop : loops_) connections += loop->connections();
  return connections;
}

LiveRpcs H2Server::ListRpcs(size_t max, uint64_t timeout_ms) {
  const auto question = std::make_shared<LiveRpcQuestion>(loops_.size(), max);
  for (const auto& loop : loops_) loop->Ask(question);
  return question->Await(timeout_ms);
}

bool H2Server::AwaitNone(size_t (H2Loop::*count)() const, uint64_t timeout_ms) const {
  return PollUntil(timeout_ms, [&] {
    return std::all_of(loops_.begin(), loops_.end(),
                       [count](const auto& loop) { return (*loop.*count)() == 0; });
  });
}

bool H2Server::Drain(uint64_t timeout_ms) {
  drained_ = true;
  for (const auto& loop : loops_) loop->BeginShutdown();
  if (!AwaitNone(&H2Loop::connections, timeout_ms)) {
    for (const auto& loop : loops_) loop->EndStreams();
    if (!AwaitNone(&H2Loop::connections, kLastWordsMs)) {
      for (const auto& loop : loops_) loop->CloseAll();
    }
  }
  if (!AwaitNone(&H2Loop::live, kCloseTimeMs)) return false;
  for (const auto& loop : loops_) loop->Stop();
  return true;
}

}  // namespace callout::host
