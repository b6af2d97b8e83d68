// SPDX-License-Identifier: Apache-2.0

// The two directions of a stream, and headers that are held for a body.
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class PipelineTest : public StreamTest {
 protected:
  // Defers, and leaves the call in `*call`.
  static FakePlugin::Hook Defers(callout_call_t** call) {
    return [call](callout_call_t* deferred) {
      *call = deferred;
      return CALLOUT_DEFERRED;
    };
  }
  void Finish(callout_call_t* call) {
    call->host->finish(call, CALLOUT_OK);
    Deliver();
  }
  FakePlugin* AddContinuingGatherer() {
    InstanceSettings settings;
    settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue};
    return AddGatherer(100, settings);
  }
  // Says dynamic metadata with one name, and a mode override, which counts for headers only.
  static void SaysBeside(callout_call_t* call, const std::string& name) {
    google::protobuf::Struct metadata;
    (*metadata.mutable_fields())[name].set_string_value("1");
    const std::string bytes = metadata.SerializeAsString();
    EXPECT_EQ(call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, ToBytes(bytes)), CALLOUT_OK);
    EXPECT_EQ(
        call->host->annotate(call, CALLOUT_MODE_OVERRIDE, ToBytes(std::string_view("\x20\x01", 2))),
        CALLOUT_OK);
  }
  static std::vector<std::string> Beside(const ProcessingResponse& response) {
    std::vector<std::string> names;
    for (const auto& [name, value] : response.dynamic_metadata().fields()) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }
  void BeginDuplex() {
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kDuplex));
  }
};

using ResponseKind = ProcessingResponse::ResponseCase;

std::vector<ResponseKind> Kinds(const std::vector<ProcessingResponse>& responses) {
  std::vector<ResponseKind> kinds;
  for (const auto& response : responses) kinds.push_back(response.response_case());
  return kinds;
}

TEST_F(PipelineTest, HeadersWaitForTheWholeBodyAndGoOutFirstWithWhatItsHookDoes) {
  FakePlugin* plugin = AddGatherer(100);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-first", "1");
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    CommonResponse common;
    AddSet(&common, "x-model", BodyShown(call));
    common.set_clear_route_cache(true);
    return RespondCommon(call, common);
  };
  BeginDuplex();
  EXPECT_TRUE(Take().empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "lla", false));
  EXPECT_TRUE(Take().empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "ma", true));
  const auto responses = Take();
  ASSERT_EQ(Kinds(responses),
            (std::vector<ResponseKind>{ResponseKind::kRequestHeaders, ResponseKind::kRequestBody}));
  const auto& common = responses[0].request_headers().response();
  EXPECT_EQ(Mutations(common.header_mutation()),
            (std::vector<std::string>{"set x-first=1", "set x-model=llama."}));
  EXPECT_TRUE(common.clear_route_cache());
  EXPECT_EQ(BodyTold({responses[1]}), "llama.");
  EXPECT_TRUE(stream_->idle());
}

TEST_F(PipelineTest, HeldHeadersGoOnWhenTrailersEndAnEmptyBody) {
  AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  BeginDuplex();
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  EXPECT_EQ(Kinds(Take()), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders,
                                                      ResponseKind::kRequestTrailers}));
}

TEST_F(PipelineTest, HeldHeadersPassLaterInstancesAsTheBodyHookLeavesThem) {
  AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-model", "m");
  Pairs seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&seen](callout_call_t* call) {
    seen = HeadersShown(call);
    return CALLOUT_OK;
  };
  BeginDuplex();
  EXPECT_TRUE(seen.empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "all", true));
  EXPECT_EQ(seen, (Pairs{{":path", "/"}, {"x-model", "m"}}));
  EXPECT_EQ(Take().size(), 2u);
}

TEST_F(PipelineTest, ChunkwiseInstancesMayHoldTheHeadersThemselves) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  std::string text;
  plugin->phases[CALLOUT_REQUEST_BODY] = [&text](callout_call_t* call) -> callout_status_t {
    text += BodyShown(call);
    if (text.size() < 4) return CALLOUT_NO_RESPONSE;
    CommonResponse common;
    AddSet(&common, "x-first-bytes", text);
    common.mutable_body_mutation()->mutable_streamed_response()->set_body(text);
    return RespondCommon(call, common);
  };
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", false));
  EXPECT_TRUE(Take().empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "cd", false));
  const auto responses = Take();
  ASSERT_EQ(Kinds(responses),
            (std::vector<ResponseKind>{ResponseKind::kRequestHeaders, ResponseKind::kRequestBody}));
  EXPECT_EQ(Mutations(responses[0].request_headers().response().header_mutation()),
            (std::vector<std::string>{"set x-first-bytes=abcd"}));
  EXPECT_EQ(BodyTold({responses[1]}), "abcd|");
}

