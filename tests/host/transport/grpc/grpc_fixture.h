// SPDX-License-Identifier: Apache-2.0

// What tests of the gRPC transport share: a server with fake plugins, and clients
// that speak HTTP/2 to it by nghttp2, so that they can also break rules.
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_GRPC_GRPC_FIXTURE_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_GRPC_GRPC_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>

#include "client_end.h"
#include "host/transport/grpc/grpc_credentials.h"
#include "host/transport/grpc/grpc_server.h"
#include "tests/host/stream_fixture.h"
#include "tls_ends.h"

namespace callout::host {

class GrpcTest : public StreamTest, public TlsEnds {
 protected:
  GrpcTest() { signal(SIGPIPE, SIG_IGN); }  // OpenSSL writes to what the server has closed
  ~GrpcTest() override { server_.reset(); }

  // `options_`, OpenStore() and the plugins first.
  void StartServer() {
    Begin();
    options_.thread_count = 2;
    if (store_ != nullptr) credentials_ = MakeTlsCredentials(store_.get());
    options_.secure = credentials_;
    auto server = GrpcServer::Start(options_, environment_.get());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // A connection handed to the server; the client's end of it.
  Descriptor Pair(bool secure = false) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    secure ? server_->HandleSecure(ends[1]) : server_->HandlePlaintext(ends[1]);
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

  std::string Metric(const std::string& series) const {
    const std::string page = metrics_.Text();
    const size_t at = page.find("\n" + series + " ");
    if (at == std::string::npos) return "";
    const size_t begin = at + series.size() + 2;
    return page.substr(begin, page.find('\n', begin) - begin);
  }

  GrpcServerOptions options_;
  std::shared_ptr<grpc::ServerCredentials> credentials_;
  std::unique_ptr<GrpcServer> server_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_GRPC_GRPC_FIXTURE_H_
