// SPDX-License-Identifier: Apache-2.0

// A connection as a stream of bytes: TCP or a unix socket, with TLS or without.
//
//   auto stream = ByteStream::Make(io, tls, {.on_open = …, .on_bytes = …, .on_closed = …});
//   stream->Open(endpoints, "idp.example.com", verify);
//   stream->Write(bytes);
//
// Events come on the io_context's thread, which makes all calls, and never from within a call.
// After on_closed or Close() there is none. The stream keeps itself alive while an operation is
// under way.
//
// Tested by tests/host/upstream/upstream_test.cc.
#ifndef CALLOUT_HOST_UPSTREAM_BYTE_STREAM_H_
#define CALLOUT_HOST_UPSTREAM_BYTE_STREAM_H_

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "host/net/tls_context.h"

namespace callout::host {

using StreamEndpoint = boost::asio::generic::stream_protocol::endpoint;

class ByteStream {
 public:
  struct Events {
    std::function<void()> on_open;
    std::function<void(std::string_view bytes)> on_bytes;
    // `why` is for people; `clean`: the other side has ended it in order.
    std::function<void(const std::string& why, bool clean)> on_closed;
  };

  // `tls` null: plaintext.
  static std::shared_ptr<ByteStream> Make(boost::asio::io_context* io, const TlsContext& tls,
                                          Events events);
  virtual ~ByteStream() = default;

  // Tries the endpoints in turn. `server_name` is for SNI and the certificate's name, which is
  // checked if `verify`.
  virtual void Open(std::vector<StreamEndpoint> endpoints, const std::string& server_name,
                    bool verify) = 0;
  // Sends behind what was written before.
  virtual void Write(std::string bytes) = 0;
  // At once; what has not been sent is lost.
  virtual void Close() = 0;
  // What ALPN has chosen; "": nothing.
  virtual std::string Alpn() const = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_BYTE_STREAM_H_
