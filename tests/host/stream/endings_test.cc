// SPDX-License-Identifier: Apache-2.0

// How streams end: early, at the end of a drain, and where bytes would be lost.
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class EndingsTest : public StreamTest {
 protected:
  void FeedRequestHeaders(int request_mode, int response_mode, bool end_of_stream = false,
                          const Pairs& headers = {{":path", "/"}}) {
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, end_of_stream, headers), request_mode,
                   response_mode));
  }
  bool EndedOk() const { return stream_->end().has_value() && stream_->end()->ok(); }

  static InstanceSettings Settings(EndlessBody endless_body) {
    InstanceSettings settings;
    settings.endless_body = endless_body;
    return settings;
  }
};

// --- Early ----------------------------------------------------------------------

TEST_F(EndingsTest, AStreamEndsWithTheLastAnswerThatAnyoneWants) {
  limits_.early_end = true;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "b");
  FeedRequestHeaders(kNone, kNone);
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_TRUE(EndedOk());
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugins_[0]->closed, 1);
}

// CONTINUE_AND_REPLACE: the direction is over with its headers.
TEST_F(EndingsTest, HeadersThatBringAnotherBodyOweNothing) {
  enum class How { kEarly, kHalfClose, kDrain };
  for (const How how : {How::kEarly, How::kHalfClose, How::kDrain}) {
    Reset();
    limits_.early_end = how == How::kEarly;
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("instead");
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("another");
    FeedRequestHeaders(kBuffered, kNone);
    const auto responses = Take();
    ASSERT_EQ(responses.size(), 1u);
    EXPECT_EQ(responses[0].request_headers().response().body_mutation().body(), "another");
    if (how == How::kHalfClose) stream_->OnHalfClose();
    if (how == How::kDrain) stream_->OnDrainDeadline();
    EXPECT_TRUE(EndedOk()) << static_cast<int>(how);
    EXPECT_TRUE(Take().empty());
  }
}

// A chunk has come before them, and another instance has kept it.
TEST_F(EndingsTest, AfterHeadersThatBringAnotherBodyTheRequestCanStillBeRefused) {
  limits_.header_count_max = 2;
  callout_call_t* headers = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = SetsHeader("x-new", "1");
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&headers](callout_call_t* call) {
    EXPECT_EQ(ReplacesMessage("instead")(call), CALLOUT_OK);
    headers = call;
    return callout_status_t{CALLOUT_DEFERRED};
  };
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "chunk", false));
  ASSERT_NE(headers, nullptr);
  headers->host->finish(headers, CALLOUT_OK);
  Deliver();
  EXPECT_EQ(Take().size(), 1u);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{":status", "200"}, {"a", "b"}}));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].immediate_response().status().code(), 431) << responses[0].DebugString();
}

TEST_F(EndingsTest, NotBeforeAPhaseThatIsWanted) {
  limits_.early_end = true;
  for (const callout_phase_t wanted : {CALLOUT_RESPONSE_HEADERS, CALLOUT_RESPONSE_TRAILERS}) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    plugin->phases[wanted] = Returns(CALLOUT_OK);
    FeedRequestHeaders(kNone, kNone);
    Take();
    EXPECT_FALSE(stream_->end().has_value()) << wanted;
    Feed(Headers(CALLOUT_RESPONSE_HEADERS, true));
    EXPECT_TRUE(EndedOk()) << wanted;
  }
}

TEST_F(EndingsTest, ABodyCountsInTheModesThatBringOne) {
  limits_.early_end = true;
  for (const int mode : {kNone, kStreamed, kBuffered}) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
    FeedRequestHeaders(mode, kNone);
    EXPECT_EQ(EndedOk(), mode == kNone);
  }
}

TEST_F(EndingsTest, NeverWhileADirectionIsDuplexAndHasNotEnded) {
  limits_.early_end = true;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  FeedRequestHeaders(kDuplex, kNone);
  EXPECT_FALSE(stream_->end().has_value());
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  EXPECT_FALSE(stream_->end().has_value());
  Feed(Body(CALLOUT_REQUEST_BODY, "", true));
  EXPECT_EQ(Take().size(), 3u);
  EXPECT_TRUE(EndedOk());
  // A response that may yet begin in it counts, too.
  FeedRequestHeaders(kNone, kDuplex);
  EXPECT_FALSE(stream_->end().has_value());
}

TEST_F(EndingsTest, NotWhileTheModesAreUnknown) {
  limits_.early_end = true;
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_FALSE(stream_->end().has_value());
}

TEST_F(EndingsTest, NotAmidABodyThatAPluginHasChanged) {
  limits_.early_end = true;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("x");
  FeedRequestHeaders(kStreamed, kNone);
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  EXPECT_FALSE(stream_->end().has_value());
  Feed(Body(CALLOUT_REQUEST_BODY, "b", true));
  EXPECT_TRUE(EndedOk());
}

TEST_F(EndingsTest, ATunnelIsNoBodyForWhoTakesResponsesAlone) {
  AddGatherer(100)->phases[CALLOUT_RESPONSE_BODY] = Returns(CALLOUT_OK);
  FeedRequestHeaders(kNone, kStreamed, false, {{":method", "CONNECT"}});
  const double faults = FaultCount("endless_body");
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{":status", "200"}}));
  EXPECT_EQ(FaultCount("endless_body"), faults + 1);
}

// --- Errors of the transport -----------------------------------------------------------

TEST_F(EndingsTest, AnErrorThatIsNoPluginsRefusesFirstWhatMayNotPass) {
  enum class Owed { kNothing, kBody, kGathered, kRefusal };
  for (int i = 0; i < 8; ++i) {
    const auto owed = static_cast<Owed>(i / 2);
    const bool drains = i % 2 == 1;
    Reset();
    callout_call_t* deferred = nullptr;
    FakePlugin* const plugin = owed == Owed::kGathered ? AddGatherer(100) : AddPlugin();
    plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) -> callout_status_t {
      if (owed == Owed::kBody) return ReplacesBody("x")(call);
      if (owed != Owed::kRefusal) return CALLOUT_OK;
      deferred = call;
      const callout_bytes_t refusal = ToBytes(std::string_view("\x0a\x03\x08\x93\x03", 5));
      EXPECT_EQ(call->host->respond(call, CALLOUT_IMMEDIATE_RESPONSE, &refusal, 1), CALLOUT_OK);
      return CALLOUT_DEFERRED;
    };
    FeedRequestHeaders(kStreamed, kNone);
    Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
    Take();
    drains ? stream_->OnDrainDeadline() : stream_->OnFailure();
    const std::vector<ProcessingResponse> said = Take();
    ASSERT_EQ(said.size(), owed == Owed::kNothing ? 0u : 1u) << static_cast<int>(owed);
    if (!said.empty()) {
      EXPECT_EQ(said[0].immediate_response().status().code(), 500);
    }
    EXPECT_TRUE(stream_->end().has_value());
    if (deferred != nullptr) {
      deferred->host->finish(deferred, CALLOUT_OK);
      Deliver();
    }
    EXPECT_TRUE(stream_->closed());
  }
}

