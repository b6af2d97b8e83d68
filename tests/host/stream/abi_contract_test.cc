// SPDX-License-Identifier: Apache-2.0

// What <callout/plugin.h> promises of streams. A DISABLED_ test states a promise that the
// stream core does not keep yet; it is enabled with the code that keeps it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "host/plugin/instance.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

using AbiContract = StreamTest;

TEST_F(AbiContract, DISABLED_EachCallOfAStreamHasAnAddressOfItsOwn) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* first = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    first = call;
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    EXPECT_NE(call, first);
    return CALLOUT_OK;
  };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
}

// A plugin that finishes a call twice must not settle the one after it, which is about to
// refuse the response.
TEST_F(AbiContract, DISABLED_AStaleFinishSettlesNoOtherCall) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* stale = nullptr;
  callout_call_t* open = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    stale = call;
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_OK);
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    open = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(stale->host->finish(stale, CALLOUT_INTERNAL), CALLOUT_FAILED_PRECONDITION);
  Deliver();
  EXPECT_TRUE(Take().empty()) << "the response still waits for its own finish()";
  RepliesAtOnce(403)(open);
  EXPECT_EQ(open->host->finish(open, CALLOUT_OK), CALLOUT_OK);
  Deliver();
  const auto told = Take();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].immediate_response().status().code(), 403);
  EXPECT_THAT(metrics_.Text(), HasSubstr("kind=\"stale_finish\",plugin=\"fake0\"} 1"));
}

TEST_F(AbiContract, DISABLED_AnInstanceThatMissedADeadlineLosesThatCallOnly) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  callout_call_t* late = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    late = call;
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = RepliesAtOnce(403);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(late->host->finish(late, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
  Deliver();
  EXPECT_EQ(Exchange(Headers(CALLOUT_RESPONSE_HEADERS)).immediate_response().status().code(), 403);
}

TEST_F(AbiContract, DISABLED_ResponsePhasesHaveTheRequestsHeadersOnWish) {
  ASSERT_NE(Instance::kGrants & CALLOUT_WANT_REQUEST_HEADERS, 0u);
  for (const bool wishes : {false, true}) {
    FakePlugin* plugin = AddPlugin();
    plugin->create = [=](callout_create_args_t* args) {
      if (wishes) args->wants |= CALLOUT_WANT_REQUEST_HEADERS;
    };
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    plugin->phases[CALLOUT_RESPONSE_HEADERS] = [=](callout_call_t* call) {
      EXPECT_EQ(call->request_headers.size > 0, wishes);
      return CALLOUT_OK;
    };
    Begin();
    Exchange(Headers(CALLOUT_REQUEST_HEADERS));
    Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
    stream_->OnHalfClose();
    stream_.reset();
    plugins_.clear();
    settings_.clear();
  }
}

TEST_F(AbiContract, DISABLED_TheEndTellsOutcomeStatusAndBytes) {
  FakePlugin* plugin = AddPlugin();
  callout_stream_end_t end = {};
  plugin->close = [&](callout_call_t* call) { end = *call->end; };
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kBuffered, 0));
  Exchange(Body(CALLOUT_REQUEST_BODY, "seven b", true));
  stream_->OnHalfClose();
  EXPECT_EQ(end.outcome, uint32_t{CALLOUT_END_COMPLETED});
  EXPECT_EQ(end.status, CALLOUT_OK);
  EXPECT_EQ(end.request_body_bytes, 7u);
  EXPECT_GE(end.stream_ns, end.instance_ns);
}

}  // namespace
}  // namespace callout::host
