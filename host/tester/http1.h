// SPDX-License-Identifier: Apache-2.0

// HTTP/1.1 over a Unix socket, from both ends: the client and the backend of --envoy. Boost.Beast
// reads; what is written is put together here, since Beast's serializer has no trailers.
//
//   Http1Connection connection(std::move(fd));
//   connection.Write(request);
//   absl::StatusOr<HttpMessage> response = connection.ReadResponse("GET");
//
// Names of headers are in lower case, and the first line is pseudo headers, as in HTTP/2. Each call
// waits at most kTimeout. For one thread, but any may call Shutdown.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_HTTP1_H_
#define CALLOUT_HOST_TESTER_HTTP1_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/owned_fd.h"
#include "host/tester/http_message.h"

namespace callout::host {

class Http1Connection {
 public:
  static constexpr std::chrono::seconds kTimeout{30};

  explicit Http1Connection(OwnedFd socket);
  Http1Connection(const Http1Connection&) = delete;
  Http1Connection& operator=(const Http1Connection&) = delete;

  absl::Status Write(const HttpMessage& message);
  absl::StatusOr<HttpMessage> ReadRequest();
  // `method` is that of the request, since a response to HEAD has no body.
  absl::StatusOr<HttpMessage> ReadResponse(const std::string& method);

 private:
  using Protocol = boost::asio::local::stream_protocol;

  template <class Parser>
  absl::Status Read(Parser* parser, HttpMessage* message);

  boost::asio::io_context context_;
  boost::beast::basic_stream<Protocol> stream_;
  boost::beast::flat_buffer buffer_;
};

// A connection to the socket at `path`. UNAVAILABLE with the system's reason.
absl::StatusOr<OwnedFd> ConnectUnix(const std::string& path);
// A listening socket at `path`.
absl::StatusOr<OwnedFd> ListenUnix(const std::string& path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_HTTP1_H_
