// SPDX-License-Identifier: Apache-2.0

// What serves streams: this process itself (host/traffic_server.h), or workers
// (host/workers/worker_group.h).
//
// All functions belong to one thread, but for those that say otherwise.
//
// Tested by tests/reload/workers_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_TRAFFIC_H_
#define CALLOUT_HOST_TRANSPORT_TRAFFIC_H_

#include <prometheus/metric_family.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "host/explain/explainer.h"
#include "host/metrics/metrics.h"
#include "host/plugin/recent_faults.h"
#include "host/shadow/shadow_exchange.h"
#include "host/stream/live_rpc.h"

namespace callout::host {

// A listening socket for streams; stays the owner's.
struct TrafficSocket {
  std::string name;  // secure or plaintext
  int fd = -1;
};

// For people who look on.
struct TrafficSight {
  static constexpr size_t kRpcsMax = 200;  // the oldest are listed

  LiveRpcs live;
  std::vector<RecentFault> faults;  // newest first
};

class Traffic {
 public:
  virtual ~Traffic() = default;

  // Accepts from the sockets when it returns. Once.
  virtual absl::Status Serve(const std::vector<TrafficSocket>& sockets) = 0;

  // The certificate in use is another one. Any thread.
  virtual void ReloadCertificates() = 0;

  // What grpc.health.v1 says on the sockets, before Serve as well; SERVING if nobody has
  // said. Any thread.
  virtual void SetServing(bool serving) = 0;
  // Says NOT_SERVING from here on, and goes on. After the last SetServing.
  virtual void BeginDrain() = 0;
  // Whether somebody has asked for health by gRPC in the last `seconds`.
  virtual bool HealthAskedWithin(uint64_t seconds) = 0;
  // Accepts what waits already and nothing more: the sockets may be closed.
  virtual void StopAccepting() = 0;
  // Sends GOAWAY, and gives live streams --drain_timeout_ms. False if a plugin
  // still holds a deferred call, so that the process must exit without destroying
  // anything.
  virtual bool Drain() = 0;

  // Somebody takes streams. Any thread.
  virtual bool serving() const = 0;

  // What operators have set while the host runs: log levels, and which exchanges are explained.
  // They hold when it returns, except in a worker that does not respond in time. Before Serve as
  // well. Any thread.
  virtual void SetWatch(const WatchSettings& settings) = 0;
  // The latest exchanges that were explained. Any thread.
  virtual std::vector<Explained> CollectExplained() = 0;

  // What shadows would have done otherwise. Any thread.
  virtual std::vector<ShadowReport> CollectShadows() = 0;

  // Exemplars of the histograms that were counted there. Any thread.
  virtual std::vector<Exemplar> CollectExemplars() = 0;
  // What was counted where the streams are served. Any thread.
  virtual std::vector<prometheus::MetricFamily> CollectMetrics() = 0;

  // What is going on where the streams are served, as far as it can be told within a second or
  // two. Any thread.
  virtual TrafficSight GetSight() = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_TRAFFIC_H_
