// SPDX-License-Identifier: Apache-2.0

// Several instances on one stream: who sees what, and what goes out.
#include "host/plugin/chain.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "host/stream/chain_response.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

class ChainTest : public StreamTest {
 protected:
  // Adds `count` plugins with a hook for `phase`, made by `make` of their number.
  void AddPlugins(int count, callout_phase_t phase,
                  const std::function<FakePlugin::Hook(int)>& make) {
    for (int i = 0; i < count; ++i) AddPlugin()->phases[phase] = make(i);
  }

  // A hook that notes the body it is shown and then does what `then` does.
  FakePlugin::Hook Notes(std::vector<std::string>* seen,
                         const FakePlugin::Hook& then = Returns(0)) {
    return [=](callout_call_t* call) {
      seen->push_back(BodyShown(call));
      return then(call);
    };
  }
};

// --- Order --------------------------------------------------------------------

TEST_F(ChainTest, RequestPhasesGoInOrderAndResponsePhasesInReverse) {
  std::string order;
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    for (int i = 0; i < 3; ++i) {
      if (phase == CALLOUT_REQUEST_HEADERS) AddPlugin();
      plugins_[i]->phases[phase] = [&order, i](callout_call_t*) {
        order += static_cast<char>('a' + i);
        return CALLOUT_OK;
      };
    }
  }
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  Exchange(Body(CALLOUT_REQUEST_BODY, "x", false));
  Exchange(Trailers(CALLOUT_REQUEST_TRAILERS));
  EXPECT_EQ(std::exchange(order, ""), "abcabcabc");
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  Exchange(Body(CALLOUT_RESPONSE_BODY, "x", false));
  Exchange(Trailers(CALLOUT_RESPONSE_TRAILERS));
  EXPECT_EQ(order, "cbacbacba");
}

TEST_F(ChainTest, EachInstanceIsOpenedAndClosedOnceWithItsOwnPointer) {
  int marks[2];
  for (int i = 0; i < 2; ++i) {
    FakePlugin* plugin = AddPlugin();
    plugin->open = [&marks, i](callout_call_t* call) {
      call->stream = &marks[i];
      return CALLOUT_OK;
    };
    plugin->phases[CALLOUT_REQUEST_HEADERS] = [&marks, i](callout_call_t* call) {
      EXPECT_EQ(call->stream, &marks[i]);
      return CALLOUT_OK;
    };
    plugin->close = [&marks, i](callout_call_t* call) { EXPECT_EQ(call->stream, &marks[i]); };
  }
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnHalfClose();
  for (const auto& plugin : plugins_) {
    EXPECT_EQ(plugin->opened, 1);
    EXPECT_EQ(plugin->closed, 1);
  }
}

TEST_F(ChainTest, AnInstanceThatIsNeverCalledIsNotOpened) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddPlugin()->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnHalfClose();
  EXPECT_EQ(plugins_[0]->opened, 1);
  EXPECT_EQ(plugins_[1]->opened, 0);
  EXPECT_EQ(plugins_[1]->closed, 0);
}

// --- Headers and trailers -------------------------------------------------------

TEST_F(ChainTest, EachSeesTheHeadersAsTheOnesBeforeLeftThem) {
  std::vector<Pairs> seen;
  const auto note = [&seen](const FakePlugin::Hook& then) -> FakePlugin::Hook {
    return [&seen, then](callout_call_t* call) {
      seen.push_back(HeadersShown(call));
      return then(call);
    };
  };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = note(SetsHeader("X-A", "1"));
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = note(RemovesHeader("B"));
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = note(SetsHeader("x-a", "2", true));
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = note(Returns(CALLOUT_OK));
  Begin();
  const auto response =
      Exchange(Headers(CALLOUT_REQUEST_HEADERS, false, {{":path", "/"}, {"b", "0"}}));
  const std::vector<Pairs> expected = {
      {{":path", "/"}, {"b", "0"}},
      {{":path", "/"}, {"b", "0"}, {"x-a", "1"}},
      {{":path", "/"}, {"x-a", "1"}},
      {{":path", "/"}, {"x-a", "1"}, {"x-a", "2"}},
  };
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(Mutations(response.request_headers().response().header_mutation()),
            (std::vector<std::string>{"set X-A=1", "append X-A=2", "remove B"}));
}