// What send() says ahead counts like the rest of the body's response.
TEST_F(PipelineTest, AHeaderThatIsSentAheadGoesOutWithHeldHeaders) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    envoy::service::ext_proc::v3::BodyResponse answer;
    AddSet(answer.mutable_response(), "x-a", "1");
    answer.mutable_response()->mutable_body_mutation()->mutable_streamed_response()->set_body("a");
    const std::string payload = answer.SerializeAsString();
    const callout_bytes_t part = ToBytes(payload);
    EXPECT_EQ(call->host->send(call, CALLOUT_REQUEST_BODY_RESPONSE, &part, 1), CALLOUT_OK);
    return CALLOUT_NO_RESPONSE;
  };
  Pairs seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&seen](callout_call_t* call) {
    seen = HeadersShown(call);
    return CALLOUT_OK;
  };
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "b", false));
  const auto responses = Take();
  ASSERT_EQ(Kinds(responses),
            (std::vector<ResponseKind>{ResponseKind::kRequestHeaders, ResponseKind::kRequestBody}));
  EXPECT_EQ(Mutations(responses[0].request_headers().response().header_mutation()),
            (std::vector<std::string>{"set x-a=1"}));
  EXPECT_EQ(seen, (Pairs{{":path", "/"}, {"x-a", "1"}}));
  EXPECT_EQ(BodyTold({responses[1]}), "a|");
  // The headers have gone.
  Feed(Body(CALLOUT_REQUEST_BODY, "b", false));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(FaultCount("late_header"), 1);
}

// The rest would be another body than the plugin's.
TEST_F(PipelineTest, APieceThatIsNotSentEndsTheBodyUnderContinueToo) {
  for (const bool malformed : {false, true}) {
    Reset();
    FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
    plugin->phases[CALLOUT_REQUEST_BODY] = [malformed](callout_call_t* call) {
      envoy::service::ext_proc::v3::BodyResponse answer;
      AddSet(answer.mutable_response(), "x-a", "1");
      answer.mutable_response()->mutable_body_mutation()->mutable_streamed_response()->set_body(
          "first");
      const std::string payload = malformed ? "\x0a" : answer.SerializeAsString();
      const callout_bytes_t part = ToBytes(payload);
      EXPECT_EQ(call->host->send(call, CALLOUT_REQUEST_BODY_RESPONSE, &part, 1), CALLOUT_OK);
      return ReplacesBody("second")(call);
    };
    BeginDuplex();
    Take();
    Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
    EXPECT_TRUE(stream_->end().has_value()) << malformed;
    for (const ProcessingResponse& response : Take()) EXPECT_FALSE(response.has_request_body());
  }
}

TEST_F(PipelineTest, APartOfAWholeBodyThatIsSentAheadIsNotWholeToTheNext) {
  AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    EXPECT_NE(call->flags & CALLOUT_CALL_WHOLE_BODY, 0u);
    SendChunk(call, "first");
    return ReplacesBody("second")(call);
  };
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&seen](callout_call_t* call) {
    const bool whole = (call->flags & CALLOUT_CALL_WHOLE_BODY) != 0;
    seen.push_back(BodyShown(call) + (whole ? " whole" : ""));
    return CALLOUT_OK;
  };
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "b", true));
  EXPECT_EQ(seen, (std::vector<std::string>{"first", "second."}));
}

// --- Metadata ---------------------------------------------------------------------

TEST_F(PipelineTest, WhatABodyCallSaysBesideGoesOutWithHeadersThatWaitForIt) {
  FakePlugin* chunkwise = AddPlugin();
  int chunks = 0;
  chunkwise->phases[CALLOUT_REQUEST_BODY] = [&chunks](callout_call_t* call) {
    SaysBeside(call, "chunk" + std::to_string(chunks++));
    return CALLOUT_OK;
  };
  AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    SaysBeside(call, "whole");
    return CALLOUT_OK;
  };
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  EXPECT_TRUE(Take().empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "b", true));
  const auto responses = Take();
  ASSERT_EQ(Kinds(responses),
            (std::vector<ResponseKind>{ResponseKind::kRequestHeaders, ResponseKind::kRequestBody}));
  EXPECT_EQ(Beside(responses[0]), (std::vector<std::string>{"chunk0", "chunk1", "whole"}));
  EXPECT_FALSE(responses[0].has_mode_override());
  EXPECT_TRUE(Beside(responses[1]).empty());
  EXPECT_EQ(BodyTold({responses[1]}), "ab.");
}

