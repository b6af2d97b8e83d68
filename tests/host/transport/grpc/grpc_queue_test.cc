// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_queue.h"

#include <gmock/gmock.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "grpc_fixture.h"
#include "host/transport/builtin_rpcs.h"

namespace callout::host {
namespace {

using ::testing::SizeIs;

// Defers each call, and finishes it on another thread.
class DeferringPlugin {
 public:
  ~DeferringPlugin() {
    for (std::thread& thread : threads_) thread.join();
  }
  callout_status_t Process(callout_call_t* call) {
    std::lock_guard<std::mutex> lock(mutex_);
    threads_.emplace_back([call] {
      CommonResponse common;
      AddSet(&common, "x", "1");
      RespondCommon(call, common);
      call->host->finish(call, CALLOUT_OK);
    });
    return CALLOUT_DEFERRED;
  }

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

TEST_F(GrpcTest, WhatOtherThreadsFinishIsAnswered) {
  DeferringPlugin deferring;
  AddPlugin()->process = [&](callout_call_t* call) { return deferring.Process(call); };
  limits_.hook_deadline_ms = 60000;
  StartServer();
  ClientEnd client(Pair());
  std::vector<int32_t> ids;
  for (int i = 0; i < 50; ++i) {
    ids.push_back(client.h2().Begin(kProcessPath));
    client.h2().Send(ids.back(), HeadersMessage(), true);
  }
  for (const int32_t id : ids) {
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    EXPECT_EQ(client.h2().rpc(id).status(), "0");
    ASSERT_THAT(client.h2().rpc(id).Messages(), SizeIs(1));
    ProcessingResponse response;
    ASSERT_TRUE(response.ParseFromString(client.h2().rpc(id).Messages()[0]));
    EXPECT_EQ(response.request_headers().response().header_mutation().set_headers_size(), 1);
  }
}

TEST_F(GrpcTest, ADeferredCallIsAnsweredByItsDeadline) {
  std::atomic<callout_call_t*> deferred{nullptr};
  AddPlugin(ErrorPolicy::Action::kContinue)->process = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  limits_.hook_deadline_ms = 1;
  StartServer();
  const H2Client::Rpc rpc = Call(kProcessPath, HeadersMessage());
  EXPECT_EQ(rpc.status(), "0");
  EXPECT_THAT(rpc.Messages(), SizeIs(1));
  EXPECT_EQ(server_->live(), 1u) << "the plugin still holds the call";
  deferred.load()->host->finish(deferred, CALLOUT_OK);
  while (server_->live() != 0) std::this_thread::yield();
}

// gRPC aborts the process if anything is started on a queue that is shut down, and other
// threads know nothing of that: health changes, and Stop() itself tells the thread.
TEST_F(GrpcTest, WhatIsToldAfterTheEndIsTooLateAndHarmless) {
  StartServer();
  EXPECT_EQ(Call(kProcessPath, HeadersMessage()).status(), "0");
  std::atomic<bool> ended{false};
  std::thread other([&] {
    while (!ended) server_->SetServing(true);
  });
  EXPECT_TRUE(server_->Drain(60000));
  server_->SetServing(false);
  EXPECT_EQ(server_->ListRpcs(10, 1).silent_threads, 2U);
  ended = true;
  other.join();
}

}  // namespace
}  // namespace callout::host
