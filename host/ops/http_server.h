// SPDX-License-Identifier: Apache-2.0

// A small HTTP/1.1 server for health checks and the admin pages, on a thread of its
// own. Health and admin have one each, so that nothing about pages can keep a health
// check waiting. Not for traffic.
//
//   absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Create(&metrics);
//   absl::StatusOr<std::function<void(int)>> serve = (*server)->AddListener("health", handler);
//   … serve as on_connection of an AcceptLoop …
//   (*server)->Stop();
//
// Handlers run on the server's thread, one at a time, and must be quick. What takes its
// time, such as asking other processes, is returned as HttpResponse::later and runs on
// a second thread, one after the other. Keep-alive and pipelining work; a body of up to
// body_bytes_max is read and thrown away. HEAD reaches the handler as GET, and
// its answer goes out without the body.
//
// What the server answers by itself, closing the connection after it: 400 to
// what is not HTTP/1.x, 431 to a header over the limit, 413 to a body over the
// limit. A new connection is never refused: over connections_max the one is closed
// that has been without a whole request for the longest time. One that takes longer
// than timeout_ms at any step is closed when the time is up.
//
// A plaintext listener may hand over connections that begin with HTTP/2's preface,
// before it answers anything on them.
//
// Metrics: callout_http_requests_total{listener}, callout_http_connections,
// callout_http_rejected_total{listener,reason}; reason is one of connections,
// timeout, tls, request.
#ifndef CALLOUT_HOST_OPS_HTTP_SERVER_H_
#define CALLOUT_HOST_OPS_HTTP_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/metrics/metrics.h"
#include "host/net/tls_context.h"

namespace callout::host {

// Good until the handler returns.
struct HttpRequestView {
  std::string_view method;  // "GET" for HEAD as well
  std::string_view target;  // as sent: "/metrics?x=1"
  // Of the Host header; "" without one, "," if there are several.
  std::string_view host = {};
};

struct HttpResponse {
  // Set: the rest is ignored, and what this returns is the response. For slow pages.
  std::function<HttpResponse()> later = nullptr;
  unsigned status = 200;
  std::string body = {};
  std::string content_type = "text/plain; charset=utf-8";  // not sent without a body
  std::string allow = {};                                  // for 405: "GET, HEAD"
};

// Must not throw.
using HttpHandler = std::function<HttpResponse(const HttpRequestView&)>;

// Takes over a connected, non-blocking socket that begins with HTTP/2's preface, and
// what has been read of it, the preface first. False: it does not, and the server
// closes the connection, counted under the reason connections. Called on the
// server's thread. Must not throw.
using Http2Taker = std::function<bool(int fd, std::string bytes)>;

struct HttpLimits {
  uint32_t header_bytes_max = 8192;  // of request line and header fields together
  uint32_t body_bytes_max = 1024;
  uint32_t timeout_ms = 5000;  // for the TLS handshake, for each request from the end of the one
                               // before it to its last byte, for writing each answer
  uint32_t connections_max = 256;  // of all listeners together
};

class HttpServer {
 public:
  // Starts the threads. UNAVAILABLE if the system gives no threads or descriptors;
  // or Metrics' own reason. `metrics` outlives the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(Metrics* metrics,
                                                            const HttpLimits& limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Returns what takes connected sockets to be served by `handler`; it owns
  // them, may be called from any thread while the server lives, and closes them
  // at once after Stop. With `tls`, which is asked on the server's thread for
  // each connection so that certificates can change, the connections speak TLS.
  // `on_http2` is for a listener without TLS. Any thread, any time.
  absl::StatusOr<std::function<void(int fd)>> AddListener(const std::string& name,
                                                          HttpHandler handler,
                                                          std::function<TlsContext()> tls = nullptr,
                                                          Http2Taker on_http2 = nullptr);

  // Closes every connection and ends the threads, after the slow page under way; no
  // handler runs after it.
  // Harmless twice.
  void Stop();

 private:
  class Core;
  explicit HttpServer(std::unique_ptr<Core> core);

  const std::unique_ptr<Core> core_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_HTTP_SERVER_H_