TEST_F(PipelineTest, WhatABodyCallSaysBesideCountsMoreThanWhatTheHeadersCallSaid) {
  FakePlugin* plugin = AddGatherer(100);
  const auto says = [](const std::string& verdict) {
    return [verdict](callout_call_t* call) {
      google::protobuf::Struct metadata;
      (*metadata.mutable_fields())["verdict"].set_string_value(verdict);
      const std::string bytes = metadata.SerializeAsString();
      return call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, ToBytes(bytes));
    };
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = says("pending");
  plugin->phases[CALLOUT_REQUEST_BODY] = says("attack");
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", true));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(responses[0].dynamic_metadata().fields().at("verdict").string_value(), "attack");
  EXPECT_EQ(stream_->kept_bytes(), 0u);
}

TEST_F(PipelineTest, WhatInstancesSaidBesideABodyGoesOutWithARefusalByALaterOne) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    SaysBeside(call, "verdict");
    return CALLOUT_OK;
  };
  AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = RepliesAtOnce(403);
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", true));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].immediate_response().status().code(), 403);
  EXPECT_EQ(Beside(responses[0]), (std::vector<std::string>{"verdict"}));
}

// The kept chunk is done with before the one ahead of it.
TEST_F(PipelineTest, WhatIsSaidBesideAKeptChunkCountsMoreThanWhatWasSaidBefore) {
  int chunks = 0;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&chunks](callout_call_t* call) {
    google::protobuf::Struct metadata;
    (*metadata.mutable_fields())["chunk"].set_number_value(++chunks);
    const std::string bytes = metadata.SerializeAsString();
    EXPECT_EQ(call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, ToBytes(bytes)), CALLOUT_OK);
    return chunks == 1 ? CALLOUT_OK : CALLOUT_NO_RESPONSE;
  };
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Defers(&deferred);
  BeginDuplex();
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "b", false));
  EXPECT_TRUE(Take().empty());
  Finish(deferred);
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].dynamic_metadata().fields().at("chunk").number_value(), 2);
}

TEST_F(PipelineTest, WhatIsSaidBesideAKeptChunkGoesOutWithTheNextResponse) {
  int chunks = 0;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&chunks](callout_call_t* call) {
    SaysBeside(call, "chunk" + std::to_string(chunks++));
    return (call->flags & CALLOUT_CALL_LAST) != 0 ? CALLOUT_OK : CALLOUT_NO_RESPONSE;
  };
  BeginDuplex();
  EXPECT_EQ(Take().size(), 1u);
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  EXPECT_TRUE(Take().empty());
  EXPECT_GT(stream_->kept_bytes(), 0u);
  Feed(Body(CALLOUT_REQUEST_BODY, "b", true));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(Beside(responses[0]), (std::vector<std::string>{"chunk0", "chunk1"}));
  EXPECT_EQ(stream_->kept_bytes(), 0u);
}

TEST_F(PipelineTest, WhatIsKeptBesideCountsAgainstTheStreamsMemory) {
  limits_.stream_memory_bytes_max = 1000;
  int chunks = 0;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&chunks](callout_call_t* call) {
    SaysBeside(call, std::string(100, 'n') + std::to_string(chunks++));
    return CALLOUT_NO_RESPONSE;
  };
  BeginDuplex();
  while (!stream_->end().has_value() && chunks < 20) {
    Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  }
  EXPECT_GT(chunks, 5);
  EXPECT_LT(chunks, 12);
}

// HeadersResponse that sets x-a.
std::string SetsXa() {
  envoy::service::ext_proc::v3::HeadersResponse answer;
  AddSet(answer.mutable_response(), "x-a", "1");
  return answer.SerializeAsString();
}

TEST_F(PipelineTest, HeldHeadersAreSettledByTheirOwnFieldInABodyCall) {
  for (const bool sends : {false, true}) {
    SCOPED_TRACE(sends ? "send" : "respond");
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
    plugin->phases[CALLOUT_REQUEST_BODY] = [sends](callout_call_t* call) {
      const std::string bytes = SetsXa();
      const callout_bytes_t part = ToBytes(bytes);
      const auto set = sends ? call->host->send : call->host->respond;
      EXPECT_EQ(set(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1), CALLOUT_OK);
      return CALLOUT_OK;
    };
    BeginDuplex();
    Feed(Body(CALLOUT_REQUEST_BODY, "ab", true));
    const auto responses = Take();
    ASSERT_EQ(Kinds(responses), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders,
                                                           ResponseKind::kRequestBody}));
    EXPECT_EQ(Mutations(responses[0].request_headers().response().header_mutation()),
              (std::vector<std::string>{"set x-a=1"}));
    EXPECT_EQ(BodyTold({responses[1]}), "ab.");
    Reset();
  }
}

