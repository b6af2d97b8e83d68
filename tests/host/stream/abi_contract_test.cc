// SPDX-License-Identifier: Apache-2.0

// What <callout/plugin.h> promises of streams. A  test states a promise that the
// stream core does not keep yet; it is enabled with the code that keeps it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "host/base/clock.h"
#include "host/plugin/instance.h"
#include "tests/host/notification.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

class AbiContract : public StreamTest {
 protected:
  // Defers, and leaves the call in `*call`.
  static FakePlugin::Hook Defers(callout_call_t** call) {
    return [call](callout_call_t* deferred) {
      *call = deferred;
      return CALLOUT_DEFERRED;
    };
  }
  static callout_status_t Finish(callout_call_t* call) {
    return call->host->finish(call, CALLOUT_OK);
  }
  static std::function<void(callout_create_args_t*)> Wants(uint64_t wants) {
    return [wants](callout_create_args_t* args) { args->wants = wants; };
  }
  // Begins a stream whose plugin leaves in `*end` what it is told at close.
  FakePlugin* AddTold(callout_stream_end_t* end) {
    FakePlugin* plugin = AddPlugin();
    plugin->close = [end](callout_call_t* call) { *end = *call->end; };
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    return plugin;
  }
};

// --- Addresses ----------------------------------------------------------------

TEST_F(AbiContract, EachCallOfAStreamHasAnAddressOfItsOwn) {
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
TEST_F(AbiContract, AStaleFinishSettlesNoOtherCall) {
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

TEST_F(AbiContract, NoCallHasTheAddressOfARecentOne) {
  FakePlugin* plugin = AddPlugin();
  std::vector<const callout_call_t*> calls;
  const auto note = [&](callout_call_t* call) {
    calls.push_back(call);
    return CALLOUT_OK;
  };
  plugin->open = note;
  plugin->phases[CALLOUT_REQUEST_BODY] = note;
  plugin->close = note;
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  for (int i = 0; i < 100; ++i) Exchange(Body(CALLOUT_REQUEST_BODY, "x", false));
  stream_->OnHalfClose();
  EXPECT_EQ(calls.size(), 102u) << "open and close, too";
  EXPECT_EQ(std::set(calls.begin(), calls.end()).size(), calls.size());
}

// What else may be done with a call that is over, by any of the ways in which it ends.
TEST_F(AbiContract, ACallThatIsOverIsRefusedByEveryService) {
  strict_ = true;  // every refusal is logged, and none counts for the next minute
  FakePlugin* plugin = AddPlugin();
  callout_call_t* returned = nullptr;
  callout_call_t* finished = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    returned = call;
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Defers(&finished);
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  Finish(finished);
  for (const bool delivered : {false, true}) {
    if (delivered) Deliver();
    for (callout_call_t* call : {returned, finished}) {
      const callout_host_t* host = call->host;
      callout_bytes_t value;
      EXPECT_EQ(host->respond(call, CALLOUT_IMMEDIATE_RESPONSE, nullptr, 0),
                CALLOUT_FAILED_PRECONDITION);
      EXPECT_EQ(host->send(call, CALLOUT_RESPONSE_BODY_RESPONSE, nullptr, 0),
                CALLOUT_FAILED_PRECONDITION);
      EXPECT_EQ(host->annotate(call, CALLOUT_DYNAMIC_METADATA, {}), CALLOUT_FAILED_PRECONDITION);
      EXPECT_EQ(host->finish(call, CALLOUT_OK), CALLOUT_FAILED_PRECONDITION);
      EXPECT_EQ(host->get_property(call, CALLOUT_PEER, &value), CALLOUT_FAILED_PRECONDITION);
      EXPECT_EQ(host->get_metadata(call, {}, 0, &value), CALLOUT_FAILED_PRECONDITION);
      EXPECT_EQ(host->is_cancelled(call), 0);
      EXPECT_EQ(host->send_room(call), 0u);
    }
  }
  const auto told = Take();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(told[0].has_response_headers());
  EXPECT_EQ(FaultCount("stale_finish"), 4);
}

TEST_F(AbiContract, AFinishAfterTheStreamAndTheInstanceAreGoneIsRefused) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* call = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&call);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  const callout_host_t* host = call->host;
  EXPECT_EQ(Finish(call), CALLOUT_OK);
  Deliver();
  stream_->OnHalfClose();
  stream_.reset();
  EXPECT_EQ(host->finish(call, CALLOUT_OK), CALLOUT_FAILED_PRECONDITION);
  EXPECT_EQ(FaultCount("stale_finish"), 1);
  Reset();
  testing::internal::CaptureStderr();
  EXPECT_EQ(host->finish(call, CALLOUT_OK), CALLOUT_FAILED_PRECONDITION);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("finish() was called after callout_plugin_destroy"));
}