// --- All bytes of content-length in BUFFERED_PARTIAL, but no end ---------------------

class StalledBodyTest : public EndingsTest {
 protected:
  void FeedAll(callout_phase_t headers, int request_mode, int response_mode, bool all = true) {
    const Pairs length = {{"content-length", all ? "3" : "4"}};
    const bool is_request = headers == CALLOUT_REQUEST_HEADERS;
    FeedRequestHeaders(request_mode, response_mode, !is_request, is_request ? length : Pairs{});
    if (!is_request) Feed(Headers(headers, false, length));
    Take();
    Feed(Body(headers + 2, "all", false));
  }
};

TEST_F(StalledBodyTest, EndsWithTheResponse) {
  for (const callout_phase_t headers : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
    Reset();
    AddPlugin()->phases[headers + 2] = [](callout_call_t* call) {
      EXPECT_EQ(BodyShown(call), "all");
      return ReplacesBody("changed")(call);
    };
    const bool is_request = headers == CALLOUT_REQUEST_HEADERS;
    FeedAll(headers, is_request ? kPartial : kNone, kPartial);
    const auto responses = Take();
    EXPECT_EQ(BodyTold(responses), "=changed");
    const auto& body = is_request ? responses[0].request_body() : responses[0].response_body();
    EXPECT_EQ(Mutations(body.response().header_mutation()),
              (std::vector<std::string>{"set content-length=7"}));
    EXPECT_TRUE(EndedOk());
  }
}

TEST_F(StalledBodyTest, IsWholeForAPluginThatTakesItWhole) {
  AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    EXPECT_TRUE(call->flags & CALLOUT_CALL_WHOLE_BODY);
    return CALLOUT_OK;
  };
  FeedAll(CALLOUT_REQUEST_HEADERS, kPartial, kNone);
  EXPECT_TRUE(EndedOk());
}

TEST_F(StalledBodyTest, WithFewerBytesOrInOtherModesEnvoyGoesOn) {
  for (const int mode : {kPartial, kBuffered, kStreamed}) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
    FeedAll(CALLOUT_REQUEST_HEADERS, mode, kNone, mode != kPartial);
    EXPECT_EQ(BodyTold(Take()), "-");
    EXPECT_FALSE(stream_->end().has_value());
  }
}

TEST_F(StalledBodyTest, IsRefusedIfAPluginIsToSeeTheRest) {
  for (const callout_phase_t later : {CALLOUT_REQUEST_TRAILERS, CALLOUT_RESPONSE_HEADERS}) {
    for (const bool passes : {false, true}) {
      Reset();
      InstanceSettings settings;
      settings.drain_passes = passes;
      FakePlugin* plugin = AddPlugin(settings);
      plugin->phases[CALLOUT_REQUEST_BODY] = plugin->phases[later] = Returns(CALLOUT_OK);
      FeedAll(CALLOUT_REQUEST_HEADERS, kPartial, kNone);
      const auto responses = Take();
      ASSERT_EQ(responses.size(), 1u);
      EXPECT_EQ(responses[0].immediate_response().status().code(), passes ? 0 : 413);
      EXPECT_EQ(EndedOk(), passes);
    }
  }
  EXPECT_NE(metrics_.Text().find("callout_stalled_bodies_total{outcome=\"refused\"} 2"),
            std::string::npos);
}

// An end with OK would lose its bytes.
TEST_F(StalledBodyTest, IsRefusedBesideADuplexDirection) {
  Reset();
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  FeedAll(CALLOUT_REQUEST_HEADERS, kPartial, kDuplex);
  EXPECT_EQ(Take()[0].immediate_response().status().code(), 413);
}

TEST_F(StalledBodyTest, IsSeenWhereAnOverrideMayHaveBroughtIt) {
  AddGatherer(100)->phases = {{CALLOUT_REQUEST_HEADERS,
                               [](callout_call_t* call) {
                                 // ProcessingMode{request_body_mode: BUFFERED_PARTIAL}
                                 return call->host->annotate(
                                     call, CALLOUT_MODE_OVERRIDE,
                                     ToBytes(std::string_view("\x18\x03", 2)));
                               }},
                              {CALLOUT_REQUEST_BODY, Returns(CALLOUT_OK)}};
  FeedAll(CALLOUT_REQUEST_HEADERS, kStreamed, kNone);
  EXPECT_EQ(BodyTold(Take()), "-");
  EXPECT_TRUE(EndedOk());
}

// Its headers have gone, and nobody has looked for content-length.
TEST_F(StalledBodyTest, IsNotAskedForByTheAnswerOfTheOtherDirection) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [](callout_call_t* call) {
    return call->host->annotate(call, CALLOUT_MODE_OVERRIDE,
                                ToBytes(std::string_view("\x18\x03", 2)));
  };
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  FeedRequestHeaders(kStreamed, kNone, false, {{"content-length", "3"}});
  Take();
  const auto answer = Exchange(Headers(CALLOUT_RESPONSE_HEADERS, true));
  EXPECT_EQ(answer.mode_override().request_body_mode(), kStreamed);
  Feed(Body(CALLOUT_REQUEST_BODY, "all", false));
  EXPECT_EQ(BodyTold(Take()), "-");
}

// --- Immediate responses that cannot go out ------------------------------------------

TEST_F(EndingsTest, AnInvalidDenialIsStillADenial) {
  using Fill = std::function<std::pair<callout_field_t, std::string>()>;
  const Fill rows[] = {
      [] {
        envoy::service::ext_proc::v3::ImmediateResponse denial;
        denial.mutable_status()->set_code(envoy::type::v3::Forbidden);
        auto* header = denial.mutable_headers()->add_set_headers()->mutable_header();
        header->set_key("x-copied");
        header->set_raw_value("a\r\nb");
        return std::make_pair(CALLOUT_IMMEDIATE_RESPONSE, denial.SerializeAsString());
      },
      [] { return std::make_pair(CALLOUT_IMMEDIATE_RESPONSE, std::string("\xff")); },
      // Where Envoy holds a body for the response.
      [] {
        envoy::service::ext_proc::v3::StreamedImmediateResponse reply;
        reply.mutable_headers_response();
        return std::make_pair(CALLOUT_STREAMED_IMMEDIATE_RESPONSE, reply.SerializeAsString());
      },
  };
  for (const auto policy : {ErrorPolicy::Action::kContinue, ErrorPolicy::Action::kFail}) {
    for (const Fill& fill : rows) {
      Reset();
      AddPlugin(policy)->phases[CALLOUT_REQUEST_HEADERS] = [&fill](callout_call_t* call) {
        const auto [field, payload] = fill();
        const callout_bytes_t part = ToBytes(payload);
        return call->host->respond(call, field, &part, 1);
      };
      FeedRequestHeaders(kStreamed, kNone);
      const auto responses = Take();
      ASSERT_EQ(responses.size(), 1u);
      EXPECT_EQ(responses[0].immediate_response().status().code(), 500);
      EXPECT_TRUE(responses[0].immediate_response().headers().set_headers().empty());
    }
  }
}

