// SPDX-License-Identifier: Apache-2.0

// Instances whose hooks wait for something: they run on the pool, in order for
// each stream, and the stream's own thread never waits.
#include <thread>

#include "host/stream/stream.h"
#include "tests/host/notification.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class BlockingTest : public StreamTest {
 protected:
  // Waits for whatever the pool posts until the stream takes the next message,
  // has ended and is closed, or has given output.
  ProcessingResponse WaitForAnswer() {
    std::vector<ProcessingResponse> responses = Take();
    while (responses.empty() && !HasFatalFailure()) {
      WaitAndDeliver();
      responses = Take();
    }
    EXPECT_EQ(responses.size(), 1u);
    return responses.empty() ? ProcessingResponse() : responses.front();
  }

  void WaitForClose() {
    while (!stream_->closed() && !HasFatalFailure()) WaitAndDeliver();
  }

  static InstanceSettings Continue() {
    InstanceSettings settings;
    settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
    return settings;
  }

  // Takes the pool's only thread until told otherwise.
  class Occupation {
   public:
    explicit Occupation(BlockingPool* pool) {
      pool->Submit([this] { end_.WaitForNotification(); });
    }
    ~Occupation() { End(); }
    void End() {
      if (!end_.HasBeenNotified()) end_.Notify();
    }

   private:
    Notification end_;
  };
};

// It has handed the call to another thread, which is done, and does not come back itself.
TEST_F(BlockingTest, AHookThatHangsAfterFinishIsLate) {
  Notification finished, go_on;
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_OK);
    finished.Notify();
    go_on.WaitForNotification();
    return callout_status_t{CALLOUT_DEFERRED};
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  finished.WaitForNotification();
  PassDeadline();
  EXPECT_TRUE(stream_->end().has_value());
  EXPECT_EQ(FaultCount("deadline"), 1);
  go_on.Notify();
  WaitForClose();
}

// The instance before it is out of the stream when its turn comes.
TEST_F(BlockingTest, AMessageThatHadToWaitForItsTurnGoesOnWithoutThatDeadline) {
  Notification go_on;
  callout_call_t* deferred = nullptr;
  AddPlugin(Continue())->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return callout_status_t{CALLOUT_DEFERRED};
  };
  FakePlugin* blocking = AddBlocking(Continue());
  blocking->open = [&](callout_call_t*) {
    go_on.WaitForNotification();
    return callout_status_t{CALLOUT_INTERNAL};
  };
  blocking->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  blocking->phases[CALLOUT_RESPONSE_BODY] = Returns(CALLOUT_OK);
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kStreamed));
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  Feed(Body(CALLOUT_RESPONSE_BODY, "b", false));
  go_on.Notify();
  WaitAndDeliver();
  stream_->OnDeadline(UINT64_MAX);
  EXPECT_EQ(FaultCount("deadline"), 1) << "only the deferred call is late";
  EXPECT_EQ(Take().size(), 4u);
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
}

TEST_F(BlockingTest, EveryHookRunsOnThePoolInTheOrderOfTheStream) {
  const std::thread::id own = std::this_thread::get_id();
  std::string order;  // written by one call after the other
  FakePlugin* plugin = AddBlocking();
  const auto note = [&order, own](char what) -> FakePlugin::Hook {
    return [&order, own, what](callout_call_t*) {
      EXPECT_NE(std::this_thread::get_id(), own);
      order += what;
      return CALLOUT_OK;
    };
  };
  plugin->open = note('o');
  plugin->phases[CALLOUT_REQUEST_HEADERS] = note('h');
  plugin->phases[CALLOUT_REQUEST_BODY] = note('b');
  plugin->phases[CALLOUT_REQUEST_TRAILERS] = note('t');
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = note('r');
  plugin->close = [&](callout_call_t*) {
    EXPECT_NE(std::this_thread::get_id(), own);
    order += 'c';
  };
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  EXPECT_TRUE(Take().empty());
  EXPECT_TRUE(WaitForAnswer().has_request_headers());
  for (int i = 0; i < 3; ++i) {
    Feed(Body(CALLOUT_REQUEST_BODY, "x", false));
    EXPECT_TRUE(WaitForAnswer().has_request_body());
  }
  Feed(Trailers(CALLOUT_REQUEST_TRAILERS));
  WaitForAnswer();
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  WaitForAnswer();
  stream_->OnHalfClose();
  EXPECT_FALSE(stream_->closed());
  WaitForClose();
  EXPECT_EQ(order, "ohbbbtrc");
  EXPECT_EQ(environment_->deferred(), 0u);
}

