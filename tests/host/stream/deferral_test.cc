// SPDX-License-Identifier: Apache-2.0

// Deferred calls: finished in the hook, by another thread, late, cancelled, in
// the middle of a chain; and the time asked of Envoy for them.
#include <random>
#include <thread>

#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class DeferralTest : public StreamTest {
 protected:
  // A hook that defers and leaves the call in `*call`.
  static FakePlugin::Hook Defers(callout_call_t** call) {
    return [call](callout_call_t* deferred) {
      *call = deferred;
      return CALLOUT_DEFERRED;
    };
  }

  static InstanceSettings Continue() {
    InstanceSettings settings;
    settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
    return settings;
  }

  static callout_status_t Finish(callout_call_t* call, callout_status_t status = CALLOUT_OK) {
    return call->host->finish(call, status);
  }

  static callout_status_t AskForMs(callout_call_t* call, int64_t ms) {
    google::protobuf::Duration duration;
    duration.set_seconds(ms / 1000);
    duration.set_nanos(static_cast<int32_t>(ms % 1000 * 1000000));
    const std::string bytes = duration.SerializeAsString();
    return call->host->annotate(call, CALLOUT_OVERRIDE_MESSAGE_TIMEOUT, ToBytes(bytes));
  }

  // The milliseconds that the one answer so far asks for; -1 if it asks nothing.
  int64_t MsAskedFor() {
    const auto responses = Take();
    if (responses.size() != 1 || !responses[0].has_override_message_timeout()) return -1;
    EXPECT_EQ(responses[0].response_case(), ProcessingResponse::RESPONSE_NOT_SET);
    const auto& duration = responses[0].override_message_timeout();
    return duration.seconds() * 1000 + duration.nanos() / 1000000;
  }
};

// --- finish() ---------------------------------------------------------------------

TEST_F(DeferralTest, TheFirstFinishCounts) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(Finish(call, CALLOUT_OK), CALLOUT_OK);
    EXPECT_EQ(Finish(call, CALLOUT_INTERNAL), CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_DEFERRED;
  };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
}

TEST_F(DeferralTest, FinishFollowedByAnotherReturnIsIgnored) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    Finish(call, CALLOUT_INTERNAL);
    return CALLOUT_OK;
  };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_EQ(environment_->deferred(), 0u);
}

TEST_F(DeferralTest, OpenMayNotFinish) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* deferred = nullptr;
  plugin->open = [](callout_call_t* call) {
    EXPECT_EQ(Finish(call), CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  plugin->close = [](callout_call_t* call) {
    EXPECT_EQ(Finish(call), CALLOUT_FAILED_PRECONDITION);
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_FALSE(stream_->idle());
  EXPECT_EQ(Finish(deferred), CALLOUT_OK);
  Deliver();
  EXPECT_EQ(Take().size(), 1u);
}

TEST_F(DeferralTest, AnErrorGivenToFinishIsLikeOneReturned) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  deferred->host->set_error(deferred, ToBytes("backend gone"));
  Finish(deferred, CALLOUT_UNAVAILABLE);
  Deliver();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(*stream_->end(), absl::UnavailableError("backend gone"));
  EXPECT_TRUE(stream_->closed());
}

TEST_F(DeferralTest, AWriteToStreamWhileDeferredIsKept) {
  callout_call_t* deferred = nullptr;
  int mark = 0;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    EXPECT_EQ(call->stream, &mark);
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  deferred->stream = &mark;
  Finish(deferred);
  Deliver();
  Take();
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
}

// --- In a chain -------------------------------------------------------------------

TEST_F(DeferralTest, TheLaterInstancesWaitForADeferredCall) {
  callout_call_t* deferred = nullptr;
  Pairs seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "1");
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    seen = HeadersShown(call);
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(seen.empty());
  EXPECT_FALSE(stream_->idle());
  EXPECT_EQ(HeadersShown(deferred), (Pairs{{":path", "/"}, {"a", "1"}}));
  SetsHeader("b", "2")(deferred);
  Finish(deferred);
  Deliver();
  EXPECT_EQ(seen, (Pairs{{":path", "/"}, {"a", "1"}, {"b", "2"}}));
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(Mutations(responses[0].request_headers().response().header_mutation()),
            (std::vector<std::string>{"set a=1", "set b=2"}));
}

