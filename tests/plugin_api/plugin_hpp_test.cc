// SPDX-License-Identifier: Apache-2.0

// The C++ layer's promises about a hook's edge, deferral, and plugins as classes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <callout/plugin.hpp>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/plugin_api/call_fixture.h"

namespace callout {
namespace {

class HookEdge : public CallTest {};

TEST_F(HookEdge, SendsNothingWhenNothingWasSet) {
  const testing::Answer answer = Headers(AtEdge<HeadersCall>([](HeadersCall&) {}));
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.field, 0u);
}

TEST_F(HookEdge, TurnsExceptionsIntoInternal) {
  testing::Answer answer = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.set_header("dropped", "1");
    throw std::runtime_error("the database is down");
  }));
  EXPECT_EQ(answer.status, CALLOUT_INTERNAL);
  EXPECT_EQ(answer.error, "the database is down");
  EXPECT_EQ(answer.field, 0u);
  answer = Headers(AtEdge<HeadersCall>([](HeadersCall&) { throw 7; }));
  EXPECT_EQ(answer.status, CALLOUT_INTERNAL);
}

TEST_F(HookEdge, KeepsTheFirstFailure) {
  const testing::Answer answer = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.deny_callout("first");
    call.fail("second");
    throw std::runtime_error("third");
  }));
  EXPECT_EQ(answer.status, CALLOUT_PERMISSION_DENIED);
  EXPECT_EQ(answer.error, "first");
}

TEST_F(HookEdge, CopiesWhatItIsGiven) {
  const testing::Answer answer = Body(AtEdge<BodyCall>([](BodyCall& call) {
    std::string body(1000, 'b');
    std::string key = "key", value(1000, 'v');
    call.set_body(body);
    call.set_header(key, value);
    body.assign(1000, '-');
    value.assign(1000, '-');
    key = "not";
  }));
  EXPECT_EQ(answer.body, std::string(1000, 'b'));
  EXPECT_EQ(answer.header("key"), std::string(1000, 'v'));
}

TEST_F(HookEdge, TakesBodiesThatAreMovedIn) {
  const testing::Answer answer =
      Body(AtEdge<BodyCall>([](BodyCall& call) { call.set_body(std::string(1000, 'b')); }));
  EXPECT_EQ(answer.body, std::string(1000, 'b'));
}

TEST_F(HookEdge, HoldsChunksBackInFullDuplexOnly) {
  const Hook hold = AtEdge<BodyCall>([](BodyCall& call) { call.hold(); });
  EXPECT_EQ(Body(hold, "x", CALLOUT_BODY_FULL_DUPLEX_STREAMED).status, CALLOUT_NO_RESPONSE);
  EXPECT_NE(Body(hold, "x", CALLOUT_BODY_BUFFERED).problem, "");
}

TEST_F(HookEdge, ReadsWhatTheCallBrings) {
  CurrentHook() = AtEdge<BodyCall>([](BodyCall& call) {
    EXPECT_EQ(call.body(), "chunk");
    EXPECT_EQ(call.offset(), 5u);
    EXPECT_TRUE(call.is_last() && call.end_of_stream() && !call.is_first() && !call.is_whole());
    EXPECT_FALSE(call.is_request());
    EXPECT_EQ(call.attribute("request.path").text(), "/a");
    EXPECT_EQ(call.metadata("my.ns", "user").text(), "ada");
    EXPECT_EQ(call.grpc_metadata("x-tenant", 1), "two");
    EXPECT_FALSE(call.grpc_metadata("x-tenant", 2).has_value());
    EXPECT_EQ(call.peer(), "ipv4:1.2.3.4:5");
    EXPECT_EQ(call.peer_identity(), "");
    EXPECT_TRUE(call.deadline().has_value());
    EXPECT_FALSE(call.is_cancelled());
    call.host().warning("saw ", call.body().size(), ' ', true, ' ', 0.5, ' ', -3);
  });
  testing::Stream stream(plugin_);
  StructWriter attributes, metadata;
  attributes.set("request.path", "/a");
  metadata.open("my.ns").set("user", "ada").close();
  stream.set_attributes(attributes.message())
      .set_metadata(metadata.message())
      .set_grpc_metadata("x-tenant", "one")
      .set_grpc_metadata("x-tenant", "two")
      .set_property(CALLOUT_PEER, "ipv4:1.2.3.4:5");
  const Hook check = std::exchange(CurrentHook(), [](callout_call_t*) { return CALLOUT_OK; });
  stream.response_body("first", false);
  CurrentHook() = check;
  EXPECT_EQ(stream.response_body("chunk", true).status, CALLOUT_OK);
  ASSERT_EQ(plugin_.logs().size(), 1u);
  EXPECT_EQ(plugin_.logs()[0].text, "saw 5 true 0.5 -3");
}