// --- Drain ----------------------------------------------------------------------

TEST_F(EndingsTest, ADrainEndsWithOkWhereTheRestMayPass) {
  for (const bool passes : {false, true}) {
    Reset();
    InstanceSettings settings;
    settings.drain_passes = passes;
    AddPlugin(settings)->phases[CALLOUT_RESPONSE_BODY] = Returns(CALLOUT_OK);
    FeedRequestHeaders(kNone, kStreamed, true);
    Feed(Headers(CALLOUT_RESPONSE_HEADERS));
    Feed(Body(CALLOUT_RESPONSE_BODY, "data", false));
    stream_->OnDrainDeadline();
    ASSERT_TRUE(stream_->end().has_value());
    EXPECT_EQ(stream_->end()->code(),
              passes ? absl::StatusCode::kOk : absl::StatusCode::kUnavailable);
  }
}

TEST_F(EndingsTest, TheDrainSettingFollowsThePolicyUnlessSet) {
  // On the heap: GCC 12 would warn of optionals that are not set.
  const auto settings = std::make_unique<InstanceSettings>();
  EXPECT_FALSE(MayPassAtDrain(*settings));
  settings->policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
  EXPECT_TRUE(MayPassAtDrain(*settings));
  settings->drain_passes = false;
  EXPECT_FALSE(MayPassAtDrain(*settings));
}

TEST_F(EndingsTest, ADrainFailsWhereADecisionOrABodyIsOutstanding) {
  InstanceSettings passes;
  passes.drain_passes = true;
  callout_call_t* deferred = nullptr;
  AddPlugin(passes)->phases[CALLOUT_REQUEST_HEADERS] = [&deferred](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  FeedRequestHeaders(kNone, kNone);
  stream_->OnDrainDeadline();
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kUnavailable);
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
  EXPECT_TRUE(stream_->closed());

  Reset();
  AddPlugin(passes)->phases[CALLOUT_RESPONSE_BODY] = Returns(CALLOUT_OK);
  FeedRequestHeaders(kNone, kDuplex, true);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  stream_->OnDrainDeadline();
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kUnavailable);

  Reset();
  AddGatherer(100, passes)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  FeedRequestHeaders(kStreamed, kNone);
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  stream_->OnDrainDeadline();
  EXPECT_FALSE(EndedOk());
}

// Envoy always sends protocol_config.
TEST_F(EndingsTest, ADrainTakesUnnamedBodyModesForNoneUnlessABodyHasBegun) {
  for (const bool early_end : {false, true}) {
    for (const bool body : {false, true}) {
      Reset();
      limits_.early_end = early_end;
      AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
      Begin();
      Feed(Headers(CALLOUT_REQUEST_HEADERS));
      if (body) Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
      EXPECT_EQ(Take().size(), body ? 2u : 1u);
      ASSERT_FALSE(stream_->end().has_value());
      stream_->OnDrainDeadline();
      EXPECT_EQ(stream_->end()->code(),
                early_end && !body ? absl::StatusCode::kOk : absl::StatusCode::kUnavailable)
          << "early_end " << early_end << ", body " << body;
    }
  }
}

// The call that was late is still at work, and the next message waits for its turn.
TEST_F(EndingsTest, ADrainFailsWhereAMessageWaitsBehindALateCall) {
  InstanceSettings passes;
  passes.drain_passes = true;
  passes.policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
  callout_call_t* late = nullptr;
  FakePlugin* plugin = AddPlugin(passes);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&late](callout_call_t* call) {
    late = call;
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  FeedRequestHeaders(kNone, kNone, true);
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  if (Take().empty()) {
    stream_->OnDrainDeadline();
    EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kUnavailable);
  }
  late->host->finish(late, CALLOUT_OK);
  Deliver();
}

// --- Bodies whose end cannot be seen ---------------------------------------------

struct EndlessRow {
  callout_phase_t phase;
  int mode;
  Pairs headers;
  bool refused;
};

TEST_F(EndingsTest, WhatCanBeForeseenIsRefusedAtTheHeaders) {
  const std::vector<EndlessRow> rows = {
      {CALLOUT_REQUEST_HEADERS, kStreamed, {{"content-type", "application/grpc"}}, true},
      {CALLOUT_REQUEST_HEADERS, kStreamed, {{"Content-Type", "application/grpc-web+x; a=b"}}, true},
      {CALLOUT_REQUEST_HEADERS, kDuplex, {{"content-type", "application/grpc"}}, false},
      {CALLOUT_REQUEST_HEADERS, kBuffered, {{"content-type", "application/grpc"}}, false},
      {CALLOUT_REQUEST_HEADERS, kStreamed, {{"trailer", "x-t"}}, true},
      {CALLOUT_REQUEST_HEADERS, kStreamed, {{"upgrade", "websocket"}}, true},
      {CALLOUT_REQUEST_HEADERS, kDuplex, {{"upgrade", "websocket"}}, true},
      {CALLOUT_REQUEST_HEADERS, kDuplex, {{":method", "CONNECT"}}, true},
      {CALLOUT_REQUEST_HEADERS, kStreamed, {{"content-type", "text/event-stream"}}, false},
      {CALLOUT_REQUEST_HEADERS, kStreamed, {{"content-type", "application/json"}}, false},
      {CALLOUT_RESPONSE_HEADERS, kStreamed, {{"content-type", "Text/Event-Stream; x"}}, true},
      {CALLOUT_RESPONSE_HEADERS, kDuplex, {{"content-type", "text/event-stream"}}, true},
      {CALLOUT_RESPONSE_HEADERS, kStreamed, {{":status", "101"}}, true},
      {CALLOUT_RESPONSE_HEADERS, kStreamed, {{":status", "200"}}, false},
      {CALLOUT_RESPONSE_HEADERS, kNone, {{"content-type", "text/event-stream"}}, false},
  };
  for (const EndlessRow& row : rows) {
    const bool is_request = row.phase == CALLOUT_REQUEST_HEADERS;
    Reset();
    AddGatherer(100)->phases[row.phase + 2] = Returns(CALLOUT_OK);
    if (is_request) {
      FeedRequestHeaders(row.mode, kNone, false, row.headers);
    } else {
      FeedRequestHeaders(kNone, row.mode, true);
      Take();
      Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, row.headers));
    }
    const auto responses = Take();
    if (row.mode == kDuplex && !row.refused) continue;  // held
    ASSERT_EQ(responses.size(), 1u) << row.headers[0].second;
    const bool refused = responses[0].has_immediate_response();
    EXPECT_EQ(refused, row.refused)
        << row.headers[0].first << " " << row.headers[0].second << " in mode " << row.mode;
    EXPECT_EQ(responses[0].immediate_response().status().code(), refused ? 500 : 0);
  }
}

