// SPDX-License-Identifier: Apache-2.0

// The HTTP of one connection to an upstream, without I/O: requests become bytes to write, and bytes
// that came become results.
//
//   std::unique_ptr<Connection> connection = MakeHttp2Connection(limits, write);
//   connection->Send(request, number, deadline_ns, done);
//   connection->OnBytes(bytes); … connection->OnClosed(why, clean);
//   if (connection->IsOver()) … it is of no more use: close its stream …
//
// Each request has one result, unless it is abandoned. Whoever gets it may send further requests on
// the connection, but not destroy it.
//
// One thread.
//
// Why Boost.Beast's parser and nghttp2, and not libcurl, which has pools already: Debian's libcurl
// needs 25 libraries that the host does not (Kerberos, LDAP, RTMP, SSH, a second TLS library). They
// would make the image 39.7 MB instead of 28.8, where the limit is 30 MiB (tests/deploy), and every
// process of the host would load them, the probe of a health check too. Beast, nghttp2 and OpenSSL
// are linked already, and the host's TLS policy (host/net/tls_policy.h) holds for them.
//
// Tested by tests/host/upstream/upstream_test.cc.
#ifndef CALLOUT_HOST_UPSTREAM_CONNECTION_H_
#define CALLOUT_HOST_UPSTREAM_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "host/upstream/upstream_config.h"
#include "host/upstream/upstream_message.h"

namespace callout::host {

class Connection {
 public:
  using Write = std::function<void(std::string bytes)>;
  using Done = std::function<void(AttemptResult result)>;

  virtual ~Connection() = default;

  // How many more requests it takes now.
  virtual size_t Room() const = 0;
  // Requests without a result.
  virtual size_t Active() const = 0;
  // It takes no further request and has none.
  virtual bool IsOver() const = 0;
  // False: it is HTTP/1.1, which cannot carry gRPC.
  virtual bool IsHttp2() const = 0;

  // `number` is the caller's, for Abandon. `timeout_ns` is told the server, in gRPC.
  virtual void Send(const UpstreamRequest& request, uint64_t number, uint64_t timeout_ns,
                    Done done) = 0;
  // Its `done` is not called. HTTP/1.1 can use the connection no further.
  virtual void Abandon(uint64_t number) = 0;
  // It takes no further request.
  virtual void Retire() = 0;

  virtual void OnBytes(std::string_view bytes) = 0;
  virtual void OnClosed(const std::string& why, bool clean) = 0;
};

// `config` outlives the connection.
std::unique_ptr<Connection> MakeHttp1Connection(const UpstreamConfig* config,
                                                Connection::Write write);
std::unique_ptr<Connection> MakeHttp2Connection(const UpstreamConfig* config,
                                                Connection::Write write);

// What both send beside the plugin's headers: the authority, which a plugin's host header replaces.
std::string_view AuthorityOf(const UpstreamRequest& request, const UpstreamConfig& config);
bool HasHeader(const UpstreamRequest& request, std::string_view name);
// Whether a request of this method without a body says so by content-length: 0.
bool ExpectsBody(std::string_view method);

inline constexpr char kUserAgent[] = "callout-host";

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_CONNECTION_H_