TEST_F(PipelineTest, HeldHeadersMayGoWhileTheChunkIsKept) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) -> callout_status_t {
    if ((call->flags & CALLOUT_CALL_FIRST) == 0) return ReplacesBody("abcd")(call);
    const std::string bytes = SetsXa();
    const callout_bytes_t part = ToBytes(bytes);
    call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
    return CALLOUT_NO_RESPONSE;
  };
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", false));
  EXPECT_EQ(Kinds(Take()), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders}));
  Feed(Body(CALLOUT_REQUEST_BODY, "cd", true));
  EXPECT_EQ(BodyTold(Take()), "abcd.");
}

TEST_F(PipelineTest, HeldHeadersThatAreSentGoOutThoughTheCallIsDeferred) {
  callout_call_t* deferred = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = [&deferred](callout_call_t* call) {
    const std::string bytes = SetsXa();
    const callout_bytes_t part = ToBytes(bytes);
    EXPECT_EQ(call->host->send(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1), CALLOUT_OK);
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", true));
  EXPECT_EQ(Kinds(Take()), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders}));
  Finish(deferred);
  EXPECT_EQ(BodyTold(Take()), "ab.");
}

// The body that an instance before has brought comes at once, and no other does.
TEST_F(PipelineTest, HeadersThatBringAnotherBodyAreNotHeldForOne) {
  for (const bool has_body : {false, true}) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
    std::vector<std::string> seen;
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
    plugin->phases[CALLOUT_REQUEST_BODY] = [&seen](callout_call_t* call) {
      seen.push_back(BodyShown(call));
      return CALLOUT_OK;
    };
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, !has_body), kDuplex, kDuplex));
    if (has_body) Feed(Body(CALLOUT_REQUEST_BODY, "old", true));
    const auto responses = Take();
    ASSERT_EQ(Kinds(responses), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders}));
    EXPECT_EQ(responses[0].request_headers().response().body_mutation().body(), "new");
    EXPECT_EQ(seen, (std::vector<std::string>{"new."}));
  }
}

TEST_F(PipelineTest, AReplacementWithoutABodyKeepsTheBodyFromNoOther) {
  for (const bool first : {false, true}) {
    Reset();
    const auto add_replacing = [this] {
      FakePlugin* plugin = AddPlugin();
      plugin->phases[CALLOUT_REQUEST_HEADERS] = Answers([](CommonResponse* common) {
        common->set_status(CommonResponse::CONTINUE_AND_REPLACE);
        AddSet(common, "x-a", "1");
      });
      plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t*) {
        ADD_FAILURE() << "it wants no body";
        return CALLOUT_OK;
      };
    };
    if (first) add_replacing();
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = RepliesAtOnce(403);
    if (!first) add_replacing();
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
    const auto responses = Take();
    ASSERT_EQ(Kinds(responses), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders}));
    const auto& common = responses[0].request_headers().response();
    EXPECT_EQ(common.status(), CommonResponse::CONTINUE);
    EXPECT_EQ(Mutations(common.header_mutation()), (std::vector<std::string>{"set x-a=1"}));
    EXPECT_EQ(Exchange(Body(CALLOUT_REQUEST_BODY, "a", true)).immediate_response().status().code(),
              403);
  }
  EXPECT_NE(metrics_.Text().find("what=\"continue_and_replace\""), std::string::npos);
}

TEST_F(PipelineTest, AReplacementWithoutABodyLeavesTheOneBeforeToThoseBetween) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&seen](callout_call_t* call) {
    seen.push_back(BodyShown(call));
    return CALLOUT_OK;
  };
  FakePlugin* last = AddPlugin();
  last->phases[CALLOUT_REQUEST_HEADERS] = Answers(
      [](CommonResponse* common) { common->set_status(CommonResponse::CONTINUE_AND_REPLACE); });
  last->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t*) {
    ADD_FAILURE() << "it wants no body";
    return CALLOUT_OK;
  };
  Begin();
  const auto response = Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  EXPECT_EQ(response.request_headers().response().body_mutation().body(), "new");
  EXPECT_EQ(seen, (std::vector<std::string>{"new."}));
}

