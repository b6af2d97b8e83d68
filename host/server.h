// The host as a whole: plugins, listeners, transports, health and admin pages,
// put together from the configuration and taken down in order.
//
// Start, Drain and the destructor belong to one thread.
#ifndef CALLOUT_HOST_SERVER_H_
#define CALLOUT_HOST_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/accept_loop.h"
#include "host/admin.h"
#include "host/certificate.h"
#include "host/config.h"
#include "host/health.h"
#include "host/http_server.h"
#include "host/listener.h"
#include "host/metrics.h"
#include "host/stream_environment.h"
#include "host/transport/grpc_server.h"

namespace callout::host {

// Loads and creates every configured plugin. What --check does, and the first
// thing a start does. `metrics` outlives the chain.
absl::StatusOr<std::shared_ptr<const Chain>> LoadChain(const Config& config, Metrics* metrics);

class Server {
 public:
  // Binds every listener, loads the plugins and serves. `config` outlives the
  // server. Errors are one line each: what, on what, what to do.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Says "not ready" at once, goes on accepting for --drain_delay_ms, then sends
  // GOAWAY and lets live streams finish for --drain_timeout_ms. `wait` blocks for
  // the given time. False if a plugin still holds a deferred call, so that the
  // process must exit without destroying the server.
  bool Drain(const std::function<void(uint64_t ms)>& wait);

 private:
  explicit Server(const Config& config);

  absl::Status LoadPlugins();
  absl::Status OpenListeners();
  absl::Status StartTransport();
  absl::Status StartHttp();
  absl::Status StartAccepting();
  absl::Status OpenListener(const std::string& name, const std::string& address,
                            std::function<void(int)> on_connection);

  struct OpenSocket {
    std::string name;
    ListenSocket socket;
    std::function<void(int)> on_connection;
  };

  // In the order of their making; destroyed in reverse.
  const Config& config_;
  Metrics metrics_;
  Health health_;
  AdminPages admin_pages_;
  std::unique_ptr<ChainSource> chains_;
  std::unique_ptr<StreamEnvironment> environment_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpServer> http_;
  std::vector<OpenSocket> sockets_;
  std::unique_ptr<AcceptLoop> accept_loop_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_SERVER_H_
