// SPDX-License-Identifier: Apache-2.0

#include "host/transport/rpc_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "host/transport/builtin_rpcs.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";

class RpcHolderTest : public StreamTest {
 protected:
  ~RpcHolderTest() override { holder_.Reset(); }

  RpcHolder holder_;
};

TEST_F(RpcHolderTest, HoldsNothingAtFirstAndAfterReset) {
  EXPECT_FALSE(holder_);
  Begin();
  holder_.BeginStream(environment_.get(), &rpc_);
  EXPECT_TRUE(holder_);
  holder_->OnHalfClose();
  EXPECT_TRUE(holder_->closed());
  holder_.Reset();
  EXPECT_FALSE(holder_);
}

TEST_F(RpcHolderTest, AStreamIsReachedThroughTheHandler) {
  AddPlugin()->process = SetsHeader("x", "1");
  Begin();
  holder_.BeginStream(environment_.get(), &rpc_);
  EXPECT_TRUE(holder_->wants_message());
  EXPECT_TRUE(holder_->quiet());
  EXPECT_FALSE(holder_->has_output());
  const std::string message = Headers(CALLOUT_REQUEST_HEADERS, true).SerializeAsString();
  holder_->OnMessage(message);
  EXPECT_TRUE(holder_->has_output());
  EXPECT_THAT(holder_->TakeOutput(), SizeIs(1));
  EXPECT_FALSE(holder_->has_output());
  EXPECT_FALSE(holder_->end().has_value());
  holder_->OnHalfClose();
  ASSERT_TRUE(holder_->end().has_value());
  EXPECT_TRUE(holder_->end()->ok());
  EXPECT_TRUE(holder_->closed());
}

// So that a transport does not combine the response with reading on.
TEST_F(RpcHolderTest, AStreamWithACallUnderWayIsNotQuiet) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->process = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  holder_.BeginStream(environment_.get(), &rpc_);
  const std::string message = Headers(CALLOUT_REQUEST_HEADERS, true).SerializeAsString();
  holder_->OnMessage(message);
  ASSERT_NE(deferred, nullptr);
  EXPECT_FALSE(holder_->quiet());
  const uint64_t deadline_ns = holder_->deadline_ns();
  ASSERT_NE(deadline_ns, 0u);
  holder_->OnDeadline(deadline_ns);
  EXPECT_TRUE(holder_->has_output() || holder_->end().has_value());
  EXPECT_EQ(deferred->host->finish(deferred, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
  holder_->OnCancel();
  rpc_.WaitAndDeliver(holder_.operator->());
}

TEST(BuiltinRpcHandler, ADrainTellsTheLastStateAndEndsTheRpc) {
  std::atomic<bool> serving{true};
  RpcHolder holder;
  holder.Begin(MakeBuiltinRpc(kWatch, &serving));
  holder->OnMessage("");
  EXPECT_THAT(holder->TakeOutput(), ElementsAre("\x08\x01"));
  EXPECT_FALSE(holder->quiet());
  serving = false;
  holder->OnDrain();
  EXPECT_THAT(holder->TakeOutput(), ElementsAre("\x08\x02"));
  EXPECT_EQ(holder->end()->code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(holder->wants_message());
  EXPECT_TRUE(holder->closed());
}

TEST(BuiltinRpcHandler, ADrainLeavesTheEndThatIsThere) {
  std::atomic<bool> serving{true};
  const auto rpc = MakeBuiltinRpc("/grpc.health.v1.Health/Check", &serving);
  rpc->OnMessage("");
  rpc->OnDrain();
  EXPECT_TRUE(rpc->end()->ok());
}

}  // namespace
}  // namespace callout::host
