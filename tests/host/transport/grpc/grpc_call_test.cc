// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_call.h"

#include <callout/rpc_metadata.h>
#include <gmock/gmock.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grpc_fixture.h"
#include "host/transport/builtin_rpcs.h"

namespace callout::host {
namespace {

using ::testing::IsSupersetOf;
using ::testing::SizeIs;

std::string BodyMessage(const std::string& body, bool end_of_stream = false) {
  ProcessingRequest request;
  request.mutable_request_body()->set_body(body);
  request.mutable_request_body()->set_end_of_stream(end_of_stream);
  return Framed(request.SerializeAsString());
}

TEST_F(GrpcTest, AnswersMessageByMessage) {
  AddPlugin()->process = SetsHeader("x", "1");
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 1; }));
  client.h2().Send(id, Framed(Headers(CALLOUT_RESPONSE_HEADERS).SerializeAsString()), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  const H2Client::Rpc& rpc = client.h2().rpc(id);
  ASSERT_THAT(rpc.Messages(), SizeIs(2));
  ProcessingResponse response;
  ASSERT_TRUE(response.ParseFromString(rpc.Messages()[1]));
  EXPECT_EQ(response.response_headers().response().header_mutation().set_headers_size(), 1);
  EXPECT_EQ(rpc.status(), "0");
}

TEST_F(GrpcTest, PluginsSeeMetadataAndPeer) {
  std::string tenant, listener, peer;
  std::vector<std::pair<std::string, std::string>> listed;
  AddPlugin()->process = [&](callout_call_t* call) {
    callout_bytes_t value;
    if (call->host->get_metadata(call, ToBytes("x-tenant"), 0, &value) == CALLOUT_OK) {
      tenant.assign(ToView(value));
    }
    const auto* metadata = static_cast<const callout_rpc_metadata_t*>(
        call->host->get_extension(call->host, CALLOUT_RPC_METADATA));
    callout_bytes_t key;
    for (uint32_t i = 0; metadata->at(call, i, &key, &value) == CALLOUT_OK; ++i) {
      listed.emplace_back(ToView(key), ToView(value));
    }
    listener = Property(call, CALLOUT_LISTENER);
    peer = Property(call, CALLOUT_PEER);
    return CALLOUT_OK;
  };
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin(kProcessPath, {{"x-tenant", "blue"}, {"x-two", "2"}});
  client.h2().Send(id, HeadersMessage(), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(tenant, "blue");
  EXPECT_THAT(listed,
              IsSupersetOf({testing::Pair("x-tenant", "blue"), testing::Pair("x-two", "2")}));
  EXPECT_EQ(listener, "plaintext");
  EXPECT_FALSE(peer.empty());
}

TEST_F(GrpcTest, AResetCancelsTheStream) {
  std::atomic<bool> closed{false};
  FakePlugin* plugin = AddPlugin();
  plugin->process = [](callout_call_t*) { return CALLOUT_OK; };
  plugin->close = [&](callout_call_t*) { closed = true; };
  StartServer();
  ClientEnd client(Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(id).data.empty(); }));
  client.h2().Reset(id);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  // The reset is on its way once a later RPC on the connection has been answered.
  const int32_t later = client.h2().Begin(kProcessPath);
  client.h2().Send(later, HeadersMessage(), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(later).closed; }));
  while (server_->live() != 0) std::this_thread::yield();
  EXPECT_TRUE(closed);
}

TEST_F(GrpcTest, AMessageOverTheLimitEndsTheRpc) {
  options_.message_bytes_max = 1000;
  StartServer();
  EXPECT_EQ(Call(kProcessPath, BodyMessage(std::string(1000, 'x'))).status(), "8");
  EXPECT_EQ(Call(kProcessPath, BodyMessage(std::string(900, 'x'))).status(), "0");
}

TEST_F(GrpcTest, LargeResponsesComeWhole) {
  message_bytes_max_ = 6000000;
  AddPlugin()->process = [](callout_call_t* call) {
    CommonResponse common;
    common.mutable_body_mutation()->set_body(std::string(5000000, 'y'));
    return RespondCommon(call, common);
  };
  StartServer();
  const H2Client::Rpc rpc = Call(kProcessPath, BodyMessage("x", true));
  EXPECT_EQ(rpc.status(), "0");
  ASSERT_THAT(rpc.Messages(), SizeIs(1));
  ProcessingResponse response;
  ASSERT_TRUE(response.ParseFromString(rpc.Messages()[0]));
  EXPECT_EQ(response.request_body().response().body_mutation().body(), std::string(5000000, 'y'));
}

// Its next message is read when the last response has gone past flow control.
TEST_F(GrpcTest, AClientThatTakesNothingIsNotReadFrom) {
  std::atomic<int> calls{0};
  message_bytes_max_ = 6000000;
  AddPlugin()->process = [&](callout_call_t* call) {
    ++calls;
    CommonResponse common;
    common.mutable_body_mutation()->set_body(std::string(1000000, 'y'));
    return RespondCommon(call, common);
  };
  StartServer();
  const Descriptor fd = Pair();
  H2Client client(1000);  // its windows
  const int32_t id = client.Begin(kProcessPath);
  for (int i = 0; i < 10; ++i) client.Send(id, BodyMessage("x"));
  ASSERT_TRUE(Write(fd.get(), client.TakeBytes()));
  while (calls.load() == 0) std::this_thread::yield();
  // Others are served meanwhile, and by the same threads.
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Call("/grpc.health.v1.Health/Check", Framed("")).status(), "0");
  }
  EXPECT_LE(calls.load(), 2);
}

}  // namespace
}  // namespace callout::host