// Under ThreadSanitizer this also shows that the two do not meet in the call's state.
TEST_F(AbiContract, OfTwoThreadsThatFinishOneCallExactlyOneDoes) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* call = nullptr;
  plugin->phases[CALLOUT_REQUEST_BODY] = Defers(&call);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  constexpr int kRounds = 200;
  for (int round = 0; round < kRounds; ++round) {
    Feed(Body(CALLOUT_REQUEST_BODY, "x", false));
    std::atomic<int> finished{0};
    std::atomic<bool> go{false};
    const auto finish = [&] {
      while (!go) std::this_thread::yield();
      if (Finish(call) == CALLOUT_OK) ++finished;
    };
    std::thread first(finish);
    std::thread second(finish);
    go = true;
    WaitAndDeliver();
    first.join();
    second.join();
    EXPECT_EQ(finished, 1);
    EXPECT_EQ(Take().size(), 1u);
  }
  EXPECT_EQ(FaultCount("stale_finish"), kRounds);
}

// --- Deadlines ----------------------------------------------------------------

TEST_F(AbiContract, AnInstanceThatMissedADeadlineLosesThatCallOnly) {
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

// --- Request headers in response phases ------------------------------------------

TEST_F(AbiContract, ResponsePhasesHaveTheRequestsHeadersOnWish) {
  ASSERT_NE(Instance::kGrants & CALLOUT_WANT_REQUEST_HEADERS, 0u);
  std::vector<const char*> kept;
  for (const bool wishes : {false, true, true}) {
    FakePlugin* plugin = AddPlugin();
    if (wishes) plugin->create = Wants(CALLOUT_WANT_REQUEST_HEADERS);
    plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
      EXPECT_EQ(call->request_headers.size, 0u);
      return SetsHeader("x-changed", "1")(call);
    };
    for (const callout_phase_t phase : {CALLOUT_RESPONSE_HEADERS, CALLOUT_RESPONSE_BODY}) {
      plugin->phases[phase] = [=, &kept](callout_call_t* call) {
        envoy::service::ext_proc::v3::HttpHeaders headers;
        EXPECT_TRUE(headers.ParseFromString(std::string(ToView(call->request_headers))));
        EXPECT_EQ(headers.headers().headers_size(), wishes ? 1 : 0) << "as Envoy sent them";
        if (wishes) kept.push_back(call->request_headers.data);
        return CALLOUT_OK;
      };
    }
  }
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kStreamed));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  Exchange(Body(CALLOUT_RESPONSE_BODY, "x", true));
  ASSERT_EQ(kept.size(), 4u);
  EXPECT_EQ(std::set(kept.begin(), kept.end()).size(), 1u) << "kept once for all";
}

TEST_F(AbiContract, RequestHeadersThatAreKeptCountAsMemoryOfTheStream) {
  FakePlugin* plugin = AddPlugin();
  plugin->create = Wants(CALLOUT_WANT_REQUEST_HEADERS);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  const Pairs headers = {{":path", std::string(1000, 'x')}};
  Exchange(Headers(CALLOUT_REQUEST_HEADERS, false, headers));
  EXPECT_GT(stream_->kept_bytes(), 1000u);
  stream_.reset();
  limits_.stream_memory_bytes_max = 1000;
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS, false, headers));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kResourceExhausted);
}

// --- The end ------------------------------------------------------------------

TEST_F(AbiContract, TheEndTellsOutcomeStatusAndBytes) {
  callout_stream_end_t end = {};
  AddTold(&end)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kBuffered, kStreamed));
  Exchange(Body(CALLOUT_REQUEST_BODY, "seven b", true));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS, false, {{":status", "404"}}));
  Exchange(Body(CALLOUT_RESPONSE_BODY, "one", false));
  Exchange(Body(CALLOUT_RESPONSE_BODY, "more", true));
  stream_->OnHalfClose();
  EXPECT_EQ(end.struct_size, sizeof(end));
  EXPECT_EQ(end.outcome, uint32_t{CALLOUT_END_COMPLETED});
  EXPECT_EQ(end.status, CALLOUT_OK);
  EXPECT_EQ(end.http_status, 404u);
  EXPECT_EQ(end.request_body_bytes, 7u);
  EXPECT_EQ(end.response_body_bytes, 7u);
  EXPECT_GT(end.instance_ns, 0u);
  EXPECT_GE(end.stream_ns, end.instance_ns);
}

