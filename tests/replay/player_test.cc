// SPDX-License-Identifier: Apache-2.0

#include "host/replay/player.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "host/plugin/call.h"
#include "host/wire/annotations.h"
#include "recorded_exchange.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class PlayerTest : public StreamTest {
 protected:
  Played Play(const RecordedExchange& exchange) {
    Begin();
    stream_.reset();
    const Requests requests(exchange);
    return Player(environment_.get()).Play(exchange, requests);
  }
  static ProcessingResponse Parsed(const Played& played, size_t index) {
    ProcessingResponse response;
    EXPECT_TRUE(response.ParseFromString(played.responses[index].bytes));
    return response;
  }
  // Request headers and a body, each with a response.
  static ExchangeBuilder WithBody(const std::string& body, bool strip) {
    ExchangeBuilder builder;
    ProcessingResponse headers, answer;
    headers.mutable_request_headers();
    answer.mutable_request_body();
    builder.Add(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kBuffered, kBuffered))
        .Add(headers)
        .Add(Body(CALLOUT_REQUEST_BODY, body, true), strip)
        .Add(answer)
        .End(absl::StatusCode::kCancelled, CALLOUT_END_COMPLETED);
    return builder;
  }
};

TEST_F(PlayerTest, GivesTheChainWhatEnvoySent) {
  std::string body;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-a", "1");
  plugins_[0]->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    body = BodyShown(call);
    return RespondCommon(call, CommonResponse());
  };
  const Played played = Play(WithBody("a body", false).exchange());
  ASSERT_THAT(played.responses, SizeIs(2));
  EXPECT_THAT(Mutations(Parsed(played, 0).request_headers().response().header_mutation()),
              ElementsAre("set x-a=1"));
  EXPECT_EQ(played.responses[0].after, 1u);
  EXPECT_EQ(played.responses[1].after, 2u);
  EXPECT_EQ(body, "a body.");
  EXPECT_EQ(played.end, absl::OkStatus());
  EXPECT_FALSE(played.abandoned);
}

TEST_F(PlayerTest, FillsABodyThatWasLeftOutWithZeros) {
  std::string body;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    body = BodyShown(call);
    return RespondCommon(call, CommonResponse());
  };
  Play(WithBody("a body", true).exchange());
  EXPECT_EQ(body, std::string(6, '\0') + ".");
}

TEST_F(PlayerTest, TakesNoMemoryForASizeThatNoBodyHas) {
  std::string body;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    body = BodyShown(call);
    return RespondCommon(call, CommonResponse());
  };
  ExchangeBuilder builder = WithBody("a body", true);
  builder.exchange().messages[2].body_bytes = UINT64_MAX;
  Play(builder.exchange());
  EXPECT_EQ(body, ".");
}

TEST_F(PlayerTest, WaitsForACallThatIsDeferred) {
  std::thread finisher;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    finisher = std::thread([call] {
      SetsHeader("x-late", "1")(call);
      call->host->finish(call, CALLOUT_OK);
    });
    return callout_status_t{CALLOUT_DEFERRED};
  };
  limits_.hook_deadline_ms = 60000;
  const Played played = Play(WithBody("a body", false).exchange());
  finisher.join();
  ASSERT_THAT(played.responses, SizeIs(2));
  EXPECT_THAT(Mutations(Parsed(played, 0).request_headers().response().header_mutation()),
              ElementsAre("set x-late=1"));
}

TEST_F(PlayerTest, WaitsForABlockingHook) {
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-late", "1");
  const Played played = Play(WithBody("a body", false).exchange());
  ASSERT_THAT(played.responses, SizeIs(2));
  EXPECT_THAT(Mutations(Parsed(played, 0).request_headers().response().header_mutation()),
              ElementsAre("set x-late=1"));
}

TEST_F(PlayerTest, StopsAtAnImmediateResponse) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = RepliesAtOnce(403);
  const Played played = Play(WithBody("a body", false).exchange());
  ASSERT_THAT(played.responses, SizeIs(1));
  EXPECT_TRUE(Parsed(played, 0).has_immediate_response());
}

TEST_F(PlayerTest, TellsTheErrorThatEndsTheStream) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_PERMISSION_DENIED);
  const Played played = Play(WithBody("a body", false).exchange());
  EXPECT_EQ(played.end.code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(PlayerTest, PlaysWithoutPlugins) {
  const Played played = Play(WithBody("a body", false).exchange());
  EXPECT_THAT(played.responses, SizeIs(2));
}

TEST(IsTimeRequest, IsOnlyAMessageThatAsksForMoreTime) {
  EXPECT_TRUE(IsTimeRequest(WriteTimeoutResponse(5000)));
  EXPECT_FALSE(IsTimeRequest(""));
  ProcessingResponse response;
  response.mutable_request_headers();
  response.mutable_override_message_timeout()->set_seconds(5);
  EXPECT_FALSE(IsTimeRequest(response.SerializeAsString()));
}

}  // namespace
}  // namespace callout::host