// --- Decisions ---

class Decisions : public CallTest {
 protected:
  // Denied with 403 in `phase`'s hook, with none of what `then` says, and the log says which step
  // of it was late.
  template <class PhaseCall, class Function>
  testing::Answer ExpectDenied(const std::string& late, Function then) {
    const Hook hook = AtEdge<PhaseCall>([then](PhaseCall& call) {
      call.deny(403, "no");
      then(call);
    });
    const size_t lines = plugin_.logs().size();
    const testing::Answer answer = std::is_same_v<PhaseCall, BodyCall>
                                       ? Body(hook, "x", CALLOUT_BODY_FULL_DUPLEX_STREAMED)
                                       : Headers(hook);
    EXPECT_EQ(answer.http_status, 403u) << late;
    EXPECT_EQ(answer.body, "no") << late;
    EXPECT_TRUE(answer.sets.empty() && answer.sent.empty()) << late;
    const auto logs = plugin_.logs();
    EXPECT_EQ(logs.size(), lines + 1) << late;
    if (logs.size() == lines + 1) {
      EXPECT_EQ(logs.back().text, late +
                                      "() after deny() or reply() does nothing: return from the "
                                      "hook after them, or add to the Reply");
    }
    return answer;
  }
};

TEST_F(Decisions, StandBeforeEveryOtherStep) {
  using Call = HeadersCall;
  const auto ok = [](const testing::Answer& answer) { EXPECT_EQ(answer.status, CALLOUT_OK); };
  ok(ExpectDenied<Call>("set_header", [](Call& call) { call.set_header("a", "b"); }));
  ok(ExpectDenied<Call>("append_header", [](Call& call) { call.append_header("a", "b"); }));
  ok(ExpectDenied<Call>("remove_header", [](Call& call) { call.remove_header("a"); }));
  ok(ExpectDenied<Call>("reply", [](Call& call) { call.reply(200).body("welcome"); }));
  ok(ExpectDenied<Call>("clear_route_cache", [](Call& call) { call.clear_route_cache(); }));
  ok(ExpectDenied<Call>("clear_route_cache",
                        [](Call& call) { add_header_mutation(call, {}, {}, true); }));
  ok(ExpectDenied<Call>("replace_body", [](Call& call) { call.replace_body("x"); }));
  ok(ExpectDenied<Call>("stream_reply", [](Call& call) {
    StreamedReply reply = call.stream_reply({{":status", "200"}});
    reply.send("welcome").end("back");
  }));
  ok(ExpectDenied<Call>("deny_callout", [](Call& call) { call.deny_callout(); }));
  ok(ExpectDenied<BodyCall>("set_body", [](BodyCall& call) { call.set_body("x"); }));
  ok(ExpectDenied<BodyCall>("clear_body", [](BodyCall& call) { call.clear_body(); }));
  ok(ExpectDenied<BodyCall>("send", [](BodyCall& call) { call.send("x"); }));
  ok(ExpectDenied<BodyCall>("hold", [](BodyCall& call) { call.hold(); }));
  ok(ExpectDenied<ProcessCall>("next", [](ProcessCall& call) { call.next(); }));
}

// There is no response that they could be in.
TEST_F(Decisions, HoldRefusesOtherStepsOfItsCall) {
  const std::vector<std::function<void(BodyCall&)>> steps = {
      [](BodyCall& call) { call.set_header("x-scanned", "1"); },
      [](BodyCall& call) { call.set_body("x"); }, [](BodyCall& call) { call.clear_route_cache(); }};
  for (const auto& step : steps) {
    for (const bool first : {false, true}) {
      const Hook hook = AtEdge<BodyCall>([&](BodyCall& call) {
        if (first) step(call);
        call.hold();
        if (!first) step(call);
      });
      const testing::Answer answer = Body(hook, "x", CALLOUT_BODY_FULL_DUPLEX_STREAMED);
      EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT);
      EXPECT_THAT(answer.error, ::testing::HasSubstr("hold() beside another step"));
    }
  }
}