TEST_F(EndingsTest, EndlessBodiesPassUnseenOrInChunksWhereTheSettingsSaySo) {
  for (const EndlessBody choice : {EndlessBody::kPass, EndlessBody::kChunks}) {
    Reset();
    std::vector<std::string> seen;
    AddGatherer(100, Settings(choice))->phases[CALLOUT_RESPONSE_BODY] = [&](callout_call_t* call) {
      EXPECT_FALSE(call->flags & CALLOUT_CALL_WHOLE_BODY);
      seen.push_back(BodyShown(call));
      return CALLOUT_OK;
    };
    FeedRequestHeaders(kNone, kStreamed, true);
    Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"content-type", "text/event-stream"}}));
    Take();
    Feed(Body(CALLOUT_RESPONSE_BODY, "data: 1", false));
    EXPECT_EQ(BodyTold(Take()), "-");
    EXPECT_EQ(seen.size(), choice == EndlessBody::kChunks ? 1u : 0u);
  }
}

TEST_F(EndingsTest, ResponsesAreLeftAloneByContentTypeStatusOrHeader) {
  InstanceSettings settings;
  settings.leave_responses.content_types = {"text/event-stream", "image/*"};
  settings.leave_responses.statuses = {"206", "3xx"};
  settings.leave_responses.headers = {"x-raw"};
  const std::vector<std::pair<Pairs, bool>> rows = {
      {{{":status", "200"}, {"content-type", "text/event-stream;charset=utf-8"}}, true},
      {{{":status", "200"}, {"content-type", "image/png"}}, true},
      {{{":status", "206"}}, true},
      {{{":status", "304"}}, true},
      {{{":status", "200"}, {"X-Raw", "1"}}, true},
      {{{":status", "200"}, {"content-type", "text/html"}}, false},
  };
  for (const auto& [headers, left] : rows) {
    Reset();
    int calls = 0;
    AddGatherer(100, settings)->phases[CALLOUT_RESPONSE_BODY] = [&calls](callout_call_t*) {
      ++calls;
      return CALLOUT_OK;
    };
    FeedRequestHeaders(kNone, kStreamed, true);
    Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, headers));
    Take();
    Feed(Body(CALLOUT_RESPONSE_BODY, "a", false));
    EXPECT_EQ(BodyTold(Take()), left ? "-" : "clear") << headers.back().second;
    Feed(Body(CALLOUT_RESPONSE_BODY, "b", true));
    EXPECT_EQ(calls, left ? 0 : 1);
  }
}

TEST_F(EndingsTest, AnOverrideToNoneLeavesABodyAloneThoughEnvoyIgnoresIt) {
  FakePlugin* plugin = AddGatherer(100);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [](callout_call_t* call) {
    // ProcessingMode{response_body_mode: NONE}
    return call->host->annotate(call, CALLOUT_MODE_OVERRIDE,
                                ToBytes(std::string_view("\x20\0", 2)));
  };
  plugin->phases[CALLOUT_RESPONSE_BODY] = [](callout_call_t*) {
    ADD_FAILURE() << "called";
    return CALLOUT_OK;
  };
  FeedRequestHeaders(kNone, kStreamed, true);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"content-type", "text/event-stream"}}));
  Take();
  Feed(Body(CALLOUT_RESPONSE_BODY, "data", false));
  EXPECT_EQ(BodyTold(Take()), "-");
}

TEST_F(EndingsTest, AResponseThatCannotHaveHadTheRequestBodyIsRefused) {
  for (const auto& [status, refused] : {std::pair("200", true), std::pair("302", true),
                                        std::pair("413", false), std::pair("503", false)}) {
    Reset();
    AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
    FeedRequestHeaders(kStreamed, kNone);
    Feed(Body(CALLOUT_REQUEST_BODY, "abc", false));
    Take();
    Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{":status", status}}));
    const auto responses = Take();
    ASSERT_EQ(responses.size(), 1u);
    EXPECT_EQ(responses[0].has_immediate_response(), refused) << status;
  }
  EXPECT_EQ(FaultCount("body_lost"), 2);
}

TEST_F(EndingsTest, ABodyLostUnseenIsCounted) {
  for (const bool half_close : {true, false}) {
    Reset();
    AddGatherer(100)->phases[CALLOUT_RESPONSE_BODY] = Returns(CALLOUT_OK);
    FeedRequestHeaders(kNone, kStreamed, true);
    Feed(Headers(CALLOUT_RESPONSE_HEADERS));
    Feed(Body(CALLOUT_RESPONSE_BODY, "abc", false));
    half_close ? stream_->OnHalfClose() : stream_->OnCancel();
    EXPECT_FALSE(EndedOk());
  }
  EXPECT_EQ(FaultCount("body_lost"), 2);
}

TEST_F(EndingsTest, AHalfCloseWithinADeferredBodyDoesNotEndWithOk) {
  callout_call_t* deferred = nullptr;
  FakePlugin* plugin = AddPlugin();
  int calls = 0;
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) -> callout_status_t {
    if (++calls == 1)
      return RespondCommon(call, [] {
        CommonResponse common;
        common.mutable_body_mutation()->set_body("x");
        return common;
      }());
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  FeedRequestHeaders(kStreamed, kNone);
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "b", false));
  stream_->OnHalfClose();
  EXPECT_FALSE(stream_->end().has_value());
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kAborted);
}

// --- Overrides --------------------------------------------------------------------

class OverrideTest : public EndingsTest {
 protected:
  static constexpr uint32_t kSend = 1;
  static constexpr uint32_t kSkip = 2;
  struct Modes {
    std::optional<uint32_t> response_headers = {};
    std::optional<callout_body_mode_t> request_body = {}, response_body = {};
    std::optional<uint32_t> response_trailers = {};
  };

  // A headers hook that overrides these modes and no others.
  static FakePlugin::Hook Asks(const Modes& modes) {
    ModeOverride override;
    override.modes.response_headers = modes.response_headers;
    override.modes.request_body = modes.request_body;
    override.modes.response_body = modes.response_body;
    override.modes.response_trailers = modes.response_trailers;
    return [bytes = override.Write()](callout_call_t* call) {
      return call->host->annotate(call, CALLOUT_MODE_OVERRIDE, ToBytes(bytes));
    };
  }

  // A plugin that asks for `mode` of the request's body and wraps it in < and >.
  void AddAsking(int mode, bool whole) {
    FakePlugin* plugin = whole ? AddGatherer(100) : AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = [mode](callout_call_t* call) {
      const std::string bytes = {'\x18', static_cast<char>(mode)};
      return call->host->annotate(call, CALLOUT_MODE_OVERRIDE, ToBytes(bytes));
    };
    plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
      std::string body = BodyShown(call);
      if (body.ends_with(".")) body.pop_back();
      CommonResponse common;
      common.mutable_body_mutation()->set_body("<" + body + ">");
      return RespondCommon(call, common);
    };
  }
};