TEST_F(AbiContract, TheEndTellsOfEachOutcome) {
  struct Row {
    callout_outcome_t outcome;
    callout_status_t status;
    uint32_t http_status;
    std::function<void()> drive;
    bool early_end = false;
  };
  callout_call_t* call = nullptr;
  FakePlugin* plugin = nullptr;
  const auto begin = [&] {
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone));
  };
  const std::vector<Row> kTable = {
      {CALLOUT_END_EARLY, CALLOUT_OK, 0, begin, true},
      {CALLOUT_END_COMPLETED, CALLOUT_OK, 0,
       [&] {
         begin();
         stream_->OnCancel();  // a reset, with nothing outstanding
       }},
      {CALLOUT_END_IMMEDIATE, CALLOUT_OK, 403,
       [&] {
         plugin->phases[CALLOUT_REQUEST_HEADERS] = RepliesAtOnce(403);
         begin();
         stream_->OnHalfClose();
       }},
      {CALLOUT_END_IMMEDIATE, CALLOUT_OK, 200,
       [&] {
         plugin->phases[CALLOUT_REQUEST_HEADERS] = RepliesAtOnce(0);  // Envoy's default
         begin();
         stream_->OnCancel();
       }},
      {CALLOUT_END_ERROR, CALLOUT_PERMISSION_DENIED, 0,
       [&] {
         plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_PERMISSION_DENIED);
         begin();
       }},
      {CALLOUT_END_CANCELLED, CALLOUT_CANCELLED, 0,
       [&] {
         plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&call);
         begin();
         stream_->OnCancel();
         Finish(call);
         Deliver();
       }},
      {CALLOUT_END_DRAINED, CALLOUT_UNAVAILABLE, 0,
       [&] {
         plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
         begin();
         stream_->OnDrainDeadline();
       }},
      {CALLOUT_END_DRAINED, CALLOUT_OK, 0,
       [&] {
         begin();
         stream_->OnDrainDeadline();
       }},
  };
  for (const Row& row : kTable) {
    SCOPED_TRACE(row.outcome);
    limits_.early_end = row.early_end;
    callout_stream_end_t end = {};
    plugin = AddTold(&end);
    row.drive();
    EXPECT_TRUE(stream_->closed());
    EXPECT_EQ(end.struct_size, sizeof(end));
    EXPECT_EQ(end.outcome, row.outcome);
    EXPECT_EQ(end.status, row.status);
    EXPECT_EQ(end.http_status, row.http_status);
    Reset();
  }
}

TEST_F(AbiContract, TheTimeOfAnInstanceHasItsDeferredCalls) {
  callout_stream_end_t end = {};
  callout_call_t* call = nullptr;
  AddTold(&end)->phases[CALLOUT_REQUEST_HEADERS] = Defers(&call);
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  const uint64_t deferred_ns = MonotonicNs();
  while (MonotonicNs() == deferred_ns) std::this_thread::yield();
  const uint64_t finished_ns = MonotonicNs();
  Finish(call);
  Deliver();
  stream_->OnHalfClose();
  EXPECT_GE(end.instance_ns, finished_ns - deferred_ns);
  EXPECT_GE(end.stream_ns, end.instance_ns);
}

TEST_F(AbiContract, AnInstanceThatWantsTheRealEndGetsNoEarlyOne) {
  limits_.early_end = true;
  callout_stream_end_t end = {};
  FakePlugin* plugin = AddTold(&end);
  plugin->create = Wants(CALLOUT_WANT_REAL_END);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone));
  EXPECT_FALSE(stream_->end().has_value());
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS, true, {{":status", "200"}}));
  EXPECT_FALSE(stream_->end().has_value());
  stream_->OnHalfClose();
  EXPECT_EQ(end.outcome, uint32_t{CALLOUT_END_COMPLETED});
  EXPECT_EQ(end.http_status, 200u);
}

TEST_F(AbiContract, AnInstanceThatIsNotInTheStreamHoldsUpNoEarlyEnd) {
  limits_.early_end = true;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  FakePlugin* plugin = AddPlugin();
  plugin->create = Wants(CALLOUT_WANT_REAL_END);
  plugin->open = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kNone));
  EXPECT_TRUE(stream_->end().has_value()) << "no call of it was made, and none can come";
  EXPECT_EQ(plugin->closed, 0);
}