TEST_F(Decisions, WinOverWhatWasSaidBefore) {
  testing::Answer answer = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.set_header("dropped", "1");
    call.deny(403, "no");
  }));
  EXPECT_EQ(answer.http_status, 403u);
  EXPECT_TRUE(answer.sets.empty());
  const auto hold = AtEdge<BodyCall>([](BodyCall& call) {
    call.hold();
    call.deny(403);
  });
  answer = Body(hold, "x", CALLOUT_BODY_FULL_DUPLEX_STREAMED);
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.http_status, 403u);
  answer = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.deny_callout("ended");
    call.deny(403);
  }));
  EXPECT_EQ(answer.status, CALLOUT_OK) << "the decision that an Envoy which fails open obeys, too";
  EXPECT_EQ(answer.http_status, 403u);
}

// The host knows of the denial, and so no policy lets the fault pass.
TEST_F(Decisions, AreToldBeforeAFault) {
  const std::vector<Hook> hooks = {AtEdge<HeadersCall>([](HeadersCall& call) {
                                     call.deny(403);
                                     call.fail("later");
                                   }),
                                   AtEdge<HeadersCall>([](HeadersCall& call) {
                                     call.fail("later");
                                     call.deny(403);
                                   }),
                                   AtEdge<HeadersCall>([](HeadersCall& call) {
                                     call.deny(403);
                                     throw std::runtime_error("later");
                                   })};
  for (const Hook& hook : hooks) {
    const testing::Answer answer = Headers(hook);
    EXPECT_EQ(answer.status, CALLOUT_INTERNAL);
    EXPECT_EQ(answer.error, "later");
    EXPECT_EQ(answer.http_status, 403u);
  }
  const testing::Answer answer =
      Headers(AtEdge<HeadersCall>([](HeadersCall& call) { call.deny(99); }));
  EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT);
  EXPECT_TRUE(answer.is_immediate());
}

TEST_F(Decisions, OfAReplyInPiecesStand) {
  CurrentHook() = AtEdge<HeadersCall>([](HeadersCall& call) {
    StreamedReply reply = call.stream_reply({{":status", "200"}});
    reply.end("all of it");
    call.set_header("late", "1");
  });
  testing::Stream stream(plugin_);
  const testing::Answer answer = stream.request_headers({});
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.field, uint32_t{CALLOUT_STREAMED_IMMEDIATE_RESPONSE});
  ASSERT_EQ(plugin_.logs().size(), 1u);
  EXPECT_EQ(plugin_.logs()[0].text.find("set_header() after deny()"), 0u);
}

// --- Deferral ---

// Keeps the thread of a deferred call until the test is over.
class Deferring : public CallTest {
 protected:
  ~Deferring() override {
    if (thread_.joinable()) thread_.join();
  }
  std::thread thread_;
};

TEST_F(Deferring, FinishesFromAnotherThread) {
  const testing::Answer answer =
      Headers(AtEdge<HeadersCall>([this](HeadersCall& call) {
                call.set_header("before", std::string(600, 'b'));
                thread_ = std::thread([deferred = call.defer()]() mutable {
                  EXPECT_TRUE(deferred->headers().contains("a"));
                  deferred->set_header("after", "1");
                  EXPECT_EQ(deferred.finish(), CALLOUT_OK);
                  EXPECT_FALSE(deferred);
                  EXPECT_EQ(deferred.finish(), CALLOUT_FAILED_PRECONDITION);
                });
              }),
              {{"a", "1"}});
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.header("before"), std::string(600, 'b'));
  EXPECT_EQ(answer.header("after"), "1");
}

TEST_F(Deferring, FinishesBeforeTheHookHasReturned) {
  const testing::Answer answer = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.set_header("short", "1");
    auto deferred = call.defer();
    deferred.finish();
  }));
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.header("short"), "1");
}

TEST_F(Deferring, EndsADroppedCallAsAnError) {
  const testing::Answer answer =
      Headers(AtEdge<HeadersCall>([](HeadersCall& call) { call.defer(); }));
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.status, CALLOUT_INTERNAL);
  EXPECT_EQ(answer.error, "the plugin dropped a deferred call");
}