TEST_F(PipelineTest, HeldHeadersAreSettledByATrailersCall) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_REQUEST_TRAILERS] = [](callout_call_t* call) {
    const std::string bytes = SetsXa();
    const callout_bytes_t part = ToBytes(bytes);
    return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
  };
  BeginDuplex();
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  const auto responses = Take();
  ASSERT_EQ(Kinds(responses), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders,
                                                         ResponseKind::kRequestTrailers}));
  EXPECT_EQ(Mutations(responses[0].request_headers().response().header_mutation()),
            (std::vector<std::string>{"set x-a=1"}));
}

TEST_F(PipelineTest, HeldHeadersAreSettledOnce) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    const std::string bytes = SetsXa();
    const callout_bytes_t part = ToBytes(bytes);
    call->host->send(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
    return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
  };
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", true));
  EXPECT_EQ(FaultCount("wrong_type"), 1);
  EXPECT_FALSE(stream_->end()->ok());
}

TEST_F(PipelineTest, ALaterInstanceSeesHeldHeadersAsTheyWereSettled) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    const std::string bytes = SetsXa();
    const callout_bytes_t part = ToBytes(bytes);
    return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
  };
  Pairs seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&seen](callout_call_t* call) {
    seen = HeadersShown(call);
    return CALLOUT_OK;
  };
  BeginDuplex();
  EXPECT_TRUE(seen.empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", true));
  EXPECT_EQ(seen, (Pairs{{":path", "/"}, {"x-a", "1"}}));
}

TEST_F(PipelineTest, HeadersThatAreStillHeldAtTheEndAreAFault) {
  enum class End { kEmptyBody, kKeptBody, kTrailersHook, kTrailers };
  for (const End end : {End::kEmptyBody, End::kKeptBody, End::kTrailersHook, End::kTrailers}) {
    for (const bool passes : {false, true}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(end) << (passes ? " continue" : " fail"));
      const double before = end == End::kEmptyBody && !passes ? 0 : FaultCount("headers_held");
      FakePlugin* plugin =
          AddPlugin(passes ? ErrorPolicy::Action::kContinue : ErrorPolicy::Action::kFail);
      plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
      plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_NO_RESPONSE);
      if (end == End::kTrailersHook) {
        plugin->phases[CALLOUT_REQUEST_TRAILERS] = Returns(CALLOUT_OK);
      }
      BeginDuplex();
      if (end == End::kEmptyBody) {
        Feed(Body(CALLOUT_REQUEST_BODY, "", true));
      } else if (end == End::kKeptBody) {
        Feed(Body(CALLOUT_REQUEST_BODY, "ab", true));
      } else {
        Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
      }
      EXPECT_EQ(FaultCount("headers_held"), before + 1);
      // Bytes that the plugin has kept are lost with it, under every policy.
      if (passes && end != End::kKeptBody) {
        const auto responses = Take();
        ASSERT_EQ(responses.size(), 2u);
        EXPECT_TRUE(responses[0].has_request_headers());
        EXPECT_FALSE(stream_->end().has_value());
      } else {
        ASSERT_TRUE(stream_->end().has_value());
        EXPECT_FALSE(stream_->end()->ok());
      }
      Reset();
    }
  }
}

TEST_F(PipelineTest, HoldingHeadersIsForDuplexOnly) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(FaultCount("bad_status"), 1);
}

TEST_F(PipelineTest, ABodyOverTheLimitIsRefusedWhileHeadersAreHeld) {
  AddGatherer(4)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "abc", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "de", false));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].immediate_response().status().code(), 413);
}

TEST_F(PipelineTest, TooLargeContinueLetsTheHeldHeadersGoBeforeTheBody) {
  InstanceSettings settings;
  settings.too_large = {ErrorPolicy::Action::kContinue, 0};
  AddGatherer(4, settings)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "abc", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "de", true));
  const auto responses = Take();
  ASSERT_EQ(Kinds(responses),
            (std::vector<ResponseKind>{ResponseKind::kRequestHeaders, ResponseKind::kRequestBody}));
  EXPECT_EQ(BodyTold({responses[1]}), "abcde.");
}

TEST_F(PipelineTest, HeldHeadersWaitNoLongerThanBodyWait) {
  AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  BeginDuplex();
  EXPECT_GT(stream_->deadline_ns(), 0u);
  PassDeadline();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(FaultCount("deadline"), 1);
}

// --- Both directions ----------------------------------------------------------