TEST_F(ChainTest, EachSeesTheTrailersAsTheOnesBeforeLeftThem) {
  std::vector<Pairs> seen;
  const auto note = [&seen](const FakePlugin::Hook& then) -> FakePlugin::Hook {
    return [&seen, then](callout_call_t* call) {
      seen.push_back(HeadersShown(call));
      return then(call);
    };
  };
  AddPlugin()->phases[CALLOUT_RESPONSE_TRAILERS] = note(SetsHeader("first", "1"));
  AddPlugin()->phases[CALLOUT_RESPONSE_TRAILERS] = note(SetsHeader("second", "2"));
  Begin();
  const auto response = Exchange(Trailers(CALLOUT_RESPONSE_TRAILERS, {{"t", "0"}}));
  EXPECT_EQ(seen, (std::vector<Pairs>{{{"t", "0"}}, {{"t", "0"}, {"second", "2"}}}));
  EXPECT_EQ(Mutations(response.response_trailers().header_mutation()),
            (std::vector<std::string>{"set second=2", "set first=1"}));
}

TEST_F(ChainTest, FieldsAroundARebuiltMessageAreKept) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "1");
  std::string shown;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    shown = std::string(ToView(call->request));
    return CALLOUT_OK;
  };
  Begin();
  ProcessingRequest request =
      WithModes(Headers(CALLOUT_REQUEST_HEADERS, true, {{"k", "v"}}), kStreamed, kNone);
  (*(*request.mutable_attributes())["ns"].mutable_fields())["a"].set_string_value("b");
  FeedBytes(request.SerializeAsString() + "\xa2\x06\x01x");
  ProcessingRequest seen;
  ASSERT_TRUE(seen.ParseFromString(shown));
  EXPECT_EQ(seen.request_headers().headers().headers_size(), 2);
  EXPECT_TRUE(seen.request_headers().end_of_stream());
  EXPECT_EQ(seen.attributes().at("ns").fields().at("a").string_value(), "b");
  EXPECT_EQ(seen.protocol_config().request_body_mode(), kStreamed);
  EXPECT_NE(shown.find("\xa2\x06\x01x"), std::string::npos);
}

TEST_F(ChainTest, AnswersOfTheSameHeaderMergeIntoTheLast) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("h", "1");
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = RemovesHeader("H");
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("other", "x");
  Begin();
  EXPECT_EQ(Mutations(Exchange(Headers(CALLOUT_REQUEST_HEADERS))
                          .request_headers()
                          .response()
                          .header_mutation()),
            (std::vector<std::string>{"set other=x", "remove h"}));
}

TEST_F(ChainTest, AChainOfOneSendsTheBytesItWasGiven) {
  // Odd but legal: fields out of order, unknown ones, a split `response`.
  const std::string payload =
      std::string("\xa2\x06\x01x\x0a\x02\x28\x01\x0a\x05\x12\x03\x12\x01\x61", 15);
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    const callout_bytes_t part = ToBytes(payload);
    return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
  };
  // One that sets nothing does not count.
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  const auto output = stream_->TakeOutput();
  ASSERT_EQ(output.size(), 1u);
  EXPECT_EQ(output[0], "\x0a\x0f" + payload);
}

TEST_F(ChainTest, AMergedAnswerKeepsUnknownFieldsOfAll) {
  for (const char* unknown : {"\xa2\x06\x01x", "\xaa\x06\x01y"}) {
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [=](callout_call_t* call) {
      const std::string inside = std::string("\x0a\x04") + unknown;  // in CommonResponse
      const callout_bytes_t parts[] = {ToBytes(inside), ToBytes(unknown)};
      return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, parts, 2);
    };
  }
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  const auto output = stream_->TakeOutput();
  ASSERT_EQ(output.size(), 1u);
  EXPECT_EQ(output[0], "\x0a\x12\x0a\x08\xa2\x06\x01x\xaa\x06\x01y\xa2\x06\x01x\xaa\x06\x01y");
}