TEST_F(OverrideTest, AnIgnoredBufferedIsTakenForStreamedOnceAnotherChunkComes) {
  AddAsking(kBuffered, true);
  FeedRequestHeaders(kStreamed, kNone);
  EXPECT_TRUE(Take()[0].has_mode_override());
  Feed(Body(CALLOUT_REQUEST_BODY, "aaa", false));
  EXPECT_TRUE(Take().empty());  // nothing shows yet which mode holds
  Feed(Body(CALLOUT_REQUEST_BODY, "bbb", false));
  EXPECT_EQ(BodyTold(Take()), "clearclear");
  Feed(Body(CALLOUT_REQUEST_BODY, "", true));
  EXPECT_EQ(BodyTold(Take()), "=<aaabbb>");
}

TEST_F(OverrideTest, AnObeyedBufferedIsWholeWhenTrailersCome) {
  AddAsking(kBuffered, true);
  FeedRequestHeaders(kStreamed, kNone);
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "aaabbb", false));
  EXPECT_TRUE(Take().empty());
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(BodyTold({responses[0]}), "=<aaabbb>");
}

TEST_F(OverrideTest, AFirstMessageWithTheEndIsWholeEitherWay) {
  AddAsking(kBuffered, true);
  FeedRequestHeaders(kStreamed, kNone);
  Take();
  EXPECT_EQ(BodyTold({Exchange(Body(CALLOUT_REQUEST_BODY, "all", true))}), "=<all>");
}

TEST_F(OverrideTest, WhatNothingShowsFailsAtTheDeadline) {
  AddAsking(kBuffered, true);
  FeedRequestHeaders(kStreamed, kNone);
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "aaa", false));
  PassDeadline();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_FALSE(stream_->end()->ok());
  EXPECT_EQ(FaultCount("deadline"), 1);
}

TEST_F(OverrideTest, DuplexIsNotAskedForWhereNothingWouldShowIt) {
  for (const auto policy : {EnvoyModeOverride::kUnknown, EnvoyModeOverride::kAllowed}) {
    Reset();
    limits_.mode_override = policy;
    AddAsking(kDuplex, false);
    FeedRequestHeaders(kStreamed, kNone);
    const bool asked = policy == EnvoyModeOverride::kAllowed;
    EXPECT_EQ(Take()[0].mode_override().request_body_mode(), asked ? kDuplex : kStreamed);
    Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
    EXPECT_EQ(BodyTold(Take()), asked ? "<a>|" : "=<a>");
  }
}

TEST_F(OverrideTest, ABodyThatComesShowsThatNoneWasLeft) {
  AddAsking(kDuplex, false);
  FeedRequestHeaders(kNone, kNone);
  EXPECT_EQ(Take()[0].mode_override().request_body_mode(), kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "a", true));
  EXPECT_EQ(BodyTold(Take()), "<a>.");
}

// What a plugin says of one mode is no word on the others.
TEST_F(OverrideTest, OfAModeThatAPluginHasNotNamedItKeepsWhatItWants) {
  limits_.mode_override = EnvoyModeOverride::kAllowed;
  for (const Modes& other : {Modes{.response_body = kNone}, Modes{.response_headers = kSkip}}) {
    Reset();
    std::string seen;
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Asks({.request_body = kBuffered});
    plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
    plugin->phases[CALLOUT_RESPONSE_BODY] = [&seen](callout_call_t* call) {
      seen += BodyShown(call);
      return CALLOUT_OK;
    };
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Asks(other);
    FeedRequestHeaders(kStreamed, kStreamed, true);
    const auto told = Take()[0].mode_override();
    EXPECT_EQ(told.request_body_mode(), kBuffered);
    EXPECT_EQ(told.response_body_mode(), kStreamed);
    EXPECT_EQ(told.response_header_mode(), 0);  // DEFAULT
    Feed(Headers(CALLOUT_RESPONSE_HEADERS));
    Feed(Body(CALLOUT_RESPONSE_BODY, "a", true));
    EXPECT_EQ(seen, "a.");
  }
}

// Envoy is told NONE where nobody else is there who wants it.
TEST_F(OverrideTest, AModeThatAPluginHasNamedIsNotKeptForItself) {
  limits_.mode_override = EnvoyModeOverride::kAllowed;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] =
      Asks({.response_body = kNone, .response_trailers = kSkip});
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_RESPONSE_BODY] = plugin->phases[CALLOUT_RESPONSE_TRAILERS] =
      Returns(CALLOUT_OK);
  FeedRequestHeaders(kNone, kStreamed, true);
  EXPECT_EQ(Take()[0].mode_override().ShortDebugString(), "response_trailer_mode: SKIP");
}

TEST_F(OverrideTest, ALaterOverrideTakesNothingBackThatAnotherPluginHasAskedFor) {
  for (const auto policy : {EnvoyModeOverride::kUnknown, EnvoyModeOverride::kAllowed}) {
    for (const Modes& later : {Modes{.response_trailers = kSend}, Modes{.response_trailers = kSkip},
                               Modes{.response_body = kStreamed}, Modes{.response_body = kNone}}) {
      Reset();
      limits_.mode_override = policy;
      std::string seen;
      FakePlugin* plugin = AddPlugin();
      plugin->phases[CALLOUT_REQUEST_HEADERS] =
          Asks({.response_body = kBuffered, .response_trailers = kSend});
      plugin->phases[CALLOUT_RESPONSE_BODY] = [&seen](callout_call_t* call) {
        seen += BodyShown(call);
        return CALLOUT_OK;
      };
      plugin->phases[CALLOUT_RESPONSE_TRAILERS] = Returns(CALLOUT_OK);
      AddPlugin()->phases[CALLOUT_RESPONSE_HEADERS] = Asks(later);
      FeedRequestHeaders(kNone, kNone, true);
      Take();
      Feed(Headers(CALLOUT_RESPONSE_HEADERS));
      EXPECT_EQ(Take()[0].mode_override().ShortDebugString(),
                "response_body_mode: BUFFERED response_trailer_mode: SEND");
      Feed(Body(CALLOUT_RESPONSE_BODY, "a", true));
      EXPECT_EQ(seen, "a.");
    }
  }
}