TEST_F(PipelineTest, ADeferredCallDoesNotStopTheOtherDirection) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Defers(&deferred);
  AddPlugin()->phases[CALLOUT_RESPONSE_BODY] = ReplacesBody("changed");
  BeginDuplex();
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "check me", false));
  EXPECT_TRUE(stream_->wants_message());
  Feed(Body(CALLOUT_RESPONSE_BODY, "r", false));
  EXPECT_EQ(BodyTold(Take()), "changed|");
  EXPECT_EQ(BodyShown(deferred), "check me");
  Finish(deferred);
  EXPECT_EQ(BodyTold(Take()), "check me|");
}

TEST_F(PipelineTest, HooksOfOneInstanceTakeTurns) {
  callout_call_t* deferred = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = Defers(&deferred);
  int calls = 0;
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&calls](callout_call_t*) {
    ++calls;
    return CALLOUT_OK;
  };
  BeginDuplex();
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(calls, 0);
  EXPECT_TRUE(Take().empty());
  Finish(deferred);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(Kinds(Take()), (std::vector<ResponseKind>{ResponseKind::kRequestBody,
                                                      ResponseKind::kResponseHeaders}));
}

// However many messages of the other direction there are.
TEST_F(PipelineTest, WhatWaitsForItsTurnGetsTheInstanceNext) {
  callout_call_t* deferred = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = Defers(&deferred);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  BeginDuplex();
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "b", false));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_TRUE(Take().empty());
  Finish(deferred);
  EXPECT_EQ(Kinds(Take()), (std::vector<ResponseKind>{ResponseKind::kRequestBody,
                                                      ResponseKind::kResponseHeaders}));
  EXPECT_EQ(BodyShown(deferred), "b");
  Finish(deferred);
  EXPECT_EQ(BodyTold(Take()), "b|");
}

TEST_F(PipelineTest, MessagesOfADirectionKeepTheirOrder) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Answers([](CommonResponse* common) {
    common->mutable_body_mutation()->mutable_streamed_response()->set_body("x");
  });
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "1", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "2", false));
  EXPECT_TRUE(Take().empty());
  EXPECT_GT(stream_->kept_bytes(), 0u);
  Finish(deferred);
  EXPECT_EQ(Kinds(Take()),
            (std::vector<ResponseKind>{ResponseKind::kRequestHeaders, ResponseKind::kRequestBody,
                                       ResponseKind::kRequestBody}));
  EXPECT_EQ(stream_->kept_bytes(), 0u);
}

TEST_F(PipelineTest, MessagesBeyondTheFirstAreCounted) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  BeginDuplex();
  EXPECT_EQ(stream_->owned_bytes(), 0u) << "they lie in the stream itself";
  for (int i = 0; i < 10; ++i) Feed(Body(CALLOUT_REQUEST_BODY, "1", false));
  EXPECT_GE(stream_->owned_bytes(), 10 * sizeof(ChainMessage));
  Finish(deferred);
}

TEST_F(PipelineTest, PartsOfAChainOfSeveralAreCounted) {
  for (int i = 0; i < 9; ++i) AddPlugin();
  AddPlugin()->create = [](callout_create_args_t* args) {
    args->wants = CALLOUT_WANT_BOTH_DIRECTIONS;
  };
  BeginDuplex();
  EXPECT_GE(stream_->owned_bytes(), 11 * sizeof(CallState));
}

TEST_F(PipelineTest, NoMessageIsReadWhileTooManyWait) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  limits_.queued_messages_max = 3;
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "1", false));
  EXPECT_TRUE(stream_->wants_message());
  Feed(Body(CALLOUT_REQUEST_BODY, "2", false));
  EXPECT_FALSE(stream_->wants_message());
  Finish(deferred);
  EXPECT_TRUE(stream_->wants_message());
  EXPECT_EQ(Take().size(), 3u);
}

TEST_F(PipelineTest, NoMessageIsReadWhileTooManyBytesWait) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  limits_.queued_bytes_max = 1000;
  BeginDuplex();
  EXPECT_TRUE(stream_->wants_message());
  Feed(Body(CALLOUT_REQUEST_BODY, std::string(1000, 'x'), false));
  EXPECT_FALSE(stream_->wants_message());
  Finish(deferred);
  EXPECT_TRUE(stream_->wants_message());
}

TEST_F(PipelineTest, DuplexBodiesGoOutInPieces) {
  AddGatherer(1 << 20)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, std::string(100000, 'x'), false));
  Feed(Body(CALLOUT_REQUEST_BODY, std::string(50000, 'y'), true));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 4u);
  size_t bytes = 0;
  for (size_t i = 1; i < responses.size(); ++i) {
    const auto& piece = responses[i].request_body().response().body_mutation().streamed_response();
    EXPECT_LE(piece.body().size(), 65536u);
    EXPECT_EQ(piece.end_of_stream(), i == 3);
    bytes += piece.body().size();
  }
  EXPECT_EQ(bytes, 150000u);
}