TEST_F(ChainTest, ClearRouteCacheHoldsIfAnyoneWantsIt) {
  for (int wanting = 0; wanting < 3; ++wanting) {
    Reset();
    AddPlugins(3, CALLOUT_REQUEST_HEADERS, [=](int i) {
      return Answers([=](CommonResponse* common) {
        common->mutable_header_mutation();
        common->set_clear_route_cache(i == wanting);
      });
    });
    Begin();
    const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
    EXPECT_TRUE(response.request_headers().response().clear_route_cache());
    EXPECT_TRUE(response.request_headers().response().has_header_mutation());
  }
}

TEST_F(ChainTest, AMergeOverEnvoysLimitFallsUnderThePolicyOfTheOneThatBroughtItOver) {
  for (const bool fail : {false, true}) {
    Reset();
    for (int i = 0; i < 3; ++i) {
      FakePlugin* plugin =
          i == 1 && !fail ? AddPlugin(ErrorPolicy::Action::kContinue) : AddPlugin();
      plugin->phases[CALLOUT_REQUEST_HEADERS] = Answers([i](CommonResponse* common) {
        const int count = i == 0 ? 90 : i == 1 ? 11 : 10;
        for (int n = 0; n < count; ++n) {
          common->mutable_header_mutation()->add_remove_headers(std::to_string(i) + "-" +
                                                                std::to_string(n));
        }
      });
    }
    Begin();
    Feed(Headers(CALLOUT_REQUEST_HEADERS));
    if (fail) {
      EXPECT_EQ(Take().at(0).immediate_response().status().code(), 500);
      continue;
    }
    const auto responses = Take();
    ASSERT_EQ(responses.size(), 1u);
    // The first and the third fit together.
    const auto& removed =
        responses[0].request_headers().response().header_mutation().remove_headers();
    EXPECT_EQ(removed.size(), 100);
    EXPECT_EQ(std::count_if(removed.begin(), removed.end(),
                            [](const std::string& name) { return name[0] == '1'; }),
              0);
  }
  EXPECT_EQ(FaultCount("illegal_header", "fake0"), 0);
  EXPECT_EQ(FaultCount("illegal_header", "fake1"), 2);
  EXPECT_EQ(FaultCount("illegal_header", "fake2"), 0);
}

TEST_F(ChainTest, AnAnswerThatIsLeftOutIsNotShownToLaterInstances) {
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_HEADERS] =
      SetsHeader("bad name", "1");
  Pairs seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    seen = HeadersShown(call);
    return CALLOUT_OK;
  };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(seen, (Pairs{{":path", "/"}}));
}

// --- Immediate responses ----------------------------------------------------------

TEST_F(ChainTest, AnImmediateResponseEndsTheChainAndNoLaterHookRuns) {
  std::vector<std::string> called;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "1");
  FakePlugin* denier = AddPlugin();
  denier->phases[CALLOUT_REQUEST_HEADERS] = RepliesAtOnce(403);
  FakePlugin* last = AddPlugin();
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    last->phases[phase] = [&](callout_call_t*) {
      called.push_back("last");
      return CALLOUT_OK;
    };
  }
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(response.immediate_response().status().code(), 403);
  EXPECT_EQ(response.immediate_response().headers().set_headers_size(), 0);
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_TRUE(Take().empty());
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->end()->ok());
  EXPECT_TRUE(called.empty());
  EXPECT_EQ(last->opened, 0);
}

TEST_F(ChainTest, MetadataOfThoseBeforeGoesWithAnImmediateResponse) {
  const auto annotate = [](callout_call_t* call, const std::string& key) {
    google::protobuf::Struct metadata;
    (*metadata.mutable_fields())[key].set_bool_value(true);
    const std::string bytes = metadata.SerializeAsString();
    EXPECT_EQ(call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, ToBytes(bytes)), CALLOUT_OK);
  };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    annotate(call, "first");
    return CALLOUT_OK;
  };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    annotate(call, "second");
    return RepliesAtOnce(403)(call);
  };
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(response.has_immediate_response());
  EXPECT_EQ(response.dynamic_metadata().fields().size(), 2u);
}

// --- Bodies -----------------------------------------------------------------------