TEST_F(OverrideTest, ABodyThatWasDeclinedCanStillBeAskedFor) {
  struct Row {
    EnvoyModeOverride policy;
    int mode;
  };
  for (const auto& [policy, mode] :
       {Row{EnvoyModeOverride::kUnknown, kNone}, Row{EnvoyModeOverride::kUnknown, kStreamed},
        Row{EnvoyModeOverride::kAllowed, kNone}, Row{EnvoyModeOverride::kAllowed, kStreamed},
        Row{EnvoyModeOverride::kIgnored, kStreamed}}) {
    Reset();
    limits_.mode_override = policy;
    std::string seen;
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Asks({.response_body = kNone});
    plugin->phases[CALLOUT_RESPONSE_HEADERS] = Asks({.response_body = kBuffered});
    plugin->phases[CALLOUT_RESPONSE_BODY] = [&seen](callout_call_t* call) {
      seen += BodyShown(call);
      return CALLOUT_OK;
    };
    FeedRequestHeaders(kNone, mode, true);
    Take();
    Feed(Headers(CALLOUT_RESPONSE_HEADERS));
    EXPECT_EQ(Take()[0].mode_override().response_body_mode(), kBuffered);
    EXPECT_FALSE(stream_->end().has_value());
    Feed(Body(CALLOUT_RESPONSE_BODY, "a", true));
    EXPECT_EQ(seen, "a.") << "mode " << mode;
  }
}

// The headers that came while it was declined say how it is coded.
TEST_F(OverrideTest, TheCodingIsKnownOfABodyThatWasDeclinedAndThenAskedFor) {
  for (const bool settled : {false, true}) {
    Reset();
    limits_.mode_override = EnvoyModeOverride::kIgnored;
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Asks({.response_body = kNone});
    plugin->phases[CALLOUT_RESPONSE_HEADERS] = [settled](callout_call_t* call) {
      EXPECT_EQ(Asks({.response_body = kStreamed})(call), CALLOUT_OK);
      return settled ? RemovesHeader("content-encoding")(call) : callout_status_t{CALLOUT_OK};
    };
    plugin->phases[CALLOUT_RESPONSE_BODY] = ReplacesBody("plain");
    FeedRequestHeaders(kNone, kStreamed, true);
    Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"content-encoding", "gzip"}}));
    Take();
    Feed(Body(CALLOUT_RESPONSE_BODY, "coded", true));
    EXPECT_EQ(stream_->end().has_value(), !settled);
  }
}

// As two filters would, and as one does whose configured mode is BUFFERED.
TEST_F(OverrideTest, WhereABodyBecomesBufferedTheHeadersOfTheLastPluginWin) {
  struct Row {
    EnvoyModeOverride policy;
    int mode;
  };
  for (const auto& [policy, mode] :
       {Row{EnvoyModeOverride::kIgnored, kBuffered}, Row{EnvoyModeOverride::kAllowed, kStreamed},
        Row{EnvoyModeOverride::kAllowed, kNone}, Row{EnvoyModeOverride::kUnknown, kNone}}) {
    for (const bool removes : {false, true}) {
      Reset();
      limits_.mode_override = policy;
      FakePlugin* plugin = AddPlugin();
      plugin->phases[CALLOUT_REQUEST_HEADERS] = Asks({.request_body = kBuffered});
      plugin->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-role", "a");
      AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] =
          removes ? RemovesHeader("x-role") : SetsHeader("x-role", "b");
      FeedRequestHeaders(mode, kNone);
      Take();
      const auto answer = Exchange(Body(CALLOUT_REQUEST_BODY, "role: a", true));
      EXPECT_EQ(Mutations(answer.request_body().response().header_mutation()),
                std::vector<std::string>{removes ? "remove x-role" : "set x-role=b"})
          << "mode " << mode;
    }
  }
}

TEST_F(OverrideTest, AStreamedBodyThatIsAskedForIsForeseenToo) {
  enum Asker { kBefore, kItself, kAfter };  // in the order of responses
  struct Row {
    EnvoyModeOverride policy;
    int mode;
    Asker asker;
    callout_body_mode_t asked;
    bool refused;
  };
  constexpr auto kUnknown = EnvoyModeOverride::kUnknown;
  constexpr auto kAllowed = EnvoyModeOverride::kAllowed;
  const std::vector<Row> rows = {
      {kUnknown, kNone, kBefore, kStreamed, true},
      {kUnknown, kNone, kItself, kStreamed, true},
      {kUnknown, kNone, kAfter, kStreamed, true},
      {kAllowed, kNone, kBefore, kStreamed, true},
      {kAllowed, kNone, kItself, kStreamed, true},
      {kAllowed, kNone, kAfter, kStreamed, true},
      {kUnknown, kBuffered, kItself, kStreamed, true},
      {kAllowed, kBuffered, kItself, kStreamed, true},
      // The gatherer keeps what suits it.
      {kAllowed, kBuffered, kAfter, kStreamed, false},
      // Out of STREAMED, where Envoy is known to obey.
      {kUnknown, kStreamed, kItself, kBuffered, true},
      {kAllowed, kStreamed, kItself, kBuffered, false},
      {kAllowed, kNone, kItself, kBuffered, false},
  };
  for (const Row& row : rows) {
    for (const std::string type : {"application/grpc", "application/json"}) {
      Reset();
      limits_.mode_override = row.policy;
      FakePlugin* const after = AddPlugin();
      FakePlugin* const gatherer = AddGatherer(100);
      FakePlugin* const before = AddPlugin();
      for (FakePlugin* plugin : {after, gatherer, before}) {
        plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
      }
      gatherer->phases[CALLOUT_RESPONSE_BODY] = Returns(CALLOUT_OK);
      FakePlugin* const asker = row.asker == kBefore   ? before
                                : row.asker == kItself ? gatherer
                                                       : after;
      asker->phases[CALLOUT_RESPONSE_HEADERS] = Asks({.response_body = row.asked});
      FeedRequestHeaders(kNone, row.mode, true);
      Take();
      const auto answer =
          Exchange(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"content-type", type}}));
      EXPECT_EQ(answer.immediate_response().status().code(),
                row.refused && type == "application/grpc" ? 500 : 0)
          << "mode " << row.mode << ", asked " << row.asked << " by " << row.asker;
    }
  }
}

TEST_F(OverrideTest, WhereEnvoyObeysTrailersAreAskedForWithABodyToGather) {
  limits_.mode_override = EnvoyModeOverride::kAllowed;
  FakePlugin* plugin = AddGatherer(100);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Asks({.request_body = kStreamed});
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  FeedRequestHeaders(kNone, kNone);
  const auto told = Take()[0].mode_override();
  EXPECT_EQ(told.request_body_mode(), kStreamed);
  EXPECT_EQ(told.request_trailer_mode(), kSend);
}

TEST_F(OverrideTest, WhereEnvoyObeysTrailersAreAskedForAGatheredBody) {
  for (const auto policy : {EnvoyModeOverride::kUnknown, EnvoyModeOverride::kAllowed}) {
    Reset();
    limits_.mode_override = policy;
    AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
    FeedRequestHeaders(kStreamed, kBuffered);
    const auto response = Take()[0];
    EXPECT_EQ(response.has_mode_override(), policy == EnvoyModeOverride::kAllowed);
    if (!response.has_mode_override()) continue;
    EXPECT_EQ(response.mode_override().request_trailer_mode(), 1);  // SEND
    EXPECT_EQ(response.mode_override().request_body_mode(), kStreamed);
    EXPECT_EQ(response.mode_override().response_body_mode(), kBuffered);
  }
}