// --- Both directions at once ------------------------------------------------------

TEST_F(AbiContract, ADeferredCallHoldsUpTheOtherDirectionUnlessTheInstanceTakesBoth) {
  for (const bool both : {false, true}) {
    SCOPED_TRACE(both);
    callout_call_t* request = nullptr;
    FakePlugin* plugin = AddPlugin();
    if (both) plugin->create = Wants(CALLOUT_WANT_BOTH_DIRECTIONS);
    int mark = 0;
    plugin->open = [&](callout_call_t* call) {
      call->stream = &mark;
      return CALLOUT_OK;
    };
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&request);
    plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
      EXPECT_NE(call, request);
      EXPECT_EQ(call->stream, &mark);
      return SetsHeader("x-response", "1")(call);
    };
    plugin->close = [&](callout_call_t* call) { EXPECT_EQ(call->stream, &mark); };
    Begin();
    Feed(Headers(CALLOUT_REQUEST_HEADERS));
    Feed(Headers(CALLOUT_RESPONSE_HEADERS));
    auto responses = Take();
    ASSERT_EQ(responses.size(), both ? 1u : 0u);
    if (both) {
      EXPECT_TRUE(responses[0].has_response_headers());
    }
    EXPECT_EQ(SetsHeader("x-request", "1")(request), CALLOUT_OK);
    EXPECT_EQ(Finish(request), CALLOUT_OK);
    Deliver();
    for (const auto& response : Take()) responses.push_back(response);
    ASSERT_EQ(responses.size(), 2u);
    EXPECT_EQ(Mutations(responses[both ? 1 : 0].request_headers().response().header_mutation()),
              (std::vector<std::string>{"set x-request=1"}));
    stream_->OnHalfClose();
    EXPECT_EQ(plugin->closed, 1);
    Reset();
  }
}

TEST_F(AbiContract, OneDirectionOfACallThatTakesBothStaysInOrder) {
  callout_call_t* first = nullptr;
  int calls = 0;
  FakePlugin* plugin = AddPlugin();
  plugin->create = Wants(CALLOUT_WANT_BOTH_DIRECTIONS);
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    ++calls;
    first = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "a", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "b", true));
  EXPECT_EQ(calls, 1);
  Finish(first);
  Deliver();
  EXPECT_EQ(calls, 2);
  Finish(first);
  Deliver();
}

// The class of the C++ layer makes its stream's object in the first call.
TEST_F(AbiContract, WhatTheFirstCallKeepsIsThereForTheOtherDirection) {
  callout_call_t* request = nullptr;
  int mark = 0;
  FakePlugin* plugin = AddPlugin();
  plugin->create = Wants(CALLOUT_WANT_BOTH_DIRECTIONS);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    call->stream = &mark;
    request = call;
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    EXPECT_EQ(call->stream, &mark);
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  Finish(request);
  Deliver();
  EXPECT_EQ(Take().size(), 1u);
}

TEST_F(AbiContract, BothDirectionsOfABlockingInstanceRunAtOnceButNotBeforeItIsOpen) {
  Notification opening, open, request_runs, response_ran;
  InstanceSettings settings;
  settings.blocking = kAllPhases;
  FakePlugin* plugin = AddPlugin(settings);
  plugin->create = Wants(CALLOUT_WANT_BOTH_DIRECTIONS);
  std::atomic<bool> opened{false};
  plugin->open = [&](callout_call_t*) {
    opening.Notify();
    open.WaitForNotification();
    opened = true;
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t*) {
    request_runs.Notify();
    response_ran.WaitForNotification();
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t*) {
    EXPECT_TRUE(opened);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_BODY] = [&](callout_call_t*) {
    request_runs.WaitForNotification();
    response_ran.Notify();
    return CALLOUT_OK;
  };
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kStreamed));
  opening.WaitForNotification();
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  open.Notify();
  size_t responses = 0;
  while (responses < 2) {
    WaitAndDeliver();
    responses += Take().size();
  }
  Feed(Body(CALLOUT_REQUEST_BODY, "a", true));
  Feed(Body(CALLOUT_RESPONSE_BODY, "b", true));
  while (responses < 4) {
    WaitAndDeliver();
    responses += Take().size();
  }
  stream_->OnHalfClose();
  while (!stream_->closed()) WaitAndDeliver();
  EXPECT_EQ(plugin->opened, 1);
  EXPECT_EQ(plugin->closed, 1);
}