// The chunk is done with while a later instance still reads the body that replaces it.
TEST_F(PipelineTest, HeadersThatWaitOutliveAChunkBehindThemThatIsKept) {
  callout_call_t* first = nullptr;
  callout_call_t* last = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&first);
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_NO_RESPONSE);
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("instead");
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Defers(&last);
  BeginDuplex();
  Feed(Body(CALLOUT_REQUEST_BODY, "kept", false));
  ASSERT_NE(first, nullptr);
  Finish(first);
  ASSERT_NE(last, nullptr);
  EXPECT_TRUE(Take().empty());
  Finish(last);
  const auto responses = Take();
  ASSERT_EQ(Kinds(responses), (std::vector<ResponseKind>{ResponseKind::kRequestHeaders}));
  EXPECT_EQ(responses[0].request_headers().response().body_mutation().body(), "instead");
}

// What an instance says about a chunk counts, whoever brings another body meanwhile.
TEST_F(PipelineTest, HeadersThatBringAnotherBodyWaitForADecisionAboutTheOldOne) {
  enum class Decision { kDenies, kDeniesLate, kAllows };
  for (const Decision decision : {Decision::kDenies, Decision::kDeniesLate, Decision::kAllows}) {
    Reset();
    callout_call_t* chunk = nullptr;
    callout_call_t* headers = nullptr;
    FakePlugin* guard = AddPlugin(ErrorPolicy::Action::kContinue);
    guard->phases[CALLOUT_REQUEST_BODY] = Defers(&chunk);
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&headers](callout_call_t* call) {
      EXPECT_EQ(ReplacesMessage("instead")(call), CALLOUT_OK);
      headers = call;
      return callout_status_t{CALLOUT_DEFERRED};
    };
    BeginDuplex();
    Feed(Body(CALLOUT_REQUEST_BODY, "bad", false));
    ASSERT_NE(chunk, nullptr);
    if (decision != Decision::kAllows) {
      EXPECT_EQ(RepliesAtOnce(403)(chunk), CALLOUT_OK);
    }
    Finish(headers);
    EXPECT_TRUE(Take().empty());
    if (decision == Decision::kDeniesLate) {
      PassDeadline();
    } else {
      Finish(chunk);
    }
    const auto responses = Take();
    ASSERT_EQ(responses.size(), 1u);
    if (decision == Decision::kAllows) {
      EXPECT_EQ(responses[0].request_headers().response().body_mutation().body(), "instead");
    } else {
      EXPECT_EQ(responses[0].immediate_response().status().code(),
                decision == Decision::kDenies ? 403 : 500);
    }
    if (decision == Decision::kDeniesLate) Finish(chunk);
  }
}

TEST_F(PipelineTest, AMissedDeadlineUnderContinueLosesThatCallOnly) {
  callout_call_t* late = nullptr;
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&late);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = SetsHeader("x-seen", "1");
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone));
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  // The late call is still the plugin's, and hooks never overlap: the next one waits.
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(HeadersShown(late), (Pairs{{":path", "/"}}));
  EXPECT_EQ(late->host->finish(late, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
  Deliver();
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(Mutations(responses[0].response_headers().response().header_mutation()),
            (std::vector<std::string>{"set x-seen=1"}));
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugin->closed, 1);
}

// A gathered body is called whole or not at all, and its bytes keep their order.
TEST_F(PipelineTest, AChunkThatPassesAtItsTurnTakesTheWholeBodyWithIt) {
  for (const int mode : {kStreamed, kDuplex}) {
    Reset();
    callout_call_t* late = nullptr;
    FakePlugin* plugin = AddContinuingGatherer();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&late);
    plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t*) {
      ADD_FAILURE() << "called with a part of the body";
      return CALLOUT_OK;
    };
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), mode, kNone));
    PassDeadline();
    Take();
    Feed(Body(CALLOUT_REQUEST_BODY, "aaa", false));
    EXPECT_TRUE(Take().empty());
    PassDeadline();
    Finish(late);
    Feed(Body(CALLOUT_REQUEST_BODY, "bbb", true));
    auto responses = Take();
    std::erase_if(responses, [](const auto& response) { return response.has_request_headers(); });
    EXPECT_EQ(BodyTold(responses), mode == kDuplex ? "aaa|bbb." : "--");
    EXPECT_FALSE(stream_->end().has_value() && !stream_->end()->ok());
  }
}

