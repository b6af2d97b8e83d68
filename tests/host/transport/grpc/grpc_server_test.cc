#include "host/transport/grpc/grpc_server.h"

#include <gmock/gmock.h>

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
  callout_call_t* deferred = nullptr;
  AddPlugin()->process = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  limits_.hook_deadline_ms = 60000;
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  // The queue's thread has made the call once another RPC of both queues is answered.
  ASSERT_TRUE(client.RunUntil([&] { return server_->live() == 1 || !client.h2().Give(""); }));
  while (environment_->deferred() == 0) std::this_thread::yield();
  EXPECT_FALSE(server_->Drain(1));
  deferred->host->finish(deferred, CALLOUT_OK);
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

}  // namespace
}  // namespace callout::host