// --- Cancel -------------------------------------------------------------------

TEST_F(AbiContract, ACancelComesForTheFirstBlockingCallToo) {
  Notification running, told;
  int mark = 0;
  InstanceSettings settings;
  settings.blocking = kAllPhases;
  FakePlugin* plugin = AddPlugin(settings);
  plugin->open = [&](callout_call_t* call) {
    call->stream = &mark;
    return CALLOUT_OK;
  };
  callout_call_t* at_work = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    at_work = call;
    running.Notify();
    told.WaitForNotification();
    EXPECT_EQ(call->host->is_cancelled(call), 1);
    return CALLOUT_OK;
  };
  int cancels = 0;
  plugin->cancel = [&](callout_call_t* call) {
    ++cancels;
    EXPECT_NE(call, at_work);
    EXPECT_EQ(call->stream, &mark);
    EXPECT_EQ(call->phase, 0u);
    EXPECT_EQ(call->message.size, 0u);
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_FAILED_PRECONDITION);
    told.Notify();
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  running.WaitForNotification();
  stream_->OnCancel();
  EXPECT_EQ(cancels, 1);
  while (!stream_->closed()) WaitAndDeliver();
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(AbiContract, AClientThatLeavesDuringOpenMeansThatTheCallIsNotMade) {
  Notification opening, left;
  InstanceSettings settings;
  settings.blocking = kAllPhases;
  FakePlugin* plugin = AddPlugin(settings);
  plugin->open = [&](callout_call_t*) {
    opening.Notify();
    left.WaitForNotification();
    return CALLOUT_OK;
  };
  plugin->cancel = [](callout_call_t*) { ADD_FAILURE() << "no call runs"; };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) {
    ADD_FAILURE() << "called after the client has left";
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  opening.WaitForNotification();
  stream_->OnCancel();
  left.Notify();
  while (!stream_->closed()) WaitAndDeliver();
  EXPECT_EQ(plugin->closed, 1) << "what open made is freed";
}

TEST_F(AbiContract, ACancelIsToldOnceHoweverManyCallsAreAtWork) {
  callout_call_t* calls[2] = {};
  int cancels = 0;
  FakePlugin* plugin = AddPlugin();
  plugin->create = Wants(CALLOUT_WANT_BOTH_DIRECTIONS);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&calls[0]);
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Defers(&calls[1]);
  plugin->cancel = [&](callout_call_t*) { ++cancels; };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  stream_->OnCancel();
  EXPECT_EQ(cancels, 1);
  for (callout_call_t* call : calls) EXPECT_EQ(Finish(call), CALLOUT_CANCELLED);
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(AbiContract, ACallThatIsFinishedIsNotCancelled) {
  callout_call_t* call = nullptr;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Defers(&call);
  plugin->cancel = [](callout_call_t*) { ADD_FAILURE() << "the plugin has no call at work"; };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(Finish(call), CALLOUT_OK);
  stream_->OnCancel();
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

// --- Strict -------------------------------------------------------------------

TEST_F(AbiContract, AStrictHostOverwritesWhatACallHasShown) {
  strict_ = true;
  const std::vector<callout_bytes_t callout_call_t::*> kViews = {
      &callout_call_t::message, &callout_call_t::request, &callout_call_t::attributes,
      &callout_call_t::metadata_context};
  std::vector<callout_bytes_t> kept;
  FakePlugin* plugin = AddPlugin();
  callout_call_t* deferred = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    EXPECT_EQ(HeadersShown(call), (Pairs{{":path", "/"}}));
    for (const auto view : kViews) kept.push_back(call->*view);
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  ProcessingRequest request = Headers(CALLOUT_REQUEST_HEADERS);
  (*(*request.mutable_attributes())["ns"].mutable_fields())["k"].set_string_value("v");
  (*request.mutable_metadata_context()->mutable_filter_metadata())["m"];
  Feed(request);
  EXPECT_EQ(HeadersShown(deferred), (Pairs{{":path", "/"}})) << "until it is finished";
  Finish(deferred);
  Deliver();
  EXPECT_EQ(Take().size(), 1u);
  for (const callout_bytes_t& view : kept) {
    ASSERT_GT(view.size, 0u);
    EXPECT_EQ(std::string(ToView(view)), std::string(view.size, '\xdd'));
  }
}

}  // namespace
}  // namespace callout::host
