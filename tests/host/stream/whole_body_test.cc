// SPDX-License-Identifier: Apache-2.0

// Instances that want whole bodies (whole_body_bytes_max), in every body mode.
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class WholeBodyTest : public StreamTest {
 protected:
  // Gathers up to 9 bytes; what its body hook is shown goes to `seen_`.
  FakePlugin* AddNotingGatherer(FakePlugin::Hook then = Returns(CALLOUT_OK),
                                InstanceSettings settings = InstanceSettings()) {
    FakePlugin* plugin = AddGatherer(9, settings);
    plugin->phases[CALLOUT_REQUEST_BODY] = [this, then](callout_call_t* call) {
      const bool whole = (call->flags & CALLOUT_CALL_WHOLE_BODY) != 0;
      seen_.push_back((whole ? "whole " : "part ") + BodyShown(call));
      return then(call);
    };
    return plugin;
  }

  FakePlugin* AddNotingReader(FakePlugin::Hook then = Returns(CALLOUT_OK)) {
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_BODY] = [this, then](callout_call_t* call) {
      seen_.push_back("chunk " + BodyShown(call));
      return then(call);
    };
    return plugin;
  }

  static InstanceSettings TooLarge(ErrorPolicy::Action action, int http_status = 413) {
    InstanceSettings settings;
    settings.too_large = {action, http_status};
    return settings;
  }

  void BeginRequest(int mode) {
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), mode, kNone));
    Take();
  }

  // Without the answers to request headers, which in FULL_DUPLEX_STREAMED wait for the
  // body.
  std::vector<ProcessingResponse> Take() {
    std::vector<ProcessingResponse> responses = StreamTest::Take();
    std::erase_if(responses, [](const auto& response) { return response.has_request_headers(); });
    return responses;
  }

  // Feeds a request's body in chunks, the last with the end.
  void FeedChunks(const std::vector<std::string>& chunks) {
    for (size_t i = 0; i < chunks.size(); ++i) {
      Feed(Body(CALLOUT_REQUEST_BODY, chunks[i], i + 1 == chunks.size()));
    }
  }

  using Seen = std::vector<std::string>;
  Seen seen_;
};

TEST_F(WholeBodyTest, StreamedChunksAreTakenOutAndGoBackWithTheLast) {
  AddNotingGatherer();
  BeginRequest(kStreamed);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  EXPECT_EQ(BodyTold(Take()), "clear");  // at once: Envoy's timer does not wait
  Feed(Body(CALLOUT_REQUEST_BODY, "two", false));
  EXPECT_EQ(BodyTold(Take()), "clear");
  Feed(Body(CALLOUT_REQUEST_BODY, "", true));
  EXPECT_EQ(BodyTold(Take()), "=onetwo");
  EXPECT_EQ(seen_, (Seen{"whole onetwo."}));
}

TEST_F(WholeBodyTest, DuplexChunksAreHeld) {
  AddNotingGatherer();
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "two", false));
  EXPECT_TRUE(Take().empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "end", true));
  EXPECT_EQ(BodyTold(Take()), "onetwoend.");
  EXPECT_EQ(seen_, (Seen{"whole onetwoend."}));
}

TEST_F(WholeBodyTest, ABufferedBodyIsWholeAsItComes) {
  for (const bool end_of_stream : {true, false}) {  // false: trailers follow
    Reset();
    seen_.clear();
    AddNotingGatherer();
    BeginRequest(kBuffered);
    Feed(Body(CALLOUT_REQUEST_BODY, "all", end_of_stream));
    EXPECT_EQ(BodyTold(Take()), "-");
    EXPECT_EQ(seen_, (Seen{end_of_stream ? "whole all." : "whole all"}));
  }
}

TEST_F(WholeBodyTest, ABufferedPartIsNotCalledWhole) {
  AddNotingGatherer();
  BeginRequest(kPartial);
  Feed(Body(CALLOUT_REQUEST_BODY, "part", false));
  EXPECT_EQ(seen_, (Seen{"part part"}));
}

