// SPDX-License-Identifier: Apache-2.0

// A small HTTP/1.1 server for health checks and admin pages, on a thread of its own; not for
// traffic. Health and admin have a server each, so that no page can delay a health check.
//
//   absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Create(&metrics);
//   absl::StatusOr<std::function<void(int)>> serve = (*server)->AddListener("health", handler);
//   … serve as on_connection of an AcceptLoop …
//   (*server)->Stop();
//
// Handlers run on the server's thread, one at a time, and must be quick. A slow handler, such as
// one that asks other processes, returns HttpResponse::later, which runs on a second thread, one at
// a time. One for a GET does not if its connection has been closed meanwhile. With pages_max of
// these under way a further request gets 503; those for other methods count apart. Keep-alive and
// pipelining work. A body of up to body_bytes_max is read before the handler is called. A handler
// gets HEAD as GET, and the response goes out without the body.
//
// The server itself responds with 400 to anything that is not HTTP/1.x, with 431 to a header over
// the limit and with 413 to a body over the limit, and then closes the connection. It never refuses
// a new connection: over connections_max it closes the one that has sent no whole request for the
// longest time. It closes a connection that takes longer than timeout_ms for a step.
//
// A plaintext listener may hand over connections that begin with HTTP/2's preface.
//
// Metrics: callout_http_requests_total{listener}, callout_http_connections,
// callout_http_rejected_total{listener,reason}; reason is one of connections,
// timeout, tls, request, pages.
#ifndef CALLOUT_HOST_OPS_HTTP_SERVER_H_
#define CALLOUT_HOST_OPS_HTTP_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/metrics/metrics.h"
#include "host/net/tls_context.h"

namespace callout::host {

// Valid until the handler returns.
struct HttpRequestView {
  std::string_view method;  // "GET" for HEAD as well
  std::string_view target;  // as sent: "/metrics?x=1"
  // Of these headers; "" without one, "," if there are several.
  std::string_view host = {};
  std::string_view accept = {};
  std::string_view origin = {};
  std::string_view sec_fetch_site = {};
  std::string_view content_type = {};
  std::string_view body = {};
};

struct HttpResponse {
  // If set, its result is the response, and the other members are ignored. For slow pages.
  std::function<HttpResponse()> later = nullptr;
  unsigned status = 200;
  std::string body = {};
  std::string content_type = "text/plain; charset=utf-8";         // not sent without a body
  std::string allow = {};                                         // for 405: "GET, HEAD"
  std::vector<std::pair<std::string, std::string>> headers = {};  // further ones
};

// Must not throw.
using HttpHandler = std::function<HttpResponse(const HttpRequestView&)>;

// Takes over a connected, non-blocking socket that begins with HTTP/2's preface, and the bytes that
// were read from it, preface included. If it returns false, the server closes the connection and
// counts it with the reason connections. Called on the server's thread. Must not throw.
using Http2Taker = std::function<bool(int fd, std::string bytes)>;

struct HttpLimits {
  uint32_t header_bytes_max = 8192;  // of request line and header fields together
  uint32_t body_bytes_max = 1024;
  uint32_t timeout_ms = 5000;  // for the TLS handshake, for each request from the end of the one
                               // before it to its last byte, for writing each answer
  uint32_t connections_max = 256;  // of all listeners together
  uint32_t pages_max = 32;         // HttpResponse::later, running and waiting: for GET, for others
  uint32_t farewell_ms = 1000;     // for the responses that are being written when it stops
};

class HttpServer {
 public:
  // Starts the threads. UNAVAILABLE if there are no threads or descriptors, or an error of Metrics.
  // `metrics` outlives the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(Metrics* metrics,
                                                            const HttpLimits& limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Returns a function that takes a connected socket, owns it, and serves it with `handler`. Any
  // thread may call it while the server lives; after Stop it closes the sockets at once. With `tls`
  // the connections speak TLS; it is called on the server's thread for each connection, so that
  // certificates can change. `on_http2` is for listeners without TLS. Any thread.
  absl::StatusOr<std::function<void(int fd)>> AddListener(const std::string& name,
                                                          HttpHandler handler,
                                                          std::function<TlsContext()> tls = nullptr,
                                                          Http2Taker on_http2 = nullptr);

  // Closes every connection and ends the threads, after the current slow page. Responses to
  // requests that were read are written first, for at most a second. No handler runs afterwards.
  // Harmless if called twice.
  void Stop();

 private:
  class Core;
  explicit HttpServer(std::unique_ptr<Core> core);

  const std::unique_ptr<Core> core_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_HTTP_SERVER_H_
