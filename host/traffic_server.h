// SPDX-License-Identifier: Apache-2.0

// Serves streams in this process: the transport, the environment of its streams, and the loop that
// accepts connections.
//
//   TrafficServer traffic(config, certificates, &plugin_set.chains(), &metrics);
//   traffic.Serve(sockets);  …  traffic.StopAccepting();  traffic.Drain();
//
// Tested by tests/integration/serving_test.cc.
#ifndef CALLOUT_HOST_TRAFFIC_SERVER_H_
#define CALLOUT_HOST_TRAFFIC_SERVER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "host/base/memory_budget.h"
#include "host/config/config.h"
#include "host/explain/explainer.h"
#include "host/metrics/metrics.h"
#include "host/net/accept_loop.h"
#include "host/net/certificate_store.h"
#include "host/net/connection_limit.h"
#include "host/plugin/chain.h"
#include "host/record/recorder.h"
#include "host/shadow/shadow_runner.h"
#include "host/shadow/shadow_watcher.h"
#include "host/stream/stream_environment.h"
#include "host/stream/trace_watcher.h"
#include "host/telemetry/otlp_exporter.h"
#include "host/transport/traffic.h"
#include "host/transport/transport.h"

namespace callout::host {

class TrafficServer final : public Traffic {
 public:
  // All outlive it. `certificates` is null if no listener needs one. `worker`: the number of this
  // worker, which its recordings have in their names; 0: there are no workers.
  TrafficServer(const Config& config, CertificateStore* certificates, ChainSource* chains,
                Metrics* metrics, int worker = 0);
  ~TrafficServer() override;

  absl::Status Serve(const std::vector<TrafficSocket>& sockets) override;
  void ReloadCertificates() override {}  // the store in the constructor does it
  void SetServing(bool serving) override;
  void BeginDrain() override { SetServing(false); }
  void StopAccepting() override { accept_loop_.Stop(); }
  bool HealthAskedWithin(uint64_t seconds) override;
  bool Drain() override;
  bool serving() const override { return true; }
  void SetWatch(const WatchSettings& settings) override;
  std::vector<Explained> CollectExplained() override { return explainer_.Collect(); }
  std::vector<ShadowReport> CollectShadows() override { return shadows_->Collect(); }
  std::vector<Exemplar> CollectExemplars() override { return metrics_->CollectExemplars(); }
  std::vector<prometheus::MetricFamily> CollectMetrics() override;
  TrafficSight GetSight() override;

 private:
  absl::Status StartEnvironment();
  void StartTraces();
  RecordSession::Options RecordOptions(const std::string& path) const;
  void StartRecording();
  void SetTap(const TapOrder& order);
  void EndRecordings();
  absl::Status StartShadows();
  absl::Status DefineMemoryMetrics();
  void TellMemory();
  absl::StatusOr<std::unique_ptr<Transport>> StartTransport();

  const Config& config_;
  CertificateStore* const certificates_;
  ChainSource* const chains_;
  Metrics* const metrics_;
  Metrics::Id connections_gauge_ = 0;
  Metrics::Id live_gauge_ = 0;
  Metrics::Id memory_gauge_ = 0;
  std::array<Metrics::Id, MemoryBudget::kUseCount> refusals_{};
  std::array<uint64_t, MemoryBudget::kUseCount> refusals_told_{};
  MemoryBudget memory_;
  std::mutex telling_;  // one page at a time
  const int worker_;
  Explainer explainer_;
  Recorder recorder_;      // --record
  Recorder tap_recorder_;  // POST /tap
  std::mutex tap_mutex_;   // guards the next
  uint64_t tap_id_ = 0;    // of the order that is carried out
  std::unique_ptr<ShadowRunner> shadows_;
  std::optional<ShadowWatcher> shadow_watcher_;
  std::unique_ptr<OtlpExporter> exporter_;  // null: nothing is traced
  std::optional<TraceWatcher> trace_watcher_;
  std::unique_ptr<StreamEnvironment> environment_;
  ConnectionLimit connection_limit_;
  std::mutex serving_mutex_;  // of the next two, until the transport is there
  bool serving_ = true;       // what health says
  std::unique_ptr<Transport> transport_;
  AcceptLoop accept_loop_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRAFFIC_SERVER_H_