// Of one instance, some phases block and others do not. The watchdog must see the others hang.
TEST_F(BlockingTest, OnlyAHookOnThePoolMayWait) {
  InstanceSettings settings;
  settings.blocking = CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
  FakePlugin* plugin = AddPlugin(settings);
  int calls = 0;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t*) {
    EXPECT_TRUE(ThisHookMayWait());
    ++calls;
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t*) {
    EXPECT_FALSE(ThisHookMayWait()) << "it holds the stream's thread";
    ++calls;
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  WaitForAnswer();
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(calls, 2);
}

TEST_F(BlockingTest, AnswersComeThroughLikeAnyOther) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "1");
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(HeadersShown(call).size(), 2u);
    return SetsHeader("b", "2")(call);
  };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("c", "3");
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(Mutations(WaitForAnswer().request_headers().response().header_mutation()),
            (std::vector<std::string>{"set a=1", "set b=2", "set c=3"}));
  stream_->OnHalfClose();
  WaitForClose();
}

TEST_F(BlockingTest, ChunksSentFromThePoolGoOut) {
  AddBlocking()->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    SendChunk(call, "a");
    SendChunk(call, "b");
    return ReplacesBody("c")(call);
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "zero", true));
  while (!stream_->idle()) WaitAndDeliver();
  EXPECT_EQ(BodyTold(Take()), "a|b|c.");
}

TEST_F(BlockingTest, ARefusedOpenIsSettledLikeTheCallThatFollows) {
  FakePlugin* plugin = AddBlocking();
  plugin->open = Returns(CALLOUT_UNAUTHENTICATED);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) {
    ADD_FAILURE() << "called after a refused open";
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  WaitForClose();
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(plugin->closed, 0);
}

TEST_F(BlockingTest, ARefusedOpenUnderContinueLeavesTheInstanceOut) {
  FakePlugin* plugin = AddBlocking(Continue());
  plugin->open = Returns(CALLOUT_UNAVAILABLE);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(WaitForAnswer().has_request_headers());
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));  // at once
  EXPECT_EQ(plugin->opened, 1);
}

TEST_F(BlockingTest, ABlockingHookMayDefer) {
  Notification deferring;
  callout_call_t* deferred = nullptr;
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    deferring.Notify();
    return CALLOUT_DEFERRED;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  deferring.WaitForNotification();
  SetsHeader("a", "1")(deferred);
  EXPECT_EQ(deferred->host->finish(deferred, CALLOUT_OK), CALLOUT_OK);
  EXPECT_EQ(WaitForAnswer().request_headers().response().header_mutation().set_headers_size(), 1);
  EXPECT_EQ(environment_->deferred(), 0u);
}

TEST_F(BlockingTest, ABlockingHookMayFinishBeforeItReturns) {
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_OK);
    return CALLOUT_DEFERRED;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(WaitForAnswer().has_request_headers());
}

TEST_F(BlockingTest, ACallThatExpiresInTheQueueIsNeverMade) {
  limits_.blocking_threads_max = 1;
  FakePlugin* plugin = AddBlocking(Continue());
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) {
    ADD_FAILURE() << "called after its deadline";
    return CALLOUT_OK;
  };
  Begin();
  Occupation occupation(&environment_->blocking_pool());
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(FaultCount("overload"), 1) << "the plugin has done nothing";
  EXPECT_EQ(FaultCount("deadline"), 0);
  stream_->OnHalfClose();
  EXPECT_FALSE(stream_->closed());
  occupation.End();
  WaitForClose();
  EXPECT_EQ(plugin->opened, 0);
  EXPECT_EQ(plugin->closed, 0);
  EXPECT_EQ(environment_->deferred(), 0u);
}

TEST_F(BlockingTest, OnlyThePhasesThatBlockAreQueued) {
  const std::thread::id own = std::this_thread::get_id();
  InstanceSettings settings;
  settings.blocking = CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
  FakePlugin* plugin = AddPlugin(settings);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [own](callout_call_t*) {
    EXPECT_NE(std::this_thread::get_id(), own);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [own](callout_call_t*) {
    EXPECT_EQ(std::this_thread::get_id(), own);
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(WaitForAnswer().has_request_headers());
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));  // at once
  stream_->OnHalfClose();
  WaitForClose();
}