TEST_F(WholeBodyTest, AnswersReplaceTheWhole) {
  const std::vector<std::pair<FakePlugin::Hook, std::pair<std::string, std::string>>> rows = {
      {ReplacesBody("new"), {"clear=new", "new."}},
      {ClearsBody(), {"clearclear", "."}},
      {SetsHeader("a", "b"), {"clear?", "onetwo."}},  // too late in STREAMED
  };
  for (const auto& [hook, told] : rows) {
    for (const int mode : {kStreamed, kDuplex}) {
      Reset();
      AddNotingGatherer(hook);
      BeginRequest(mode);
      FeedChunks({"one", "two"});
      EXPECT_EQ(BodyTold(Take()), mode == kStreamed ? told.first : told.second);
    }
  }
}

TEST_F(WholeBodyTest, ABodyInOnePieceIsNotCopied) {
  AddGatherer(9)->phases[CALLOUT_REQUEST_BODY] = [this](callout_call_t* call) {
    EXPECT_GE(call->message.data, message_.data());
    EXPECT_LE(call->message.data + call->message.size, message_.data() + message_.size());
    return CALLOUT_OK;
  };
  for (const int mode : {kStreamed, kDuplex, kBuffered}) {
    BeginRequest(mode);
    Feed(Body(CALLOUT_REQUEST_BODY, "piece", true));
    EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? "piece." : "-");
  }
}

TEST_F(WholeBodyTest, AnEmptyBodyIsACallToo) {
  AddNotingGatherer();
  BeginRequest(kStreamed);
  Feed(Body(CALLOUT_REQUEST_BODY, "", true));
  EXPECT_EQ(BodyTold(Take()), "-");
  EXPECT_EQ(seen_, (Seen{"whole ."}));
}

TEST_F(WholeBodyTest, DirectionsAreGatheredApart) {
  FakePlugin* plugin = AddNotingGatherer();
  plugin->phases[CALLOUT_RESPONSE_BODY] = plugin->phases[CALLOUT_REQUEST_BODY];
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kDuplex));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Body(CALLOUT_RESPONSE_BODY, "x", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "b", true));
  EXPECT_EQ(BodyTold(Take()), "ab.");
  Feed(Body(CALLOUT_RESPONSE_BODY, "y", true));
  EXPECT_EQ(BodyTold(Take()), "?xy.");  // the held headers of the response
  EXPECT_EQ(seen_, (Seen{"whole ab.", "whole xy."}));
}

// --- Trailers -------------------------------------------------------------------

TEST_F(WholeBodyTest, InDuplexTheBodyGoesOutBeforeTheTrailersAnswer) {
  FakePlugin* plugin = AddNotingGatherer(ReplacesBody("new"));
  plugin->phases[CALLOUT_REQUEST_TRAILERS] = [this](callout_call_t*) {
    seen_.push_back("trailers");
    return CALLOUT_OK;
  };
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "two", false));
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  EXPECT_EQ(seen_, (Seen{"whole onetwo", "trailers"}));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(BodyTold({responses[0]}), "new|");
  EXPECT_TRUE(responses[1].has_request_trailers());
}

TEST_F(WholeBodyTest, ABodyThatIsLeftGoesOutBeforeTheTrailersAnswerToo) {
  AddNotingGatherer();
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(BodyTold({responses[0]}), "one|");
}

TEST_F(WholeBodyTest, BeforeTrailersTheBodyPassesTheLaterInstances) {
  AddNotingReader();
  AddNotingGatherer(ReplacesBody("new"));
  AddNotingGatherer();
  AddNotingReader();
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "two", false));
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  EXPECT_EQ(seen_, (Seen{"chunk one", "chunk two", "whole onetwo", "whole new", "chunk new"}));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(BodyTold({responses[0]}), "new|");
}

TEST_F(WholeBodyTest, InStreamedModeTrailersAfterAGatheredBodyFailTheStream) {
  AddNotingGatherer();
  BeginRequest(kStreamed);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  EXPECT_EQ(BodyTold(Take()), "clear?");
  EXPECT_FALSE(stream_->end().has_value());  // refused by an immediate response
  EXPECT_EQ(FaultCount("body_lost"), 1);
  EXPECT_TRUE(seen_.empty());
}

TEST_F(WholeBodyTest, AHalfCloseInMidBodyIsNotAnEndWithOk) {
  AddNotingGatherer();
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  stream_->OnHalfClose();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kAborted);
}

