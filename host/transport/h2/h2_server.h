// SPDX-License-Identifier: Apache-2.0

// The nghttp2 transport: serves envoy.service.ext_proc.v3.ExternalProcessor,
// grpc.health.v1 and reflection, and feeds every Process RPC to a Stream.
//
// One event loop with one thread for each of `thread_count`; a connection stays
// on its loop, so neither it nor its streams need a lock. Connections are handed
// in as descriptors and go to the loops in turn: one listening socket serves all
// loops, so that a second host on the same address is refused by the system.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_SERVER_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_SERVER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/memory_budget.h"
#include "host/net/certificate_store.h"
#include "host/stream/stream_environment.h"
#include "host/transport/h2/h2_context.h"
#include "host/transport/h2/h2_loop.h"
#include "host/transport/transport.h"

namespace callout::host {

class H2Server final : public Transport {
 public:
  // `environment`, `memory` and `certificates`, which is null without a TLS listener,
  // outlive the server. Serves when it returns.
  static absl::StatusOr<std::unique_ptr<H2Server>> Start(const H2Options& options,
                                                         StreamEnvironment* environment,
                                                         MemoryBudget* memory,
                                                         const CertificateStore* certificates);
  ~H2Server() override;
  H2Server(const H2Server&) = delete;
  H2Server& operator=(const H2Server&) = delete;

  void HandlePlaintext(int descriptor) override { NextLoop().Add(descriptor, false); }
  void HandleSecure(int descriptor) override { NextLoop().Add(descriptor, true); }
  // As HandlePlaintext, of a connection of which `first` has been read already.
  void HandleBegun(int descriptor, std::string first) {
    NextLoop().Add(descriptor, false, std::move(first));
  }
  size_t connections() const;  // any thread
  void SetServing(bool serving) override;
  bool Drain(uint64_t timeout_ms) override;
  size_t live() const override;
  LiveRpcs ListRpcs(size_t max, uint64_t timeout_ms) override;

 private:
  H2Server(const H2Options& options, MemoryBudget* memory) : options_(options), shared_(memory) {}

  H2Loop& NextLoop() {
    return *loops_[next_loop_.fetch_add(1, std::memory_order_relaxed) % loops_.size()];
  }
  // Waits until the sum of `count` over the loops is 0; false if it is not in time.
  bool AwaitNone(size_t (H2Loop::*count)() const, uint64_t timeout_ms) const;

  const H2Options options_;
  H2Metrics metrics_;
  H2Shared shared_;
  std::atomic<bool> serving_{true};
  std::vector<std::unique_ptr<H2Loop>> loops_;
  std::atomic<size_t> next_loop_{0};
  bool drained_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_SERVER_H_
