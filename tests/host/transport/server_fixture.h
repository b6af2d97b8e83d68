// SPDX-License-Identifier: Apache-2.0

// What tests of a transport's server share: fake plugins, connections, and clients that
// speak HTTP/2 by nghttp2, so that they can also break rules. A transport's own fixture
// derives from it and starts the server.
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_SERVER_FIXTURE_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_SERVER_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include <string>

#include "client_end.h"
#include "host/transport/limits.h"
#include "host/transport/transport.h"
#include "tests/host/stream_fixture.h"
#include "tls_ends.h"

namespace callout::host {

class ServerTest : public StreamTest, public TlsEnds {
 protected:
  ServerTest() { signal(SIGPIPE, SIG_IGN); }  // OpenSSL writes to what the server has closed

  // The transport's options, OpenStore() and the plugins first.
  virtual void StartServer() = 0;
  virtual TransportLimits& transport_limits() = 0;
  virtual Transport* transport() = 0;

  // A connection handed to the server; the client's end of it.
  Descriptor Pair(bool secure = false) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    secure ? transport()->HandleSecure(ends[1]) : transport()->HandlePlaintext(ends[1]);
    return Descriptor(ends[0]);
  }

  static std::string HeadersMessage() {
    return Framed(Headers(CALLOUT_REQUEST_HEADERS).SerializeAsString());
  }

  static std::string Property(const callout_call_t* call, callout_property_t property) {
    callout_bytes_t value{};
    EXPECT_EQ(call->host->get_property(call, property, &value), CALLOUT_OK);
    return std::string(ToView(value));
  }

  // One whole RPC on a new connection.
  H2Client::Rpc Call(const std::string& path, const std::string& bytes) {
    ClientEnd client(Pair());
    const int32_t id = client.h2().Begin(path);
    client.h2().Send(id, bytes, true);
    EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    return client.h2().rpc(id);
  }

  // A stream in STREAMED whose headers and first chunk have been answered.
  static int32_t BeginChunkedBody(ClientEnd* client) {
    const int32_t id = client->h2().Begin(kProcessPath);
    for (const ProcessingRequest& request :
         {WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone),
          Body(CALLOUT_REQUEST_BODY, "chunk", false)}) {
      client->h2().Send(id, Framed(request.SerializeAsString()));
    }
    EXPECT_TRUE(client->RunUntil([&] { return client->h2().rpc(id).Messages().size() >= 2; }));
    return id;
  }

  std::string Metric(const std::string& series) const {
    const std::string page = metrics_.Text();
    const size_t at = page.find("\n" + series + " ");
    if (at == std::string::npos) return "";
    const size_t begin = at + series.size() + 2;
    return page.substr(begin, page.find('\n', begin) - begin);
  }
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_SERVER_FIXTURE_H_
