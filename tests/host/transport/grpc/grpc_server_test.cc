// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_server.h"

#include <gmock/gmock.h>

#include <atomic>
#include <string>
#include <thread>

#include "grpc_fixture.h"
#include "host/transport/builtin_rpcs.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST_F(GrpcTest, ServesAndDrains) {
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(id).data.empty(); }));
  EXPECT_EQ(server_->live(), 1u);
  std::thread drain([&] { EXPECT_TRUE(server_->Drain(60000)); });
  EXPECT_TRUE(client.RunUntil([&] { return !client.h2().goaways().empty(); }));
  client.h2().End(id);
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(client.h2().rpc(id).status(), "0");
  drain.join();
  EXPECT_EQ(server_->live(), 0u);
}

TEST_F(GrpcTest, ADrainCutsWhatTakesTooLong) {
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(id).data.empty(); }));
  EXPECT_TRUE(server_->Drain(1));
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_NE(client.h2().rpc(id).status(), "0");
}

TEST_F(GrpcTest, ADrainSaysThatAPluginHoldsACall) {
  std::atomic<callout_call_t*> deferred{nullptr};
  AddPlugin()->process = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  limits_.hook_deadline_ms = 60000;
  StartServer();
  const Descriptor fd = Pair();
  H2Client client;
  client.Send(client.Begin(kProcessPath), HeadersMessage());
  ASSERT_TRUE(Write(fd.get(), client.TakeBytes()));
  while (environment_->deferred() == 0) std::this_thread::yield();
  EXPECT_FALSE(server_->Drain(1));
  deferred.load()->host->finish(deferred, CALLOUT_OK);
  while (server_->live() != 0) std::this_thread::yield();
  EXPECT_TRUE(server_->Drain(1)) << "it can be destroyed now";
}

TEST_F(GrpcTest, WatchersOfHealthAreToldAndEndedByADrain) {
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin("/grpc.health.v1.Health/Watch");
  client.h2().Send(id, Framed(""), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 1; }));
  server_->SetServing(false);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 2; }));
  EXPECT_EQ(client.h2().rpc(id).Messages().back(), "\x08\x02");
  EXPECT_TRUE(server_->Drain(60000));
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(client.h2().rpc(id).status(), "14");
}

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

TEST_F(GrpcTest, AnUnknownMethodIsNamed) {
  StartServer();
  const H2Client::Rpc rpc = Call("/no.such.Service/Method", Framed(""));
  EXPECT_EQ(rpc.status(), "12");
  const auto& block = rpc.trailers.empty() ? rpc.headers : rpc.trailers;
  EXPECT_THAT(block.at("grpc-message"), HasSubstr("unknown method /no.such.Service/Method"));
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

// What nghttp2's test of the same name finds.
TEST_F(GrpcTest, APlainGetIsToldThatTheMethodIsBad) {
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().BeginWith(
      {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "test"}});
  client.h2().End(id);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  const H2Client::Rpc& rpc = client.h2().rpc(id);
  EXPECT_EQ(rpc.headers.at(":status"), "200");
  EXPECT_EQ(rpc.headers.at("content-type"), "application/grpc");
  EXPECT_EQ(rpc.status(), "2");
  EXPECT_EQ(rpc.headers.at("grpc-message"), "Bad method header");
  EXPECT_TRUE(rpc.data.empty());
}

}  // namespace
}  // namespace callout::host