TEST_F(BlockingTest, ACallThatCannotBeInTimeIsRefusedAndItsInstanceCalledAgain) {
  limits_.blocking_threads_max = 1;
  FakePlugin* plugin = AddBlocking(Continue());
  std::atomic<int> calls{0};
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t*) {
    ++calls;
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = plugin->phases[CALLOUT_REQUEST_HEADERS];
  Begin();
  Occupation occupation(&environment_->blocking_pool());
  // As if calls of this kind took an hour.
  made_[0].lock()->usual_ns(CALLOUT_REQUEST_HEADERS)->Add(3600'000'000'000);
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(Take().size(), 1u) << "at once";
  EXPECT_EQ(FaultCount("overload"), 1);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(environment_->deferred(), 0u);
  occupation.End();
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_TRUE(WaitForAnswer().has_response_headers());
  EXPECT_EQ(calls, 1);
  stream_->OnHalfClose();
  WaitForClose();
}

TEST_F(BlockingTest, ACallCancelledInTheQueueIsNeverMade) {
  limits_.blocking_threads_max = 1;
  FakePlugin* plugin = AddBlocking();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) {
    ADD_FAILURE() << "called after the client has left";
    return CALLOUT_OK;
  };
  plugin->cancel = [](callout_call_t*) { ADD_FAILURE() << "told though it was never opened"; };
  Begin();
  Occupation occupation(&environment_->blocking_pool());
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnCancel();
  occupation.End();
  WaitForClose();
  EXPECT_EQ(plugin->opened, 0);
}

TEST_F(BlockingTest, ThePolicyAnswersAtTheDeadlineOfAHookThatHangs) {
  Notification running, go_on;
  FakePlugin* plugin = AddBlocking(Continue());
  std::string shown;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    running.Notify();
    go_on.WaitForNotification();
    shown = HeadersShown(call)[0].first;  // the message's bytes are still there
    return SetsHeader("a", "1")(call);
  };
  int calls = 0;
  plugin->phases[CALLOUT_RESPONSE_HEADERS] =
      plugin->phases[CALLOUT_RESPONSE_TRAILERS] = [&](callout_call_t*) {
        ++calls;
        return CALLOUT_OK;
      };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  running.WaitForNotification();
  PassDeadline();
  EXPECT_EQ(WaitForAnswer().request_headers().ByteSizeLong(), 0u);
  // Hooks never overlap: the next call waits for the one that hangs, and no longer
  // than its own deadline.
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_TRUE(Take().empty());
  PassDeadline();
  EXPECT_EQ(WaitForAnswer().response_headers().ByteSizeLong(), 0u);
  EXPECT_EQ(calls, 0);
  go_on.Notify();
  WaitAndDeliver();
  // After it the instance is called again.
  Feed(Trailers(CALLOUT_RESPONSE_TRAILERS));
  EXPECT_EQ(WaitForAnswer().response_case(), ProcessingResponse::kResponseTrailers);
  EXPECT_EQ(calls, 1);
  stream_->OnHalfClose();
  WaitForClose();
  EXPECT_EQ(shown, ":path");
  EXPECT_EQ(plugin->closed, 1);
  EXPECT_EQ(FaultCount("deadline"), 2);
  EXPECT_TRUE(Take().empty());
}