// --- Phases that nobody wants ----------------------------------------------------------

class PruningTest : public EndingsTest {
 protected:
  PruningTest() {
    limits_.mode_override = EnvoyModeOverride::kAllowed;
    limits_.phase_pruning = true;
    limits_.early_end = true;
  }
  FakePlugin* AddWanting(std::initializer_list<callout_phase_t> phases) {
    FakePlugin* plugin = AddPlugin();
    for (const callout_phase_t phase : phases) plugin->phases[phase] = Returns(CALLOUT_OK);
    return plugin;
  }
  // What Envoy is told in the response to the request's headers: "-" for nothing.
  std::string Told(int request_mode, int response_mode) {
    FeedRequestHeaders(request_mode, response_mode);
    const auto responses = Take();
    if (responses.size() != 1) return "no response";
    if (!responses[0].has_mode_override()) return "-";
    return responses[0].mode_override().ShortDebugString();
  }
};

TEST_F(PruningTest, EnvoyIsAskedForWhatSomeInstanceWants) {
  AddWanting({CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS});
  EXPECT_EQ(Told(kStreamed, kBuffered), "request_trailer_mode: SKIP response_trailer_mode: SKIP");
  EXPECT_FALSE(stream_->end().has_value());
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, false));
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_TRUE(EndedOk());
}

TEST_F(PruningTest, TheWantsOfAllInstancesAreUnited) {
  AddWanting({CALLOUT_RESPONSE_BODY});
  AddWanting({CALLOUT_REQUEST_TRAILERS});
  EXPECT_EQ(Told(kStreamed, kBuffered), "response_body_mode: BUFFERED");
}

TEST_F(PruningTest, OfAResponseThatNobodyWantsNotEvenTheHeadersAreAskedFor) {
  AddWanting({CALLOUT_REQUEST_BODY});
  EXPECT_EQ(Told(kStreamed, kStreamed),
            "response_header_mode: SKIP request_body_mode: STREAMED response_trailer_mode: SKIP");
  Feed(Body(CALLOUT_REQUEST_BODY, "a", true));
  EXPECT_TRUE(EndedOk());
}

TEST_F(PruningTest, WhereAllIsWantedNothingIsAsked) {
  AddWanting({CALLOUT_RESPONSE_HEADERS});
  EXPECT_EQ(Told(kNone, kNone), "-");
}

TEST_F(PruningTest, WhereNothingIsWantedTheStreamEndsInstead) {
  AddWanting({CALLOUT_REQUEST_HEADERS});
  EXPECT_EQ(Told(kStreamed, kStreamed), "-");
  EXPECT_TRUE(EndedOk());
}

TEST_F(PruningTest, OnlyWhereEnvoyIsKnownToObeyAndTheOperatorWantsIt) {
  for (const int kind : {0, 1, 2}) {
    Reset();
    limits_.phase_pruning = kind != 0;
    limits_.mode_override = kind == 0   ? EnvoyModeOverride::kAllowed
                            : kind == 1 ? EnvoyModeOverride::kUnknown
                                        : EnvoyModeOverride::kIgnored;
    AddWanting({CALLOUT_RESPONSE_HEADERS});
    EXPECT_EQ(Told(kStreamed, kStreamed), "-") << kind;
  }
}

TEST_F(PruningTest, APluginThatSetsModesItselfKnowsBetter) {
  AddWanting({CALLOUT_RESPONSE_HEADERS})->phases[CALLOUT_REQUEST_HEADERS] =
      [](callout_call_t* call) {
        const std::string bytes = {'\x18', static_cast<char>(kBuffered)};
        return call->host->annotate(call, CALLOUT_MODE_OVERRIDE, ToBytes(bytes));
      };
  EXPECT_EQ(Told(kStreamed, kStreamed), "request_body_mode: BUFFERED response_body_mode: STREAMED");
}

TEST_F(PruningTest, WhoWantsTheRealEndSeesTheExchangeAsItIs) {
  AddWanting({CALLOUT_REQUEST_HEADERS})->create = [](callout_create_args_t* args) {
    args->wants = CALLOUT_WANT_REAL_END;
  };
  EXPECT_EQ(Told(kStreamed, kStreamed), "-");
  EXPECT_FALSE(stream_->end().has_value());
}

TEST_F(PruningTest, AnEnvoyThatDoesNotObeyLosesNothing) {
  AddWanting({CALLOUT_RESPONSE_HEADERS});
  Told(kStreamed, kNone);
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "b", true));
  EXPECT_EQ(Take().size(), 2u);
  EXPECT_FALSE(stream_->end().has_value());
}

// --- Codings and late headers ------------------------------------------------------

TEST_F(EndingsTest, ACodingGoesWithTheBodyThatHadIt) {
  AddPlugin()->phases[CALLOUT_RESPONSE_BODY] = ReplacesBody("plain");
  FeedRequestHeaders(kNone, kBuffered, true);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"Content-Encoding", "gzip"}}));
  Take();
  const auto response = Exchange(Body(CALLOUT_RESPONSE_BODY, "\x1f\x8b", true));
  EXPECT_EQ(Mutations(response.response_body().response().header_mutation()),
            (std::vector<std::string>{"remove content-encoding"}));
}

// Headers that are held for the body are still to go out.
TEST_F(EndingsTest, ACodingGoesWithTheBodyForWhichHeadersWereHeld) {
  enum class How { kGathers, kHolds, kSends };
  for (const How how : {How::kGathers, How::kHolds, How::kSends}) {
    for (const bool sets_coding : {false, true}) {
      Reset();
      SCOPED_TRACE(testing::Message() << static_cast<int>(how) << sets_coding);
      FakePlugin* later = AddPlugin();  // in the response direction
      Pairs seen;
      later->phases[CALLOUT_RESPONSE_HEADERS] = [&seen](callout_call_t* call) {
        seen = HeadersShown(call);
        return CALLOUT_OK;
      };
      FakePlugin* plugin = how == How::kGathers ? AddGatherer(100) : AddPlugin();
      if (how != How::kGathers) {
        plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
      }
      plugin->phases[CALLOUT_RESPONSE_BODY] = [how, sets_coding](callout_call_t* call) {
        envoy::service::ext_proc::v3::BodyResponse answer;
        if (sets_coding) AddSet(answer.mutable_response(), "Content-Encoding", "br");
        answer.mutable_response()->mutable_body_mutation()->mutable_streamed_response()->set_body(
            "plain");
        const std::string payload = answer.SerializeAsString();
        const callout_bytes_t part = ToBytes(payload);
        const auto say = how == How::kSends ? call->host->send : call->host->respond;
        EXPECT_EQ(say(call, CALLOUT_RESPONSE_BODY_RESPONSE, &part, 1), CALLOUT_OK);
        return how == How::kSends ? CALLOUT_NO_RESPONSE : CALLOUT_OK;
      };
      FeedRequestHeaders(kNone, kDuplex, true);
      Take();
      Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"content-encoding", "gzip"}}));
      EXPECT_TRUE(Take().empty());
      Feed(Body(CALLOUT_RESPONSE_BODY, "\x1f\x8b", true));
      const auto responses = Take();
      ASSERT_GE(responses.size(), 2u);
      EXPECT_EQ(Mutations(responses[0].response_headers().response().header_mutation()),
                (std::vector<std::string>{sets_coding ? "set Content-Encoding=br"
                                                      : "remove content-encoding"}));
      EXPECT_EQ(seen, sets_coding ? (Pairs{{"content-encoding", "br"}}) : Pairs{});
    }
  }
}

