// SPDX-License-Identifier: Apache-2.0

// A server of the gRPC transport, for tests.
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_GRPC_GRPC_FIXTURE_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_GRPC_GRPC_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "host/transport/grpc/grpc_credentials.h"
#include "host/transport/grpc/grpc_server.h"
#include "server_fixture.h"

namespace callout::host {

class GrpcTest : public ServerTest {
 protected:
  ~GrpcTest() override { server_.reset(); }

  void StartServer() override {
    Begin();
    options_.thread_count = 2;
    if (store_ != nullptr) credentials_ = MakeTlsCredentials(store_.get());
    options_.secure = credentials_;
    auto server = GrpcServer::Start(options_, environment_.get());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  TransportLimits& transport_limits() override { return options_; }
  Transport* transport() override { return server_.get(); }

  GrpcServerOptions options_;
  std::shared_ptr<grpc::ServerCredentials> credentials_;
  std::unique_ptr<GrpcServer> server_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_GRPC_GRPC_FIXTURE_H_