TEST_F(ChainTest, AReplacedBodyIsWhatTheNextSees) {
  for (const int mode : {kStreamed, kBuffered, kDuplex}) {
    Reset();
    std::vector<std::string> seen;
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen, ReplacesBody("one"));
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen, ClearsBody());
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen, ReplacesBody("four"));
    Begin();
    Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), mode, kNone));
    Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
    EXPECT_EQ(seen, (std::vector<std::string>{"zero.", "one.", "one.", "."})) << "mode " << mode;
    EXPECT_EQ(BodyTold(Take()), mode == kDuplex ? "four." : "=four");
  }
}

TEST_F(ChainTest, TheLastWordOnABodyCounts) {
  const std::vector<std::pair<std::pair<FakePlugin::Hook, FakePlugin::Hook>, std::string>> rows = {
      {{ReplacesBody("a"), Returns(CALLOUT_OK)}, "=a"},
      {{ReplacesBody("a"), ClearsBody()}, "clear"},
      {{ClearsBody(), ReplacesBody("b")}, "=b"},
      {{Returns(CALLOUT_OK), ClearsBody()}, "clear"},
      {{ReplacesBody(""), Returns(CALLOUT_OK)}, "="},
  };
  for (const auto& [hooks, told] : rows) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = hooks.first;
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = hooks.second;
    Begin();
    Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
    Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
    EXPECT_EQ(BodyTold(Take()), told);
  }
}

TEST_F(ChainTest, TheContentLengthIsThatOfTheMergedBody) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("a");
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("four");
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, {{"content-length", "9"}}), kBuffered,
                     kNone));
  const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "old", true));
  EXPECT_EQ(Mutations(response.request_body().response().header_mutation()),
            (std::vector<std::string>{"set content-length=4"}));
}

// What an instance has said of its body does not describe a later one's.
TEST_F(ChainTest, HeadersThatDescribeABodyGoWithIt) {
  for (const bool clears : {false, true}) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Answers([](CommonResponse* common) {
      common->mutable_body_mutation()->set_body("a");
      AddSet(common, "Content-Length", "1");
      AddSet(common, "content-encoding", "br");
      AddSet(common, "x-a", "1");
    });
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = clears ? ClearsBody() : ReplacesBody("four");
    Begin();
    Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, {{"content-length", "9"}}),
                       kBuffered, kNone));
    const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "old", true));
    EXPECT_EQ(Mutations(response.request_body().response().header_mutation()),
              (std::vector<std::string>{"set x-a=1",
                                        clears ? "set content-length=0" : "set content-length=4"}));
  }
}

TEST_F(ChainTest, WhatSendSendsPassesTheLaterInstances) {
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    SendChunk(call, "a");
    SendChunk(call, "b");
    return ReplacesBody("c")(call);
  };
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    seen.push_back(BodyShown(call));
    return ReplacesBody("<" + seen.back() + ">")(call);
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  EXPECT_EQ(seen, (std::vector<std::string>{"a", "b", "c."}));
  EXPECT_EQ(BodyTold(Take()), "<a>|<b>|<c.>.");
}

TEST_F(ChainTest, ALaterInstanceMayDropWhatSendSends) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    SendChunk(call, "a");
    return ReplacesBody("b")(call);
  };
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    return BodyShown(call) == "a" ? CALLOUT_NO_RESPONSE : CALLOUT_OK;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  EXPECT_EQ(BodyTold(Take()), "b.");
}

TEST_F(ChainTest, WhatAllOfThemSendKeepsItsOrder) {
  for (int i = 0; i < 2; ++i) {
    AddPlugin()->phases[CALLOUT_RESPONSE_BODY] = [](callout_call_t* call) {
      const std::string shown(BodyShown(call));
      SendChunk(call, shown.substr(0, 1) + "1");
      SendChunk(call, shown.substr(0, 1) + "2");
      return CALLOUT_OK;
    };
  }
  Begin();
  Exchange(WithModes(Headers(CALLOUT_RESPONSE_HEADERS), kNone, kDuplex));
  Feed(Body(CALLOUT_RESPONSE_BODY, "x", true));
  EXPECT_EQ(BodyTold(Take()), "x1|x2|x1|x1|x2|x2|x1|x2|x.");
}

