// SPDX-License-Identifier: Apache-2.0

// The host: starts plugins, listeners, transports, health and admin pages by the configuration, and
// stops them in order.
//
//   absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(config);
//   (*server)->Announce();
//   … until a signal …
//   if ((*server)->Drain()) server->reset();
//
// Start, Drain and the destructor belong to one thread.
//
// Tested by tests/integration/serving_test.cc.
#ifndef CALLOUT_HOST_SERVER_H_
#define CALLOUT_HOST_SERVER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/admin/admin_site.h"
#include "host/config/config.h"
#include "host/explain/watch_control.h"
#include "host/metrics/metrics.h"
#include "host/net/accept_loop.h"
#include "host/net/certificate_store.h"
#include "host/net/listener.h"
#include "host/net/passed_sockets.h"
#include "host/ops/admin.h"
#include "host/ops/health.h"
#include "host/ops/http_server.h"
#include "host/ops/process_metrics.h"
#include "host/ops/readiness_watch.h"
#include "host/plugin/watchdog.h"
#include "host/reload/plugin_manager.h"
#include "host/traffic_server.h"
#include "host/transport/h2/h2_health.h"
#include "host/transport/traffic.h"
#include "host/workers/worker_group.h"

namespace callout::host {

struct CheckReport {
  std::string text;  // for printing
  size_t warnings = 0;
};

// --check: loads every plugin, and reads the certificates. An error if one is invalid.
absl::StatusOr<CheckReport> CheckConfig(const Config& config);

class Server {
 public:
  // Binds every listener, loads the plugins and serves. `config` outlives the server. An error is
  // one line: what was being done, on what, what to do. The host has logged nothing before it
  // returns one. A socket of `passed` that has a listener's name (secure, plaintext, health, admin)
  // takes the place of that listener's address. `drain` is what the admin's action /actions/drain
  // does; any thread calls it.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const Config& config, PassedSockets passed = {}, std::function<void()> drain = [] {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Logs what serves where, and watches the files of certificate and plugins from now on. Call it
  // once, when the process is ready for signals: a program that waits for these lines may send one
  // at once.
  void Announce();

  // Reloads the certificates and rescans plugin files.
  void Reload();

  // What to log and to explain, for whoever changes it. After Start; any thread.
  WatchControl& watch_control() { return *watch_control_; }

  // Whether a load balancer asks for health, which would see "not ready" and go elsewhere.
  bool WantsDrainDelay() const;
  // Reports "not ready" at once. If a delay is allowed and health was asked for within the last
  // minute, it accepts connections for --drain_delay_ms. Then it sends GOAWAY, and gives live
  // streams --drain_timeout_ms to end. False if a plugin still holds a deferred call or the thread
  // that loads plugins: the process must then exit without destroying the server.
  bool Drain(bool may_delay);

 private:
  struct OpenSocket {
    std::string name;
    ListenSocket socket;
  };

  // Health or admin, each with its own threads.
  struct HttpSide {
    explicit HttpSide(Metrics* metrics);
    void Stop();

    std::vector<OpenSocket> sockets;  // none or one
    std::unique_ptr<HttpServer> server;
    AcceptLoop accept_loop;
  };

  Server(const Config& config, PassedSockets passed, std::function<void()> drain);

  absl::Status Prepare();
  absl::Status BindSockets();
  absl::Status BindAdminSocket();
  absl::Status BindSocket(const std::string& name, const std::optional<Address>& address,
                          std::vector<OpenSocket>* sockets);
  absl::Status StartHttp();
  absl::Status StartHttpSide(HttpSide* side, const HttpLimits& limits, HttpHandler handler,
                             std::function<TlsContext()> tls = nullptr,
                             Http2Taker on_http2 = nullptr);
  absl::StatusOr<GenerationTarget*> MakeTarget();
  std::vector<TrafficSocket> TrafficSockets() const;
  absl::Status StartTraffic();
  HttpResponse MetricsPage(bool open_metrics) const;
  HttpResponse ShadowPage() const;
  HttpResponse ExplainPage(const std::string& request_id) const;
  std::vector<prometheus::MetricFamily> CollectMetrics() const;
  HttpResponse PluginsPage() const;
  AdminSite::Parts SiteParts(std::function<void()> drain);
  absl::Status WatchHooks();
  absl::Status WatchReadiness();

  // In the order of their creation; destroyed in reverse.
  const Config& config_;
  PassedSockets passed_;  // until a listener takes them
  Metrics metrics_;
  mutable ProcessMetrics process_metrics_{&metrics_};
  Health health_;
  AdminPages admin_pages_;
  AdminSite admin_site_;
  std::vector<std::string> notes_;  // warnings for Announce
  std::unique_ptr<CertificateStore> certificates_;
  std::unique_ptr<Watchdog> watchdog_;
  const std::shared_ptr<Wake> wake_ = std::make_shared<Wake>();
  // One of these two has the generations.
  std::unique_ptr<PluginSet> plugin_set_;
  std::unique_ptr<WorkerGroup> workers_;
  std::unique_ptr<PluginManager> plugins_;
  std::atomic<PluginManager*> published_plugins_{nullptr};  // for the pages' thread
  std::unique_ptr<TrafficServer> traffic_server_;
  Traffic* traffic_ = nullptr;  // that, or the workers
  std::atomic<Traffic*> published_traffic_{nullptr};
  std::unique_ptr<WatchControl> watch_control_;  // once there is traffic_
  std::unique_ptr<H2Health> grpc_health_;        // of the health listener
  std::vector<OpenSocket> traffic_sockets_;      // secure, plaintext
  HttpSide health_side_, admin_side_;
  std::unique_ptr<ReadinessWatch> readiness_watch_;  // asks the others
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_SERVER_H_
