// SPDX-License-Identifier: Apache-2.0

// What tests of unary services share: a UnaryRpc in the place of the stream.
#ifndef CALLOUT_TESTS_HOST_UNARY_UNARY_FIXTURE_H_
#define CALLOUT_TESTS_HOST_UNARY_UNARY_FIXTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "host/unary/unary_rpc.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {

inline callout_status_t RespondWith(callout_call_t* call, callout_field_t field,
                                    const std::string& payload) {
  const callout_bytes_t part = ToBytes(payload);
  return call->host->respond(call, field, &part, 1);
}

class UnaryTest : public StreamTest {
 protected:
  ~UnaryTest() override { Finish(); }
  virtual std::unique_ptr<UnaryService> MakeService() = 0;

  // One RPC by the chain of today, from its request to its end or to where it waits.
  void AskBytes(const std::string& bytes) {
    if (environment_ == nullptr) Begin();
    Finish();
    rpc_call_ = std::make_unique<UnaryRpc>(environment_.get(), &rpc_, MakeService());
    bytes_.assign(bytes.begin(), bytes.end());
    bytes_.shrink_to_fit();
    rpc_call_->OnMessage({bytes_.data(), bytes_.size()});
  }

  // The response of an RPC that ended with OK, as a message.
  template <class Message>
  Message ToldAs() {
    Message response;
    if (!rpc_call_->end().has_value()) {
      ADD_FAILURE() << "it has not ended";
      return response;
    }
    EXPECT_EQ(*rpc_call_->end(), absl::OkStatus());
    const auto output = rpc_call_->TakeOutput();
    EXPECT_EQ(output.size(), 1u);
    EXPECT_TRUE(!output.empty() && response.ParseFromString(output[0]));
    return response;
  }

  void Reset() {
    Finish();  // it holds instances of the plugins
    StreamTest::Reset();
  }

  void Finish() {
    if (rpc_call_ == nullptr) return;
    if (!rpc_call_->closed()) {
      rpc_call_->OnCancel();
      while (!rpc_call_->closed() && !HasFatalFailure()) rpc_.WaitAndDeliver(rpc_call_.get());
    }
    rpc_call_.reset();
  }

  std::vector<char> bytes_;
  std::unique_ptr<UnaryRpc> rpc_call_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_UNARY_UNARY_FIXTURE_H_