TEST_F(OverrideTest, WhatNothingShowsKeepsANewBodyFromGoingUnderTheOldCoding) {
  AddAsking(kBuffered, true);
  FeedRequestHeaders(kStreamed, kNone, false, {{"content-encoding", "gzip"}});
  Take();
  const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "\x1f\x8b", true));
  EXPECT_EQ(response.immediate_response().status().code(), 500);
  EXPECT_EQ(FaultCount("encoded_body"), 1);
}

// Also after the plugin has changed the body, as long as the client can be told.
TEST_F(EndingsTest, DenyDeniesAfterAChangeOfTheBodyToo) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kDeny, 403);
  plugin->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("new");
  plugin->phases[CALLOUT_REQUEST_TRAILERS] = Returns(CALLOUT_INTERNAL);
  for (const int mode : {kBuffered, kStreamed}) {
    FeedRequestHeaders(mode, kNone);
    Take();
    Feed(Body(CALLOUT_REQUEST_BODY, "old", false));
    Take();
    const auto response = Exchange(Trailers(CALLOUT_REQUEST_TRAILERS));
    EXPECT_EQ(response.immediate_response().status().code(), 403) << mode;
  }
}

TEST_F(EndingsTest, ACodingThatThePluginSetsStays) {
  AddPlugin()->phases[CALLOUT_RESPONSE_BODY] = Answers([](CommonResponse* common) {
    common->mutable_body_mutation()->set_body("brotli");
    AddSet(common, "content-encoding", "br");
  });
  FeedRequestHeaders(kNone, kBuffered, true);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"content-encoding", "gzip"}}));
  Take();
  const auto response = Exchange(Body(CALLOUT_RESPONSE_BODY, "\x1f\x8b", true));
  EXPECT_EQ(Mutations(response.response_body().response().header_mutation()),
            (std::vector<std::string>{"set content-encoding=br"}));
}

TEST_F(EndingsTest, InStreamedTheCodingHasToGoInTheHeadersHook) {
  for (const bool removed : {false, true}) {
    Reset();
    FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
    plugin->phases[CALLOUT_RESPONSE_BODY] = ReplacesBody("plain");
    if (removed) plugin->phases[CALLOUT_RESPONSE_HEADERS] = RemovesHeader("content-encoding");
    FeedRequestHeaders(kNone, kStreamed, true);
    Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{"content-encoding", "gzip"}}));
    Take();
    Feed(Body(CALLOUT_RESPONSE_BODY, "\x1f\x8b", true));
    EXPECT_EQ(stream_->end().has_value(), !removed);
    if (removed) {
      EXPECT_EQ(BodyTold(Take()), "=plain");
    }
  }
  EXPECT_EQ(FaultCount("encoded_body"), 1);
}

TEST_F(EndingsTest, AHeaderChangeInAStreamedBodyIsAFault) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-late", "1");
  FeedRequestHeaders(kStreamed, kNone);
  Feed(Body(CALLOUT_REQUEST_BODY, "a", true));
  EXPECT_TRUE(stream_->end().has_value());
  EXPECT_EQ(FaultCount("late_header"), 1);
}

TEST_F(EndingsTest, HeadersThatDescribeAStreamedBodyAreLeftOut) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Answers([](CommonResponse* common) {
    common->mutable_body_mutation()->set_body("new");
    AddSet(common, "content-length", "3");
  });
  FeedRequestHeaders(kStreamed, kNone);
  Take();
  const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "a", true));
  EXPECT_EQ(response.request_body().response().body_mutation().body(), "new");
  EXPECT_EQ(response.request_body().response().header_mutation().ByteSizeLong(), 0u);
}

// --- Fail closed -------------------------------------------------------------------

TEST_F(EndingsTest, AHeaderLimitIsRefusedUnderEveryPolicy) {
  for (const auto policy : {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    Reset();
    AddPlugin(policy)->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-user", "guest");
    Pairs headers;
    for (int i = 0; i < 100; ++i) headers.emplace_back("h" + std::to_string(i), "v");
    FeedRequestHeaders(kNone, kNone, true, headers);
    const auto responses = Take();
    ASSERT_EQ(responses.size(), 1u);
    EXPECT_EQ(responses[0].immediate_response().status().code(), 431);
  }
}

TEST_F(EndingsTest, AFaultOfTheClientsMakingIsAnErrorOnceTheResponseIsOut) {
  AddPlugin()->phases[CALLOUT_RESPONSE_TRAILERS] = SetsHeader("x", "a\nb");
  FeedRequestHeaders(kNone, kNone, true);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  Take();
  Feed(Trailers(CALLOUT_RESPONSE_TRAILERS));
  EXPECT_TRUE(Take().empty());
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_NE(stream_->end()->message().find("the byte 0x0a in the value of header 'x'"),
            std::string_view::npos)
      << *stream_->end();
}

TEST_F(EndingsTest, AttributesAreKeptOnceAndInFewMessages) {
  Begin();
  ProcessingRequest first = Headers(CALLOUT_REQUEST_HEADERS);
  (*(*first.mutable_attributes())["ns"].mutable_fields())["a"].set_string_value("1");
  Feed(WithModes(first, kStreamed, kNone));
  const size_t kept = stream_->kept_bytes();
  EXPECT_GT(kept, 0u);
  for (int i = 0; i < 10; ++i) {
    ProcessingRequest again = Body(CALLOUT_REQUEST_BODY, "x", false);
    *again.mutable_attributes() = first.attributes();
    Feed(again);
  }
  EXPECT_EQ(stream_->kept_bytes(), kept);
  for (int i = 0; i < 8 && !stream_->end().has_value(); ++i) {
    ProcessingRequest other = Body(CALLOUT_REQUEST_BODY, "x", false);
    (*(*other.mutable_attributes())["n" + std::to_string(i)].mutable_fields())["a"].set_bool_value(
        true);
    Feed(other);
  }
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(EndingsTest, MessagesWithoutAPhaseAreFew) {
  Begin();
  for (int i = 0; i < 8; ++i) {
    FeedBytes("\xa2\x06\x01x");
    EXPECT_FALSE(stream_->end().has_value());
  }
  FeedBytes("\xa2\x06\x01x");
  EXPECT_TRUE(stream_->end().has_value());
}

}  // namespace
}  // namespace callout::host