TEST_F(Deferring, CatchesWhatTheFinisherThrows) {
  const testing::Answer answer = Body(AtEdge<BodyCall>([this](BodyCall& call) {
    thread_ = std::thread([deferred = call.defer()]() mutable {
      deferred.finish_with([](const BodyCall&) { throw std::runtime_error("no luck"); });
    });
  }));
  EXPECT_EQ(answer.status, CALLOUT_INTERNAL);
  EXPECT_EQ(answer.error, "no luck");
}

// As an answer that asks a second service does.
TEST_F(Deferring, HandsOnWhatAFinisherDefersAgain) {
  std::optional<Deferred<HeadersCall>> later;
  const testing::Answer answer = Headers(AtEdge<HeadersCall>([&](HeadersCall& call) {
    auto deferred = call.defer();
    EXPECT_EQ(deferred.finish_with([&](const HeadersCall& held) {
      held.set_header("first", "1");
      later.emplace(held.defer());
    }),
              CALLOUT_OK);
    EXPECT_FALSE(deferred);
    EXPECT_EQ(later->finish_with([](auto& held) { held.set_header("second", "2"); }), CALLOUT_OK);
  }));
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.header("first"), "1");
  EXPECT_EQ(answer.header("second"), "2");
}

TEST_F(Deferring, TellsWhatIsThrownAfterTheCallWasHandedOn) {
  std::optional<Deferred<HeadersCall>> later;
  const testing::Answer answer = Headers(AtEdge<HeadersCall>([&](HeadersCall& call) {
    call.defer().finish_with([&](const HeadersCall& held) {
      later.emplace(held.defer());
      throw std::runtime_error("no luck");
    });
    later->finish();
  }));
  EXPECT_EQ(answer.status, CALLOUT_OK) << "the call has gone on";
  ASSERT_FALSE(plugin_.logs().empty());
  EXPECT_NE(plugin_.logs().back().text.find("no luck"), std::string::npos);
}

TEST_F(HookEdge, SaysWhichHeadersTheHostRefuses) {
  const auto problem = [this](const std::string& name, const std::string& value) {
    return Headers(AtEdge<HeadersCall>([&](HeadersCall& call) { call.set_header(name, value); }))
        .problem;
  };
  EXPECT_EQ(problem("x-a", "1\t2 \xc3\xa9"), "");
  EXPECT_EQ(problem(":path", "/"), "");
  EXPECT_EQ(problem("x-a", "1\r\n2"), "illegal value of the header \"x-a\"");
  EXPECT_EQ(problem("x a", "1"), "illegal name of a header: \"x a\"");
  EXPECT_EQ(problem("", "1"), "illegal name of a header: \"\"");
  EXPECT_EQ(
      Headers(AtEdge<HeadersCall>([](HeadersCall& call) { call.remove_header("a:"); })).problem,
      "illegal name of a header: \"a:\"");
}

TEST_F(Deferring, MovesWithItsAnswer) {
  std::optional<Deferred<TrailersCall>> kept;
  const testing::Answer answer = Trailers(AtEdge<TrailersCall>([&](TrailersCall& call) {
    auto one = call.defer();
    auto two = std::move(one);
    EXPECT_FALSE(one);
    two->set_header("moved", "1");
    kept.emplace(std::move(two));
    kept->finish_with([](auto& trailers) { trailers.append_header("moved", "2"); });
  }));
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.sets.size(), 2u);
}

TEST_F(Deferring, TellsThatTheClientHasLeft) {
  std::optional<Deferred<HeadersCall>> kept;
  std::mutex mutex;
  std::condition_variable deferred;
  CurrentHook() = AtEdge<HeadersCall>([&](HeadersCall& call) {
    std::lock_guard<std::mutex> lock(mutex);
    kept.emplace(call.defer());
    deferred.notify_all();
  });
  testing::Stream stream(plugin_);
  thread_ = std::thread([&] {
    std::unique_lock<std::mutex> lock(mutex);
    deferred.wait(lock, [&] { return kept.has_value(); });
    stream.cancel();
    EXPECT_TRUE((*kept)->is_cancelled());
    EXPECT_EQ(kept->finish(), CALLOUT_CANCELLED);
  });
  EXPECT_TRUE(stream.request_headers({}).deferred);
}

}  // namespace
}  // namespace callout
