// SPDX-License-Identifier: Apache-2.0

// The host as a whole: plugins, listeners, transports, health and admin pages,
// put together from the configuration and taken down in order.
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
#include "host/config/config.h"
#include "host/metrics/metrics.h"
#include "host/net/accept_loop.h"
#include "host/net/certificate_store.h"
#include "host/net/listener.h"
#include "host/net/passed_sockets.h"
#include "host/ops/admin.h"
#include "host/ops/health.h"
#include "host/ops/http_server.h"
#include "host/ops/process_metrics.h"
#include "host/plugin/watchdog.h"
#include "host/reload/plugin_manager.h"
#include "host/traffic_server.h"
#include "host/transport/h2/h2_health.h"
#include "host/transport/traffic.h"
#include "host/workers/worker_group.h"

namespace callout::host {

struct CheckReport {
  std::string text;  // to be printed
  size_t warnings = 0;
};

// What --check does: loads every plugin, which all have to do, and reads the
// certificates.
absl::StatusOr<CheckReport> CheckConfig(const Config& config);

class Server {
 public:
  // Binds every listener, loads the plugins and serves. `config` outlives the
  // server. Errors are one line each: what, on what, what to do; the host itself
  // has logged nothing before one. A socket of `passed` that has a listener's name (secure,
  // plaintext, health, admin) takes the place of that listener's address.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config,
                                                       PassedSockets passed = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Logs what serves where, and follows the certificate's and the plugins' files
  // from here on.
  // Once, when the process is ready for signals: whoever waits for these lines
  // may send one at once.
  void Announce();

  // Reads the certificates again, and looks at the plugins' files.
  void Reload();

  // Says "not ready" at once, goes on accepting for --drain_delay_ms if it may and
  // somebody has asked for health in the last minute, then sends GOAWAY and lets live
  // streams finish for --drain_timeout_ms. False if a plugin still holds a deferred
  // call or the thread that loads plugins, so that the process must exit without
  // destroying the server.
  bool Drain(bool may_delay);

 private:
  struct OpenSocket {
    std::string name;
    ListenSocket socket;
  };

  // One of health and admin: each has threads of its own.
  struct HttpSide {
    explicit HttpSide(Metrics* metrics);
    void Stop();

    std::vector<OpenSocket> sockets;  // none or one
    std::unique_ptr<HttpServer> server;
    AcceptLoop accept_loop;
  };

  Server(const Config& config, PassedSockets passed);

  absl::Status Prepare();
  absl::Status BindSockets();
  absl::Status BindAdminSocket();
  absl::Status BindSocket(const std::string& name, const std::optional<Address>& address,
                          std::vector<OpenSocket>* sockets);
  absl::Status StartHttp();
  absl::Status StartHttpSide(HttpSide* side, HttpHandler handler,
                             std::function<TlsContext()> tls = nullptr,
                             Http2Taker on_http2 = nullptr);
  absl::StatusOr<GenerationTarget*> MakeTarget();
  std::vector<TrafficSocket> TrafficSockets() const;
  absl::Status StartTraffic();
  HttpResponse MetricsPage() const;
  std::vector<prometheus::MetricFamily> CollectMetrics() const;
  HttpResponse PluginsPage() const;
  bool WantsDrainDelay() const;
  absl::Status WatchHooks();

  // In the order of their making; destroyed in reverse.
  const Config& config_;
  PassedSockets passed_;  // until a listener takes them
  Metrics metrics_;
  mutable ProcessMetrics process_metrics_{&metrics_};
  Health health_;
  AdminPages admin_pages_;
  std::vector<std::string> notes_;  // warnings for Announce
  std::unique_ptr<CertificateStore> certificates_;
  std::unique_ptr<Watchdog> watchdog_;
  const std::shared_ptr<Wake> wake_ = std::make_shared<Wake>();
  // One of the two has the generations.
  std::unique_ptr<PluginSet> plugin_set_;
  std::unique_ptr<WorkerGroup> workers_;
  std::unique_ptr<PluginManager> plugins_;
  std::atomic<const PluginManager*> published_plugins_{nullptr};  // for the pages' thread
  std::unique_ptr<TrafficServer> traffic_server_;
  Traffic* traffic_ = nullptr;  // that, or the workers
  std::atomic<Traffic*> published_traffic_{nullptr};
  std::unique_ptr<H2Health> grpc_health_;    // of the health listener
  std::vector<OpenSocket> traffic_sockets_;  // secure, plaintext
  HttpSide health_side_, admin_side_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_SERVER_H_