TEST_F(DeferralTest, EachInstanceOfAChainMayDefer) {
  callout_call_t* deferred[3] = {};
  for (auto& call : deferred) AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&call);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  for (auto& call : deferred) {
    ASSERT_NE(call, nullptr);
    EXPECT_TRUE(Take().empty());
    Finish(call);
    Deliver();
  }
  EXPECT_EQ(Take().size(), 1u);
}

TEST_F(DeferralTest, ChunksSentWhileDeferredGoAheadThroughTheLaterInstances) {
  callout_call_t* first = nullptr;
  callout_call_t* second = nullptr;
  std::vector<std::string> seen;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    SendChunk(call, "in the hook");
    first = call;
    return CALLOUT_DEFERRED;
  };
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    seen.push_back(BodyShown(call));
    second = call;
    return seen.size() == 2 ? CALLOUT_DEFERRED : CALLOUT_OK;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  EXPECT_EQ(BodyTold(Take()), "in the hook|");
  // The second instance defers the next chunk; the one after it has to wait.
  SendChunk(first, "deferred");
  Deliver();
  SendChunk(first, "after it");
  Deliver();
  EXPECT_TRUE(Take().empty());
  ReplacesBody("last")(first);
  Finish(first);
  Deliver();
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(seen.size(), 2u);
  ReplacesBody("in its turn")(second);
  Finish(second);
  Deliver();
  EXPECT_EQ(seen, (std::vector<std::string>{"in the hook", "deferred", "after it", "last."}));
  EXPECT_EQ(BodyTold(Take()), "in its turn|after it|last.");
  EXPECT_TRUE(stream_->idle());
}

TEST_F(DeferralTest, AnImmediateResponseFromALaterInstanceEndsAChunkSentAhead) {
  callout_call_t* first = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    SendChunk(call, "a");
    first = call;
    return CALLOUT_DEFERRED;
  };
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = RepliesAtOnce(403);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_TRUE(responses[0].has_immediate_response());
  // The first is still at work on the message, whose bytes stay.
  EXPECT_EQ(BodyShown(first), "zero.");
  SendChunk(first, "b");
  Finish(first);
  Deliver();
  EXPECT_TRUE(Take().empty());
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->end()->ok());
  EXPECT_TRUE(stream_->closed());
}

TEST_F(DeferralTest, AFailureOfALaterInstanceWaitsForTheDeferredCallBeforeClosing) {
  callout_call_t* first = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    SendChunk(call, "a");
    first = call;
    return CALLOUT_DEFERRED;
  };
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_INTERNAL);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_FALSE(stream_->closed());
  EXPECT_EQ(BodyShown(first), "zero.");
  Finish(first);
  Deliver();
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugin->closed, 1);
}

// --- Late calls -------------------------------------------------------------------

TEST_F(DeferralTest, ALateCallKeepsItsMemory) {
  callout_call_t* late = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "1");
  AddPlugin(Continue())->phases[CALLOUT_REQUEST_HEADERS] = Defers(&late);
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("b", "2");
  Begin();
  ProcessingRequest request = Headers(CALLOUT_REQUEST_HEADERS);
  (*(*request.mutable_attributes())["ns"].mutable_fields())["k"].set_string_value("first");
  (*request.mutable_metadata_context()->mutable_filter_metadata())["m"];
  Feed(request);
  const std::string attributes(ToView(late->attributes));
  const std::string metadata(ToView(late->metadata_context));
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  // Later messages bring other attributes and metadata, and other bytes.
  request = Headers(CALLOUT_RESPONSE_HEADERS);
  (*(*request.mutable_attributes())["ns"].mutable_fields())["k"].set_string_value("second");
  (*request.mutable_metadata_context()->mutable_filter_metadata())["other"];
  Exchange(request);
  Exchange(Body(CALLOUT_REQUEST_BODY, std::string(5000, 'x'), true));
  EXPECT_EQ(HeadersShown(late), (Pairs{{":path", "/"}, {"a", "1"}}));
  EXPECT_EQ(ToView(late->attributes), attributes);
  EXPECT_EQ(ToView(late->metadata_context), metadata);
  EXPECT_EQ(Finish(late), CALLOUT_DEADLINE_EXCEEDED);
  Deliver();
}

