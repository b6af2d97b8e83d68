// SPDX-License-Identifier: Apache-2.0

// grpc.health.v1 for load balancers, in plaintext, on connections of the health
// listener that begin with HTTP/2's preface. There is nothing else on them: no
// ext_proc and no reflection.
//
//   H2Health health([&] { return host_health.ready(); }, &metrics);
//   http_server->AddListener("health", handler, nullptr,
//                            [&](int fd, std::string bytes) { return health.Take(fd, bytes); });
//   …  health.Update();   // ready() has changed
//
// The first connection starts the thread that serves them all. Its connections and RPCs
// have the metrics of the nghttp2 transport.
//
// Limits: 256 connections, 16 streams on each, 16 MiB in all, 1 KiB for a message, 8 KiB of
// metadata, and those of the nghttp2 transport for floods and silence. As with HTTP/1.1, a new
// connection is never refused because of idle ones: at the limit it takes the place of the one
// that has no RPC, or the oldest, and was used longest ago.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_HEALTH_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_HEALTH_H_

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "host/base/memory_budget.h"
#include "host/metrics/metrics.h"
#include "host/plugin/chain.h"
#include "host/stream/stream_environment.h"
#include "host/transport/h2/h2_server.h"

namespace callout::host {

class H2Health {
 public:
  static constexpr size_t kConnectionsMax = 256;

  // `ready` is asked on any thread; `metrics` outlives the object.
  H2Health(std::function<bool()> ready, Metrics* metrics);
  // Closes every connection. Nobody calls Take or Update any more.
  ~H2Health();
  H2Health(const H2Health&) = delete;
  H2Health& operator=(const H2Health&) = delete;

  // Takes over a connected, non-blocking descriptor, of which `bytes` have been read.
  // False, and it stays the caller's: there are too many, or the server cannot start,
  // which is logged. Any thread.
  bool Take(int fd, std::string bytes);
  // What `ready` says may have changed: tells those who watch. Any thread.
  void Update();

 private:
  absl::Status Start();

  const std::function<bool()> ready_;
  Metrics* const metrics_;
  std::mutex mutex_;  // guards the following
  bool started_ = false;
  bool serving_ = true;                  // as the server has it
  std::unique_ptr<ChainSource> chains_;  // of no plugin
  std::unique_ptr<StreamEnvironment> environment_;
  MemoryBudget memory_{size_t{16} << 20};
  std::unique_ptr<H2Server> server_;  // null: not started, or it cannot be
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_HEALTH_H_