TEST_F(ChainTest, ADroppedEndReachesTheLaterInstancesAndTheirBodyGoesOut) {
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen, Returns(CALLOUT_NO_RESPONSE));
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen, ReplacesBody("mine"));
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  EXPECT_TRUE(Take().empty());
  Feed(Body(CALLOUT_REQUEST_BODY, "two", true));
  EXPECT_EQ(seen, (std::vector<std::string>{"one", "two.", "."}));
  EXPECT_EQ(BodyTold(Take()), "mine.");
}

// --- CONTINUE_AND_REPLACE -----------------------------------------------------------

FakePlugin::Hook ReplacesMessage(const std::string& body) {
  return Answers([=](CommonResponse* common) {
    common->set_status(CommonResponse::CONTINUE_AND_REPLACE);
    AddSet(common, ":method", "POST");
    common->mutable_body_mutation()->set_body(body);
  });
}

TEST_F(ChainTest, LaterInstancesGetABodyCallWithTheReplacedBody) {
  for (const int mode : {kStreamed, kBuffered, kDuplex}) {
    Reset();
    std::vector<std::string> seen;
    FakePlugin* first = AddPlugin();
    first->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
    first->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
    FakePlugin* second = AddPlugin();
    second->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
      seen.push_back(BodyShown(call));
      EXPECT_TRUE(call->flags & CALLOUT_CALL_WHOLE_BODY);
      EXPECT_TRUE(call->flags & CALLOUT_CALL_FIRST);
      return ReplacesBody("newer")(call);
    };
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
    Begin();
    const auto response = Exchange(
        WithModes(Headers(CALLOUT_REQUEST_HEADERS, true, {{":method", "GET"}}), mode, kNone));
    EXPECT_EQ(seen, (std::vector<std::string>{"new.", "newer."})) << "mode " << mode;
    EXPECT_EQ(response.request_headers().response().status(), CommonResponse::CONTINUE_AND_REPLACE);
    EXPECT_EQ(response.request_headers().response().body_mutation().body(), "newer");
    EXPECT_EQ(Mutations(response.request_headers().response().header_mutation()),
              (std::vector<std::string>{"set :method=POST"}));
  }
}

TEST_F(ChainTest, InResponsesTheReplacedBodyGoesTheOtherWay) {
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_RESPONSE_BODY] = Notes(&seen);
  FakePlugin* second = AddPlugin();
  second->phases[CALLOUT_RESPONSE_HEADERS] = ReplacesMessage("new");
  AddPlugin()->phases[CALLOUT_RESPONSE_BODY] = Notes(&seen);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_RESPONSE_HEADERS), kNone, kStreamed));
  EXPECT_EQ(seen, (std::vector<std::string>{"new."}));
}

TEST_F(ChainTest, AReplacedBodyIsWholeForAGatherer) {
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
  AddGatherer(3)->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
  InstanceSettings settings;
  settings.too_large.action = ErrorPolicy::Action::kContinue;
  AddGatherer(2, settings)->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
  Begin();
  const auto response = Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  EXPECT_EQ(seen, (std::vector<std::string>{"new."}));
  EXPECT_EQ(response.request_headers().response().body_mutation().body(), "new");
  EXPECT_EQ(FaultCount("body_too_large", "fake2"), 1);
}

// What the headers tell of Envoy's body says nothing of the one that takes its place.
TEST_F(ChainTest, AReplacedBodyEndsWhateverTheHeadersSay) {
  for (const bool alone : {false, true}) {
    Reset();
    std::vector<std::string> seen;
    if (alone) {
      FakePlugin* const plugin = AddGatherer(3);
      plugin->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
      plugin->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
    } else {
      AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
      AddGatherer(3)->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
    }
    Begin();
    const auto response = Exchange(WithModes(
        Headers(CALLOUT_REQUEST_HEADERS, false, {{"trailer", "x"}, {"upgrade", "websocket"}}),
        kStreamed, kNone));
    EXPECT_EQ(response.request_headers().response().body_mutation().body(), "new");
    EXPECT_EQ(seen.size(), alone ? 0u : 1u);
  }
}

TEST_F(ChainTest, WithAReplacedBodyTheLastPluginsHeaderCounts) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-user", "of the body");
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-user", "verified");
  Begin();
  const auto response = Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  const std::vector<std::string> mutations =
      Mutations(response.request_headers().response().header_mutation());
  EXPECT_EQ(std::count(mutations.begin(), mutations.end(), "set x-user=verified"), 1);
  EXPECT_EQ(std::count(mutations.begin(), mutations.end(), "set x-user=of the body"), 0);
}