TEST_F(BlockingTest, AHookAtWorkIsToldThatTheClientHasLeft) {
  Notification running, told;
  FakePlugin* plugin = AddBlocking();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    running.Notify();
    told.WaitForNotification();
    EXPECT_EQ(call->host->is_cancelled(call), 1);
    return CALLOUT_OK;
  };
  plugin->cancel = [&](callout_call_t*) {
    EXPECT_FALSE(ThisHookMayWait()) << "it holds the stream's thread";
    told.Notify();
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  WaitForAnswer();
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  running.WaitForNotification();
  stream_->OnCancel();
  WaitForClose();
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(BlockingTest, CallsOverTheLimitFallUnderThePolicyAtOnce) {
  limits_.deferred_max = 0;
  FakePlugin* plugin = AddBlocking(Continue());
  int calls = 0;
  for (callout_phase_t phase : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
    plugin->phases[phase] = [&](callout_call_t*) {
      ++calls;
      return CALLOUT_OK;
    };
  }
  Begin();
  // Nothing was begun, so the instance may be called again.
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(FaultCount("defer_limit"), 2);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(environment_->deferred(), 0u);
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(BlockingTest, CallsOverTheLimitAreRefusedByDefault) {
  limits_.deferred_max = 0;
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(response.immediate_response().status().code(), 503);
  EXPECT_EQ(FaultCount("defer_limit"), 1);
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(BlockingTest, TheBudgetIsAskedForWhenTheCallIsQueued) {
  limits_.defer_budget_ms = 700;
  Notification go_on;
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t*) {
    go_on.WaitForNotification();
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  const auto asked = Take();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].override_message_timeout().nanos(), 700000000);
  go_on.Notify();
  EXPECT_TRUE(WaitForAnswer().has_request_headers());
}

TEST_F(BlockingTest, TwoBlockingInstancesRunOneAfterTheOther) {
  std::string order;
  for (int i = 0; i < 2; ++i) {
    FakePlugin* plugin = AddBlocking();
    for (callout_phase_t phase : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
      plugin->phases[phase] = [&order, i](callout_call_t*) {
        order += static_cast<char>('a' + i);
        return CALLOUT_OK;
      };
    }
  }
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  WaitForAnswer();
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  WaitForAnswer();
  EXPECT_EQ(order, "abba");
  stream_->OnHalfClose();
  WaitForClose();
  EXPECT_EQ(plugins_[0]->closed + plugins_[1]->closed, 2);
}

TEST_F(BlockingTest, WholeBodiesAreGatheredForBlockingInstancesToo) {
  InstanceSettings settings;
  settings.whole_body_bytes_max = 100;
  AddBlocking(settings)->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    return ReplacesBody("<" + BodyShown(call) + ">")(call);
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Exchange(Body(CALLOUT_REQUEST_BODY, "one", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "two", true));
  EXPECT_EQ(BodyTold({WaitForAnswer()}), "=<onetwo.>");
}

TEST_F(BlockingTest, InObservabilityTheHookRunsAndNothingIsSent) {
  std::atomic<int> calls{0};
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    ++calls;
    return SetsHeader("a", "1")(call);
  };
  Begin();
  ProcessingRequest request = Headers(CALLOUT_REQUEST_HEADERS);
  request.set_observability_mode(true);
  Feed(request);
  while (!stream_->idle()) WaitAndDeliver();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(Take().empty());
}

// Hundreds of streams on a few threads, some cancelled, some expired.
TEST_F(BlockingTest, ManyStreamsShareThePool) {
  limits_.blocking_threads_max = 4;
  std::atomic<int> calls{0};
  FakePlugin* plugin = AddBlocking(Continue());
  std::mutex mutex;
  int opened = 0;
  int closed = 0;
  plugin->open = [&](callout_call_t* call) {
    std::lock_guard<std::mutex> lock(mutex);
    call->stream = &opened;
    ++opened;
    return CALLOUT_OK;
  };
  plugin->close = [&](callout_call_t* call) {
    std::lock_guard<std::mutex> lock(mutex);
    EXPECT_EQ(call->stream, &opened);
    ++closed;
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    ++calls;
    return SetsHeader("n", HeadersShown(call)[0].second)(call);
  };
  Begin();
  struct One {
    FakeRpcContext rpc;
    std::unique_ptr<Stream> stream;
    std::string message;
  };
  std::vector<std::unique_ptr<One>> streams;
  for (int i = 0; i < 300; ++i) {
    auto one = std::make_unique<One>();
    one->stream = std::make_unique<Stream>(environment_.get(), &one->rpc);
    one->message =
        Headers(CALLOUT_REQUEST_HEADERS, true, {{"n", std::to_string(i)}}).SerializeAsString();
    one->stream->OnMessage(one->message);
    if (i % 3 == 1) one->stream->OnCancel();
    if (i % 3 == 2) one->stream->OnDeadline(UINT64_MAX);
    streams.push_back(std::move(one));
  }
  for (int i = 0; i < 300; ++i) {
    One& one = *streams[i];
    size_t answers = 0;
    while (answers == 0 && i % 3 != 1) {
      answers = one.stream->TakeOutput().size();
      if (answers == 0) one.rpc.WaitAndDeliver(one.stream.get());
    }
    one.stream->OnHalfClose();
    while (!one.stream->closed()) one.rpc.WaitAndDeliver(one.stream.get());
    EXPECT_EQ(answers, i % 3 == 1 ? 0u : 1u);
  }
  EXPECT_EQ(opened, closed);
  EXPECT_GE(calls, 100);
  EXPECT_EQ(environment_->deferred(), 0u);
}

}  // namespace
}  // namespace callout::host