// What Envoy says once for each direction may come while a call of the other one is at work.
TEST_F(DeferralTest, ACallAtWorkKeepsWhatItWasGiven) {
  const auto say = [](ProcessingRequest* request, char value) {
    const std::string text(200, value);
    (*(*request->mutable_attributes())["ns"].mutable_fields())["k"].set_string_value(text);
    (*request->mutable_metadata_context()->mutable_filter_metadata())[text];
  };
  for (const bool late : {false, true}) {
    Reset();
    callout_call_t* call = nullptr;
    AddPlugin(Continue())->phases[CALLOUT_REQUEST_BODY] = Defers(&call);
    Begin();
    ProcessingRequest request = WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone);
    say(&request, 'a');
    Feed(request);
    Feed(Body(CALLOUT_REQUEST_BODY, "chunk", false));
    ASSERT_NE(call, nullptr);
    const std::string attributes(ToView(call->attributes));
    const std::string metadata(ToView(call->metadata_context));
    ASSERT_GT(metadata.size(), 200u);
    request = Headers(CALLOUT_RESPONSE_HEADERS);
    say(&request, 'b');
    Feed(request);
    if (late) PassDeadline();
    EXPECT_EQ(ToView(call->attributes), attributes);
    EXPECT_EQ(ToView(call->metadata_context), metadata);
    EXPECT_EQ(Finish(call), late ? CALLOUT_DEADLINE_EXCEEDED : CALLOUT_OK);
    Deliver();
    Take();
  }
}

TEST_F(DeferralTest, ALateCallKeepsTheTransportsBytes) {
  callout_call_t* late = nullptr;
  FakePlugin* plugin = AddPlugin(Continue());
  plugin->phases[CALLOUT_REQUEST_BODY] = Defers(&late);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "chunk", false));
  PassDeadline();
  EXPECT_EQ(BodyTold(Take()), "-");
  // The next call waits for it.
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  Feed(Body(CALLOUT_REQUEST_BODY, "another", true));
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(BodyShown(late), "chunk");
  Finish(late);
  Deliver();
  EXPECT_EQ(BodyTold(Take()), "-");
}

TEST_F(DeferralTest, AWholeBodyIsKeptForALateCall) {
  callout_call_t* late = nullptr;
  AddGatherer(100, Continue())->phases[CALLOUT_REQUEST_BODY] = Defers(&late);
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("other");
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "two", true));
  PassDeadline();
  EXPECT_EQ(BodyTold(Take()), "?other.");
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(BodyShown(late), "onetwo.");
  Finish(late);
  Deliver();
}

TEST_F(DeferralTest, FinishInTimeCountsThoughTheDeadlineComesBeforeTheEvent) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(Finish(deferred), CALLOUT_OK);
  PassDeadline();
  EXPECT_FALSE(stream_->end().has_value());
  EXPECT_EQ(stream_->deadline_ns(), 0u);
  Deliver();
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(FaultCount("deadline"), 0);
}

TEST_F(DeferralTest, WhatALateCallSendsIsIgnored) {
  callout_call_t* late = nullptr;
  AddPlugin(Continue())->phases[CALLOUT_REQUEST_BODY] = Defers(&late);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", false));
  SendChunk(late, "too late already");
  PassDeadline();
  EXPECT_EQ(BodyTold(Take()), "zero|");
  SendChunk(late, "late");
  Finish(late);
  Deliver();
  EXPECT_TRUE(Take().empty());
}

TEST_F(DeferralTest, AfterChunksWereSentAMissedDeadlineFailsUnderContinueToo) {
  callout_call_t* late = nullptr;
  AddPlugin(Continue())->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    SendChunk(call, "half");
    late = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  EXPECT_EQ(BodyTold(Take()), "half|");
  PassDeadline();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kDeadlineExceeded);
  Finish(late);
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(DeferralTest, ALateInstanceIsToldThatTheClientHasLeft) {
  callout_call_t* late = nullptr;
  int cancelled = 0;
  FakePlugin* plugin = AddPlugin(Continue());
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&late);
  plugin->cancel = [&](callout_call_t*) { ++cancelled; };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  PassDeadline();
  stream_->OnCancel();
  EXPECT_EQ(cancelled, 1);
  Finish(late);
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(DeferralTest, ManyLateCallsOfOneStreamAreWaitedFor) {
  callout_call_t* late[2] = {};
  for (auto& call : late) AddPlugin(Continue())->phases[CALLOUT_REQUEST_HEADERS] = Defers(&call);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  PassDeadline();
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->end()->ok());
  for (auto& call : late) {
    EXPECT_FALSE(stream_->closed());
    EXPECT_EQ(Finish(call), CALLOUT_DEADLINE_EXCEEDED);
    Deliver();
  }
  EXPECT_TRUE(stream_->closed());
}

