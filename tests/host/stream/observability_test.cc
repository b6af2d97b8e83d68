// SPDX-License-Identifier: Apache-2.0

// observability_mode: every hook runs, nothing is sent, and no instance has any
// effect on what the others see.
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class ObservabilityTest : public StreamTest {
 protected:
  static ProcessingRequest Observed(ProcessingRequest request) {
    request.set_observability_mode(true);
    return request;
  }

  FakePlugin::Hook Notes(FakePlugin::Hook then = Returns(CALLOUT_OK)) {
    return [this, then](callout_call_t* call) {
      EXPECT_TRUE(call->flags & CALLOUT_CALL_OBSERVABILITY);
      if (IsBodyPhase(call->phase)) {
        seen_.push_back(BodyShown(call));
      } else {
        seen_.push_back(std::to_string(HeadersShown(call).size()));
      }
      return then(call);
    };
  }

  using Seen = std::vector<std::string>;
  Seen seen_;
};

TEST_F(ObservabilityTest, EveryHookRunsAndNothingIsSent) {
  FakePlugin* plugin = AddPlugin();
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    plugin->phases[phase] = Notes(SetsHeader("a", "b"));
  }
  Begin();
  Feed(Observed(Headers(CALLOUT_REQUEST_HEADERS)));
  Feed(Observed(Body(CALLOUT_REQUEST_BODY, "x", false)));
  Feed(Observed(Trailers(CALLOUT_REQUEST_TRAILERS)));
  Feed(Observed(Headers(CALLOUT_RESPONSE_HEADERS)));
  Feed(Observed(Body(CALLOUT_RESPONSE_BODY, "y", false)));
  Feed(Observed(Body(CALLOUT_RESPONSE_BODY, "", true)));
  EXPECT_EQ(seen_, (Seen{"1", "x", "0", "1", "y", "."}));
  EXPECT_TRUE(Take().empty());
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->end()->ok());
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(ObservabilityTest, NoAnswerChangesWhatOthersSee) {
  const FakePlugin::Hook hooks[] = {SetsHeader("a", "b"),
                                    RemovesHeader("k"),
                                    ReplacesBody("other"),
                                    ClearsBody(),
                                    RepliesAtOnce(403),
                                    Returns(CALLOUT_NO_RESPONSE),
                                    Returns(CALLOUT_INTERNAL),
                                    Returns(CALLOUT_PERMISSION_DENIED),
                                    Returns(77),
                                    [](callout_call_t* call) {
                                      SendChunk(call, "x");
                                      return CALLOUT_OK;
                                    }};
  for (const FakePlugin::Hook& hook : hooks) {
    Reset();
    seen_.clear();
    FakePlugin* first = AddPlugin(ErrorPolicy::Action::kFail);
    FakePlugin* second = AddPlugin();
    for (callout_phase_t phase : {CALLOUT_REQUEST_HEADERS, CALLOUT_REQUEST_BODY}) {
      first->phases[phase] = hook;
      second->phases[phase] = Notes();
    }
    Begin();
    Feed(Observed(Headers(CALLOUT_REQUEST_HEADERS, false, {{"k", "v"}})));
    Feed(Observed(Body(CALLOUT_REQUEST_BODY, "x", false)));
    Feed(Observed(Body(CALLOUT_REQUEST_BODY, "", true)));
    EXPECT_EQ(seen_, (Seen{"1", "x", "."}));
    EXPECT_TRUE(Take().empty());
    EXPECT_FALSE(stream_->end().has_value());
  }
}

TEST_F(ObservabilityTest, AGathererGetsTheWholeAndTheOthersTheChunks) {
  for (const bool trailers : {false, true}) {
    Reset();
    seen_.clear();
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes();
    AddGatherer(9)->phases[CALLOUT_REQUEST_BODY] = [this](callout_call_t* call) {
      EXPECT_TRUE(call->flags & CALLOUT_CALL_WHOLE_BODY);
      seen_.push_back("whole " + BodyShown(call));
      return ReplacesBody("other")(call);
    };
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes();
    Begin();
    Feed(Observed(Body(CALLOUT_REQUEST_BODY, "a", false)));
    Feed(Observed(Body(CALLOUT_REQUEST_BODY, "b", trailers ? false : true)));
    if (trailers) Feed(Observed(Trailers(CALLOUT_REQUEST_TRAILERS)));
    EXPECT_EQ(seen_, trailers ? (Seen{"a", "a", "b", "b", "whole ab"})
                              : (Seen{"a", "a", "b.", "whole ab.", "b."}));
    EXPECT_TRUE(Take().empty());
  }
}

TEST_F(ObservabilityTest, ABodyTooLargeForAGathererIsSimplyNotShownToIt) {
  AddGatherer(1)->phases[CALLOUT_REQUEST_BODY] = Notes();
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes();
  Begin();
  Feed(Observed(Body(CALLOUT_REQUEST_BODY, "a", false)));
  Feed(Observed(Body(CALLOUT_REQUEST_BODY, "b", false)));
  Feed(Observed(Body(CALLOUT_REQUEST_BODY, "c", true)));
  EXPECT_EQ(seen_, (Seen{"a", "b", "c."}));
  EXPECT_EQ(FaultCount("body_too_large"), 1);
  EXPECT_FALSE(stream_->end().has_value());
}

TEST_F(ObservabilityTest, ABodyThatDoesNotEndInTimeIsNotShownToAGatherer) {
  AddGatherer(9)->phases[CALLOUT_REQUEST_BODY] = Notes();
  Begin();
  Feed(Observed(Body(CALLOUT_REQUEST_BODY, "a", false)));
  PassDeadline();
  EXPECT_TRUE(Take().empty());
  ASSERT_FALSE(stream_->end().has_value()) << *stream_->end();
  Feed(Observed(Body(CALLOUT_REQUEST_BODY, "b", true)));
  EXPECT_TRUE(seen_.empty());
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(FaultCount("deadline"), 1);
}

TEST_F(ObservabilityTest, DeferredCallsAskForNoTimeAndHoldTheOrder) {
  limits_.defer_budget_ms = 500;
  callout_call_t* deferred = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Notes();
  Begin();
  Feed(Observed(Headers(CALLOUT_REQUEST_HEADERS)));
  EXPECT_FALSE(stream_->idle());
  EXPECT_TRUE(seen_.empty());
  deferred->host->finish(deferred, CALLOUT_INTERNAL);
  Deliver();
  EXPECT_EQ(seen_.size(), 1u);
  EXPECT_TRUE(stream_->idle());
  EXPECT_TRUE(Take().empty());
}

TEST_F(ObservabilityTest, AMissedDeadlineIsOnlyCounted) {
  callout_call_t* deferred = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Feed(Observed(Headers(CALLOUT_REQUEST_HEADERS)));
  PassDeadline();
  EXPECT_EQ(FaultCount("deadline"), 1);
  EXPECT_FALSE(stream_->end().has_value());
  EXPECT_TRUE(stream_->idle());
  EXPECT_EQ(deferred->host->finish(deferred, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
  Deliver();
  EXPECT_TRUE(Take().empty());
}

TEST_F(ObservabilityTest, ARefusedOpenLeavesTheInstanceOut) {
  FakePlugin* plugin = AddPlugin();
  plugin->open = Returns(CALLOUT_PERMISSION_DENIED);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Notes();
  Begin();
  Feed(Observed(Headers(CALLOUT_REQUEST_HEADERS)));
  EXPECT_TRUE(seen_.empty());
  EXPECT_FALSE(stream_->end().has_value());
}

}  // namespace
}  // namespace callout::host
