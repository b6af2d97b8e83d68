// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_server.h"

#include <gmock/gmock.h>

#include <string>
#include <thread>

#include "grpc_fixture.h"
#include "host/transport/builtin_rpcs.h"
#include "server_suite.h"

namespace callout::host {
namespace {

using ::testing::SizeIs;

TEST_F(GrpcTest, StreamsOverTheLimitOfTheProcessAreUnavailable) {
  limits_.live_max = 1;
  StartServer();
  ClientEnd client(Pair());
  const int32_t first = client.h2().Begin(kProcessPath);
  client.h2().Send(first, HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(first).data.empty(); }));
  const H2Client::Rpc refused = Call(kProcessPath, HeadersMessage());
  EXPECT_EQ(refused.status(), "14");
  EXPECT_EQ(Metric("callout_streams_refused_total"), "1");
  client.h2().End(first);
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(first).closed; }));
  while (server_->live() != 0) std::this_thread::yield();
  EXPECT_EQ(Call(kProcessPath, HeadersMessage()).status(), "0");
}

std::string Pings(int count) {
  std::string pings;
  for (int i = 0; i < count; ++i) pings += Frame(NGHTTP2_PING, 0, 0, "12345678");
  return pings;
}

// As many as Envoy, or a client in Go, sends on a connection that is quiet otherwise,
// come bunched when the network has held them up.
TEST_F(GrpcTest, PingsOfAProxyDoNotEndAQuietConnection) {
  StartServer();
  const Descriptor fd = Pair();
  H2Client client;
  ASSERT_TRUE(Write(fd.get(), client.TakeBytes() + Pings(900)));
  std::string in;
  char buffer[16384];
  // Each acknowledgement is 17 bytes.
  while (in.size() < 900 * 17 && WaitReadable(fd.get())) {
    const ssize_t size = recv(fd.get(), buffer, sizeof(buffer), 0);
    ASSERT_GT(size, 0);
    in.append(buffer, static_cast<size_t>(size));
  }
  ASSERT_TRUE(client.Give(in));
  EXPECT_THAT(client.goaways(), SizeIs(0));
}

TEST_F(GrpcTest, AFloodOfPingsEndsTheConnection) {
  StartServer();
  const Descriptor fd = Pair();
  H2Client client;
  ASSERT_TRUE(Write(fd.get(), client.TakeBytes() + Pings(1100)));
  std::string in;
  char buffer[16384];
  while (WaitReadable(fd.get())) {
    const ssize_t size = recv(fd.get(), buffer, sizeof(buffer), 0);
    if (size <= 0) break;
    in.append(buffer, static_cast<size_t>(size));
  }
  client.Give(in);
  ASSERT_THAT(client.goaways(), SizeIs(1));
  EXPECT_EQ(client.goaways()[0].second, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

INSTANTIATE_TYPED_TEST_SUITE_P(Grpc, EveryServer, GrpcTest);

}  // namespace
}  // namespace callout::host