// --- Cancellation -------------------------------------------------------------------

TEST_F(DeferralTest, OnlyInstancesAtWorkAreToldThatTheClientHasLeft) {
  callout_call_t* deferred = nullptr;
  std::string told;
  for (int i = 0; i < 3; ++i) {
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = i == 1 ? Defers(&deferred) : Returns(CALLOUT_OK);
    plugin->cancel = [&told, i](callout_call_t*) { told += std::to_string(i); };
  }
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnCancel();
  EXPECT_EQ(told, "1");
  EXPECT_EQ(SendChunk(deferred, "x"), CALLOUT_CANCELLED);
  EXPECT_EQ(Finish(deferred), CALLOUT_CANCELLED);
  Deliver();
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugins_[0]->closed, 1);
  EXPECT_EQ(plugins_[1]->closed, 1);
  EXPECT_EQ(plugins_[2]->opened, 0);
  EXPECT_EQ(environment_->deferred(), 0u);
}

TEST_F(DeferralTest, TheMessageStaysUntilACancelledCallIsFinished) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Defers(&deferred);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kBuffered, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "body", true));
  stream_->OnCancel();
  EXPECT_EQ(BodyShown(deferred), "body.");
  Finish(deferred);
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

// --- Time asked of Envoy --------------------------------------------------------------

TEST_F(DeferralTest, TheBudgetIsAskedForOnceForAMessage) {
  limits_.defer_budget_ms = 1500;
  callout_call_t* deferred[2] = {};
  for (auto& call : deferred) AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Defers(&call);
  AddPlugin()->phases[CALLOUT_RESPONSE_HEADERS] = Defers(&deferred[0]);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(MsAskedFor(), 1500);
  // The deadline has moved by as much.
  const uint64_t deadline_ns = deferred[0]->deadline_ns;
  EXPECT_EQ(stream_->deadline_ns(), deadline_ns + 1500000000u);
  Finish(deferred[0]);
  Deliver();
  EXPECT_TRUE(Take().empty());
  Finish(deferred[1]);
  Deliver();
  Take();
  // Another message, another state.
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(MsAskedFor(), 1500);
  Finish(deferred[0]);
  Deliver();
}

TEST_F(DeferralTest, APluginMayAskForATimeOfItsOwn) {
  limits_.defer_budget_ms = 1500;
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    EXPECT_EQ(AskForMs(call, 2250), CALLOUT_OK);
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(MsAskedFor(), 2250);
  Finish(deferred);
  Deliver();
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  // With it Envoy would read nothing else of the answer.
  EXPECT_FALSE(responses[0].has_override_message_timeout());
}

TEST_F(DeferralTest, ATimeAskedForWithoutDeferringIsDropped) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    AskForMs(call, 500);
    return CALLOUT_OK;
  };
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(response.has_request_headers());
  EXPECT_FALSE(response.has_override_message_timeout());
}

TEST_F(DeferralTest, NoTimeIsAskedForInFullDuplex) {
  limits_.defer_budget_ms = 1500;
  callout_call_t* deferred = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&deferred);
  plugin->phases[CALLOUT_REQUEST_BODY] = Defers(&deferred);
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  EXPECT_TRUE(Take().empty());
  Finish(deferred);
  Deliver();
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "x", true));
  EXPECT_TRUE(Take().empty());
  Finish(deferred);
  Deliver();
}

// --- Limits -----------------------------------------------------------------------

TEST_F(DeferralTest, TheLimitIsOneForAllStreams) {
  limits_.deferred_max = 1;
  callout_call_t* deferred[2] = {};
  int count = 0;
  AddPlugin(Continue())->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred[count++] = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  FakeRpcContext other_rpc;
  Stream other(environment_.get(), &other_rpc);
  const std::string other_bytes = Headers(CALLOUT_REQUEST_HEADERS).SerializeAsString();
  other.OnMessage(other_bytes);
  EXPECT_TRUE(other.TakeOutput().empty());
  // Here the policy answers at once; the call has to be finished all the same.
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_EQ(FaultCount("defer_limit"), 1);
  for (callout_call_t* call : deferred) Finish(call);
  Deliver();
  other_rpc.Deliver(&other);
  EXPECT_EQ(environment_->deferred(), 0u);
  other.OnHalfClose();
}