TEST_F(ChainTest, WithBodyModeNoneNoOneIsGivenTheReplacedBody) {
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone));
  EXPECT_TRUE(seen.empty());
}

TEST_F(ChainTest, LaterInstancesSeeThatHeadersWithAReplacedBodyEndNothing) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
  uint32_t flags = CALLOUT_CALL_LAST;
  bool end_of_stream = true;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    flags = call->flags;
    ext_proc::HttpHeaders headers;
    headers.ParseFromArray(call->message.data, static_cast<int>(call->message.size));
    end_of_stream = headers.end_of_stream();
    return CALLOUT_OK;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kBuffered, kNone));
  EXPECT_FALSE(flags & CALLOUT_CALL_LAST);
  EXPECT_FALSE(end_of_stream);
}

// Envoy sends duplex chunks without waiting for the header answer, and after
// CONTINUE_AND_REPLACE takes no answer to them.
TEST_F(ChainTest, ChunksOnTheirWayWhenTheBodyIsReplacedAreLeftUnanswered) {
  std::vector<std::string> seen;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = ReplacesMessage("new");
  plugin->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "old", false));
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  EXPECT_TRUE(Take().empty());
  EXPECT_TRUE(seen.empty());
  EXPECT_FALSE(stream_->end().has_value());
  EXPECT_TRUE(Exchange(Headers(CALLOUT_RESPONSE_HEADERS)).has_response_headers());
}

// --- Policies in a chain ----------------------------------------------------------

TEST_F(ChainTest, OneThatFailsUnderContinueLeavesTheOthersAlone) {
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen, ReplacesBody("a"));
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_BODY] =
      Notes(&seen, Returns(CALLOUT_INTERNAL));
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Notes(&seen);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  EXPECT_EQ(seen, (std::vector<std::string>{"zero.", "a.", "a."}));
  EXPECT_EQ(BodyTold(Take()), "=a");
}

TEST_F(ChainTest, ARefusedOpenUnderContinueLeavesTheInstanceOut) {
  FakePlugin* refuser = AddPlugin(ErrorPolicy::Action::kContinue);
  refuser->open = [](callout_call_t*) { return CALLOUT_UNAVAILABLE; };
  int calls = 0;
  for (callout_phase_t phase : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
    refuser->phases[phase] = [&](callout_call_t*) {
      ++calls;
      return CALLOUT_OK;
    };
  }
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "1");
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(response.request_headers().response().header_mutation().set_headers_size(), 1);
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(refuser->opened, 1);
  stream_->OnHalfClose();
  EXPECT_EQ(refuser->closed, 0);
}

// --- ChainSource ------------------------------------------------------------------

TEST_F(ChainTest, AStreamKeepsTheChainItBeganWith) {
  std::string called;
  for (const char* name : {"a", "b"}) {
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&called, name](callout_call_t*) {
      called += name;
      return CALLOUT_OK;
    };
  }
  Begin();
  const std::shared_ptr<const Chain> both = chains_->current();
  chains_->Switch(std::make_shared<Chain>(std::vector{both->instances[1]}));
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(std::exchange(called, ""), "ab");
  stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(called, "b");
}

TEST(ChainSourceTest, EveryThreadGetsTheNewChainAndOldOnesAreLetGo) {
  auto old_chain = std::make_shared<const Chain>();
  ChainSource source(old_chain);
  const auto new_chain = std::make_shared<const Chain>();
  const ChainSource::Holders holders = source.Switch(new_chain);
  EXPECT_EQ(old_chain.use_count(), 1);
  // More threads than shards.
  std::vector<std::shared_ptr<const Chain>> taken(2 * ChainSource::kShards);
  std::vector<std::thread> threads;
  threads.reserve(taken.size());
  for (auto& chain : taken) threads.emplace_back([&] { chain = source.current(); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& chain : taken) EXPECT_EQ(chain.get(), new_chain.get());
  EXPECT_EQ(holders.Count(), taken.size() + ChainSource::kShards);
  source.Switch(old_chain);
  EXPECT_EQ(holders.Count(), taken.size());
}

}  // namespace
}  // namespace callout::host