// --- The limit ------------------------------------------------------------------

TEST_F(WholeBodyTest, BodiesMayBeAsLargeAsTheLimitAndNoLarger) {
  for (const int mode : {kStreamed, kDuplex, kBuffered}) {
    for (const size_t size : {8, 9, 10}) {
      Reset();
      seen_.clear();
      AddNotingGatherer(Returns(CALLOUT_OK), TooLarge(ErrorPolicy::Action::kContinue));
      BeginRequest(mode);
      const std::string body(size, 'x');
      Feed(Body(CALLOUT_REQUEST_BODY, body, true));
      EXPECT_EQ(seen_, size > 9 ? Seen{} : Seen{"whole " + body + "."});
      EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? body + "." : "-");
      if (mode == kBuffered) continue;
      BeginRequest(mode);
      seen_.clear();
      FeedChunks({body.substr(0, 4), body.substr(4)});
      EXPECT_EQ(seen_, size > 9 ? Seen{} : Seen{"whole " + body + "."});
      EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? body + "." : "clear=" + body);
    }
  }
  EXPECT_EQ(FaultCount("body_too_large"), 5);
}

TEST_F(WholeBodyTest, AboveTheLimitTheRestPassesUnderContinue) {
  for (const int mode : {kStreamed, kDuplex}) {
    Reset();
    seen_.clear();
    AddNotingGatherer(Returns(CALLOUT_OK), TooLarge(ErrorPolicy::Action::kContinue));
    AddNotingReader();
    BeginRequest(mode);
    FeedChunks({"aaaa", "bbbb", "cccc", "dddd", ""});
    EXPECT_EQ(seen_, (Seen{"chunk aaaabbbbcccc", "chunk dddd", "chunk ."}));
    EXPECT_EQ(BodyTold(Take()),
              mode == kDuplex ? "aaaabbbbcccc|dddd|." : "clearclear=aaaabbbbcccc--");
  }
  EXPECT_EQ(FaultCount("body_too_large"), 2);
}

TEST_F(WholeBodyTest, AboveTheLimitTheRequestIsDenied) {
  for (const int mode : {kStreamed, kDuplex, kBuffered}) {
    Reset();
    AddNotingGatherer(Returns(CALLOUT_OK), TooLarge(ErrorPolicy::Action::kDeny, 422));
    BeginRequest(mode);
    const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "0123456789", true));
    EXPECT_EQ(response.immediate_response().status().code(), 422);
    EXPECT_EQ(response.immediate_response().details(), "callout_body_too_large");
    EXPECT_FALSE(stream_->end().has_value());
  }
}

TEST_F(WholeBodyTest, TheDefaultAboveTheLimitIs413) {
  AddNotingGatherer();
  BeginRequest(kStreamed);
  const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "0123456789", true));
  EXPECT_EQ(response.immediate_response().status().code(), 413);
}

TEST_F(WholeBodyTest, AboveTheLimitTheStreamFails) {
  AddNotingGatherer(Returns(CALLOUT_OK), TooLarge(ErrorPolicy::Action::kFail));
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "01234", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "56789", false));
  EXPECT_EQ(Take().at(0).immediate_response().status().code(), 413);
}

TEST_F(WholeBodyTest, TheStreamsMemoryIsALimitToo) {
  limits_.stream_memory_bytes_max = 10;
  AddGatherer(1000, TooLarge(ErrorPolicy::Action::kContinue))->phases[CALLOUT_REQUEST_BODY] =
      Returns(CALLOUT_OK);
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "0123456789", false));
  EXPECT_TRUE(Take().empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "x", true));
  EXPECT_EQ(BodyTold(Take()), "0123456789x.");
}

// --- Several instances ------------------------------------------------------------

TEST_F(WholeBodyTest, TwoGatherersAreCalledOnceEach) {
  for (const int mode : {kStreamed, kDuplex}) {
    Reset();
    seen_.clear();
    AddNotingGatherer(ReplacesBody("first"));
    AddNotingGatherer();
    BeginRequest(mode);
    FeedChunks({"one", "two", ""});
    EXPECT_EQ(seen_, (Seen{"whole onetwo.", "whole first."}));
    EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? "first." : "clearclear=first");
  }
}