// --- Threads ----------------------------------------------------------------------

// A transport in small: streams on one thread, whose events come from others.
class ManyStreams {
 public:
  struct One {
    FakeRpcContext rpc;
    std::unique_ptr<Stream> stream;
    std::string message;
    callout_call_t* deferred = nullptr;
    bool cancelled = false;
  };
};

TEST_F(DeferralTest, AThousandStreamsAreFinishedByAnotherThreadInRandomOrder) {
  const char* given = std::getenv("CALLOUT_TEST_SEED");
  const uint32_t seed = given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10))
                                         : std::random_device{}();
  SCOPED_TRACE("CALLOUT_TEST_SEED=" + std::to_string(seed));
  std::printf("CALLOUT_TEST_SEED=%u\n", seed);
  std::mt19937 random(seed);
  constexpr size_t kStreams = 1000;
  FakePlugin* plugin = AddPlugin();
  callout_call_t* last = nullptr;
  std::atomic<int> cancel_hooks{0};
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&last);
  plugin->cancel = [&](callout_call_t* call) {
    EXPECT_EQ(call->phase, 0u);
    ++cancel_hooks;
  };
  Begin();
  std::vector<std::unique_ptr<ManyStreams::One>> streams;
  std::vector<callout_call_t*> calls;
  for (size_t i = 0; i < kStreams; ++i) {
    auto one = std::make_unique<ManyStreams::One>();
    one->stream = std::make_unique<Stream>(environment_.get(), &one->rpc);
    one->message =
        Headers(CALLOUT_REQUEST_HEADERS, true, {{"n", std::to_string(i)}}).SerializeAsString();
    one->stream->OnMessage(one->message);
    one->deferred = last;
    calls.push_back(last);
    streams.push_back(std::move(one));
  }
  EXPECT_EQ(environment_->deferred(), kStreams);
  std::shuffle(calls.begin(), calls.end(), random);
  std::vector<size_t> order(kStreams);
  for (size_t i = 0; i < kStreams; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  // Half of them are cancelled before the other thread begins.
  for (size_t i = 0; i < kStreams / 4; ++i) {
    streams[order[i]]->stream->OnCancel();
    streams[order[i]]->cancelled = true;
  }
  std::atomic<int> told_cancelled{0};
  std::thread worker([&] {
    for (callout_call_t* call : calls) {
      SetsHeader("n", HeadersShown(call)[0].second)(call);
      if (Finish(call) == CALLOUT_CANCELLED) ++told_cancelled;
    }
  });
  // And a further quarter while it works.
  for (size_t i = kStreams / 4; i < kStreams / 2; ++i) {
    streams[order[i]]->stream->OnCancel();
    streams[order[i]]->cancelled = true;
  }
  for (size_t i = 0; i < kStreams; ++i) {
    ManyStreams::One& one = *streams[i];
    one.rpc.WaitAndDeliver(one.stream.get());
    const auto output = one.stream->TakeOutput();
    if (one.cancelled) {
      EXPECT_TRUE(output.empty());
      EXPECT_TRUE(one.stream->closed());
    } else {
      ASSERT_EQ(output.size(), 1u);
      EXPECT_NE(output[0].find(std::to_string(i)), std::string::npos);
      one.stream->OnHalfClose();
      EXPECT_TRUE(one.stream->end()->ok());
      EXPECT_TRUE(one.stream->closed());
    }
    one.stream.reset();
  }
  worker.join();
  EXPECT_EQ(environment_->deferred(), 0u);
  EXPECT_EQ(plugin->opened, static_cast<int>(kStreams));
  EXPECT_EQ(plugin->closed, static_cast<int>(kStreams));
  EXPECT_GE(told_cancelled, static_cast<int>(kStreams / 4));
  EXPECT_LE(told_cancelled, static_cast<int>(kStreams / 2));
  EXPECT_GE(cancel_hooks, static_cast<int>(kStreams / 4));
}

}  // namespace
}  // namespace callout::host