TEST_F(PipelineTest, AChunkThatPassesAtItsTurnComesAfterWhatWasGathered) {
  callout_call_t* late = nullptr;
  FakePlugin* plugin = AddContinuingGatherer();
  plugin->phases[CALLOUT_REQUEST_BODY] = Defers(&late);
  plugin->phases[CALLOUT_RESPONSE_BODY] = [](callout_call_t*) {
    ADD_FAILURE() << "called with a part of the body";
    return CALLOUT_OK;
  };
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kStreamed));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  Take();
  Feed(Body(CALLOUT_RESPONSE_BODY, "aaa", false));
  EXPECT_EQ(BodyTold(Take()), "clear");
  Feed(Body(CALLOUT_REQUEST_BODY, "q", true));
  PassDeadline();
  EXPECT_EQ(BodyTold(Take()), "-");
  Feed(Body(CALLOUT_RESPONSE_BODY, "bbb", false));
  EXPECT_TRUE(Take().empty());
  PassDeadline();
  EXPECT_EQ(BodyTold(Take()), "=aaabbb");
  Finish(late);
  Feed(Body(CALLOUT_RESPONSE_BODY, "ccc", true));
  EXPECT_EQ(BodyTold(Take()), "-");
}

TEST_F(PipelineTest, AfterAMissedDeadlineTheNextCallHasADeadlineOfItsOwn) {
  callout_call_t* late = nullptr;
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&late);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [](callout_call_t*) {
    ADD_FAILURE() << "two calls of one instance at once";
    return CALLOUT_OK;
  };
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone));
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(FaultCount("deadline"), 2);
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->end()->ok());
  EXPECT_FALSE(stream_->closed());
  EXPECT_EQ(late->host->finish(late, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(PipelineTest, SendTakesNothingBeyondItsLimit) {
  limits_.sent_bytes_max = 2000;
  int taken = 0;
  callout_status_t last = CALLOUT_OK;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    while ((last = SendChunk(call, std::string(600, 'x'))) == CALLOUT_OK) ++taken;
    return CALLOUT_NO_RESPONSE;
  };
  BeginDuplex();
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  EXPECT_EQ(last, CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(taken, 3);
  EXPECT_EQ(Take().size(), 3u);
  EXPECT_FALSE(stream_->end().has_value());
}

TEST_F(PipelineTest, ALaterCallMaySendAsMuchOnceTheClientHasTakenIt) {
  limits_.sent_bytes_max = 2000;
  int taken = 0;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    taken = 0;
    while (SendChunk(call, std::string(600, 'x')) == CALLOUT_OK) ++taken;
    return CALLOUT_NO_RESPONSE;
  };
  BeginDuplex();
  Take();
  for (int i = 0; i < 2; ++i) {
    Feed(Body(CALLOUT_REQUEST_BODY, std::string(1000, 'a'), false));
    EXPECT_EQ(taken, 3);
    EXPECT_EQ(Take().size(), 3u);
  }
  rpc_.unsent = 1500;  // the client is slow
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  EXPECT_EQ(taken, 0);
}

// Without another send(), which would have to be refused first.
TEST_F(PipelineTest, ADeferredCallFindsRoomAgainByAskingForIt) {
  limits_.sent_bytes_max = 2000;
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Defers(&deferred);
  BeginDuplex();
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  while (SendChunk(deferred, std::string(600, 'x')) == CALLOUT_OK) {
  }
  rpc_.unsent = 1900;
  Deliver();
  EXPECT_LT(deferred->host->send_room(deferred), 600u);
  rpc_.unsent = 0;  // the client has taken all
  Take();
  for (int i = 0; i < 3; ++i) deferred->host->send_room(deferred);
  Deliver();
  EXPECT_EQ(deferred->host->send_room(deferred), 2000u);
  Finish(deferred);
}

TEST(MessageState, AllowsNoWayThatTheTableDoesNotHave) {
  ChainMessage message;
  EXPECT_TRUE(message.Become(MessageState::kCalled, 7));
  EXPECT_EQ(message.deadline_ns, 7u);
  EXPECT_FALSE(message.Become(MessageState::kTurn));
  EXPECT_EQ(message.state, MessageState::kCalled);
  EXPECT_TRUE(message.Become(MessageState::kHeld));
  EXPECT_FALSE(message.Become(MessageState::kCalled));
  EXPECT_TRUE(message.Become(MessageState::kMoving));
}

}  // namespace
}  // namespace callout::host