TEST_F(WholeBodyTest, AReaderOfChunksBeforeAGathererSeesEach) {
  for (const int mode : {kStreamed, kDuplex}) {
    Reset();
    seen_.clear();
    AddNotingReader([](callout_call_t* call) {
      return BodyShown(call) == "two" ? ReplacesBody("2")(call) : CALLOUT_OK;
    });
    AddNotingGatherer();
    BeginRequest(mode);
    FeedChunks({"one", "two", "end"});
    EXPECT_EQ(seen_, (Seen{"chunk one", "chunk two", "chunk end.", "whole one2end."}));
    EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? "one2end." : "clearclear=one2end");
  }
}

TEST_F(WholeBodyTest, AReaderOfChunksAfterAGathererSeesTheWhole) {
  for (const int mode : {kStreamed, kDuplex}) {
    Reset();
    seen_.clear();
    AddNotingGatherer();
    AddNotingReader();
    BeginRequest(mode);
    FeedChunks({"one", "two", "end"});
    EXPECT_EQ(seen_, (Seen{"whole onetwoend.", "chunk onetwoend."}));
    EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? "onetwoend." : "clearclear=onetwoend");
  }
}

TEST_F(WholeBodyTest, WhatIsDroppedAtTheEndDoesNotDropWhatWasGathered) {
  AddNotingReader([](callout_call_t* call) {
    return (call->flags & CALLOUT_CALL_LAST) != 0 ? CALLOUT_NO_RESPONSE : CALLOUT_OK;
  });
  AddNotingGatherer();
  BeginRequest(kDuplex);
  FeedChunks({"one", "two"});
  EXPECT_EQ(seen_, (Seen{"chunk one", "chunk two.", "whole one."}));
  EXPECT_EQ(BodyTold(Take()), "one.");
}

TEST_F(WholeBodyTest, GathersWhatAnEarlierInstanceSends) {
  AddNotingReader([](callout_call_t* call) {
    SendChunk(call, "+");
    return CALLOUT_OK;
  });
  AddNotingGatherer();
  BeginRequest(kDuplex);
  FeedChunks({"one", "two"});
  EXPECT_EQ(seen_.back(), "whole +one+two.");
  EXPECT_EQ(BodyTold(Take()), "+one+two.");
}

// --- Faults -----------------------------------------------------------------------

TEST_F(WholeBodyTest, AFaultUnderContinueGivesTheGatheredBodyBack) {
  for (const int mode : {kStreamed, kDuplex}) {
    Reset();
    InstanceSettings settings;
    settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
    AddNotingGatherer(Returns(CALLOUT_INTERNAL), settings);
    BeginRequest(mode);
    FeedChunks({"one", "two"});
    EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? "onetwo." : "clear=onetwo");
  }
}

TEST_F(WholeBodyTest, WhatIsGivenBackHasTheChangesOfInstancesBefore) {
  AddNotingReader([](callout_call_t* call) {
    return BodyShown(call) == "two." ? ReplacesBody("2")(call) : CALLOUT_OK;
  });
  InstanceSettings settings;
  settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue};
  FakePlugin* gatherer = AddGatherer(100, settings);
  gatherer->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  gatherer->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  gatherer->open = Returns(CALLOUT_INTERNAL);
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  Feed(Body(CALLOUT_REQUEST_BODY, "two", true));
  auto responses = Take();
  std::erase_if(responses, [](const auto& response) { return response.has_response_headers(); });
  EXPECT_EQ(BodyTold(responses), "one2.");
}

TEST_F(WholeBodyTest, ABodyHeldForAnInstanceThatRefusesTheStreamGoesOutAllTheSame) {
  InstanceSettings settings;
  settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
  FakePlugin* plugin = AddNotingGatherer(Returns(CALLOUT_OK), settings);
  plugin->open = Returns(CALLOUT_UNAVAILABLE);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  BeginRequest(kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(Take().size(), 1u);
  Feed(Body(CALLOUT_REQUEST_BODY, "two", true));
  EXPECT_EQ(BodyTold(Take()), "onetwo.");
}

}  // namespace
}  // namespace callout::host
