// SPDX-License-Identifier: Apache-2.0

#include "host/transport/rpc_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

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

// What the holder says itself is what its handler says, of either kind.
void ExpectAgrees(const RpcHolder& holder) {
  EXPECT_EQ(holder.wants_message(), holder->wants_message());
  EXPECT_EQ(holder.has_output(), holder->has_output());
  EXPECT_EQ(&holder.end(), &holder->end());
  EXPECT_EQ(holder.closed(), holder->closed());
  EXPECT_EQ(holder.deadline_ns(), holder->deadline_ns());
  EXPECT_EQ(holder.kept_bytes(), holder->kept_bytes());
}

TEST_F(RpcHolderTest, SaysWhatAStreamSays) {
  AddPlugin()->process = SetsHeader("x", "1");
  Begin();
  holder_.BeginStream(environment_.get(), &rpc_);
  ExpectAgrees(holder_);
  const std::string message = Headers(CALLOUT_REQUEST_HEADERS, true).SerializeAsString();
  holder_.OnMessage(message);
  EXPECT_TRUE(holder_.has_output());
  ExpectAgrees(holder_);
  size_t responses = 0;
  holder_.DrainOutput([&](std::string&& response) { responses += response.empty() ? 0 : 1; });
  EXPECT_EQ(responses, 1u);
  EXPECT_FALSE(holder_.has_output());
  holder_->OnHalfClose();
  ExpectAgrees(holder_);
}

// Else one that has been given away would be sent again, as an empty message.
TEST_F(RpcHolderTest, AnOutputThatCannotBeTakenIsGone) {
  AddPlugin()->process = SetsHeader("x", "1");
  Begin();
  holder_.BeginStream(environment_.get(), &rpc_);
  const std::string message = Headers(CALLOUT_REQUEST_HEADERS, true).SerializeAsString();
  holder_.OnMessage(message);
  EXPECT_THROW(holder_.DrainOutput([](std::string&&) { throw std::bad_alloc(); }), std::bad_alloc);
  EXPECT_FALSE(holder_.has_output());
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
  ExpectAgrees(holder);
  std::vector<std::string> responses;
  holder.DrainOutput([&](std::string&& response) { responses.push_back(std::move(response)); });
  EXPECT_THAT(responses, ElementsAre("\x08\x01"));
  ExpectAgrees(holder);
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
