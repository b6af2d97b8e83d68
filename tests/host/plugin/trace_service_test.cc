// SPDX-License-Identifier: Apache-2.0

// What plugins add to the spans of their calls: from the table that they get, through a stream, to
// the trace that the sink gets.
#include "host/plugin/trace_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/stream/trace_watcher.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

constexpr char kTraceId[] = "11111111111111111111111111111111";
constexpr char kParent[] = "00-11111111111111111111111111111111-2222222222222222-01";
constexpr char kNotSampled[] = "00-11111111111111111111111111111111-2222222222222222-00";

class Sink final : public TraceSink {
 public:
  void Take(std::unique_ptr<ExchangeTrace> trace) override { traces.push_back(std::move(trace)); }
  std::vector<std::unique_ptr<ExchangeTrace>> traces;
};

const callout_trace_t* TraceOf(const callout_call_t* call) {
  return static_cast<const callout_trace_t*>(call->host->get_extension(call->host, CALLOUT_TRACE));
}
callout_trace_attribute_t Text(std::string_view key, std::string_view text) {
  return {ToBytes(key), ToBytes(text), 0, 0, CALLOUT_TRACE_TEXT, 0};
}
callout_trace_attribute_t Number(std::string_view key, int64_t number) {
  return {ToBytes(key), {}, number, 0, CALLOUT_TRACE_INTEGER, 0};
}
callout_status_t Set(callout_call_t* call, const callout_trace_attribute_t& attribute) {
  return TraceOf(call)->set_attribute(call, &attribute);
}
callout_status_t Add(callout_call_t* call, std::string_view name,
                     const std::vector<callout_trace_attribute_t>& attributes = {}) {
  return TraceOf(call)->add_event(call, ToBytes(name), attributes.data(), attributes.size());
}
std::string Traceparent(const callout_call_t* call, std::string* tracestate = nullptr) {
  char text[CALLOUT_TRACEPARENT_BYTES];
  callout_bytes_t state = {};
  if (TraceOf(call)->get_context(call, text, &state) != CALLOUT_OK) return "none";
  if (tracestate != nullptr) *tracestate = ToView(state);
  return std::string(text, sizeof(text));
}

class TraceServiceTest : public StreamTest {
 protected:
  void BeginTraced(const SpanLimits& limits = {}) {
    Begin();
    watcher_.emplace(Sampler(), &sink_, limits);
    environment_->watchers().Add(&*watcher_);
    environment_->watchers().SetActive(&*watcher_, true);
  }
  // One exchange of request headers.
  void Run() {
    Feed(Headers(CALLOUT_REQUEST_HEADERS));
    End();
  }
  void End() {
    stream_->OnHalfClose();
    ASSERT_EQ(sink_.traces.size(), 1u);
  }
  const CallSpan& Call(size_t index = 0) { return sink_.traces.at(0)->calls().at(index); }

  Sink sink_;
  std::optional<TraceWatcher> watcher_;
};

TEST_F(TraceServiceTest, AddsToTheSpanOfTheCall) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(TraceOf(call)->struct_size, sizeof(callout_trace_t));
    EXPECT_EQ(TraceOf(call)->is_recording(call), 1);
    EXPECT_EQ(Set(call, Text("tenant", "bl\xc3\xbc")), CALLOUT_OK);
    EXPECT_EQ(Set(call, Number("rule", -7)), CALLOUT_OK);
    EXPECT_EQ(Set(call, {ToBytes("score"), {}, 0, 0.5, CALLOUT_TRACE_REAL, 0}), CALLOUT_OK);
    EXPECT_EQ(Set(call, {ToBytes("hit"), {}, 1, 0, CALLOUT_TRACE_FLAG, 0}), CALLOUT_OK);
    EXPECT_EQ(Add(call, "looked up", {Number("entries", 3)}), CALLOUT_OK);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(Set(call, Number("second", 2)), CALLOUT_OK);
    return CALLOUT_OK;
  };
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, true, {{":status", "200"}}));
  End();
  ASSERT_NE(Call(0).notes, nullptr);
  const SpanNotes& notes = *Call(0).notes;
  ASSERT_EQ(notes.attributes().size(), 4u);
  EXPECT_EQ(std::get<std::string>(notes.attributes()[0].value), "bl\xc3\xbc");
  EXPECT_EQ(std::get<int64_t>(notes.attributes()[1].value), -7);
  EXPECT_EQ(std::get<double>(notes.attributes()[2].value), 0.5);
  EXPECT_EQ(std::get<bool>(notes.attributes()[3].value), true);
  ASSERT_EQ(notes.events().size(), 1u);
  EXPECT_EQ(notes.events()[0].name, "looked up");
  EXPECT_LE(Call(0).begin_ns, notes.events()[0].at_ns);
  EXPECT_LE(notes.events()[0].at_ns, Call(0).end_ns);
  ASSERT_NE(Call(1).notes, nullptr);
  EXPECT_EQ(Call(1).notes->attributes().at(0).key, "second");
}

TEST_F(TraceServiceTest, WhatTheOpenHookAddsIsOfTheFirstCall) {
  FakePlugin* plugin = AddPlugin();
  plugin->open = [](callout_call_t* call) {
    EXPECT_EQ(Set(call, Number("opened", 1)), CALLOUT_OK);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin->close = [](callout_call_t* call) {
    EXPECT_EQ(TraceOf(call)->is_recording(call), 0);
    EXPECT_EQ(Set(call, Number("closed", 1)), CALLOUT_OK) << "does nothing";
  };
  BeginTraced();
  Run();
  ASSERT_NE(Call().notes, nullptr);
  ASSERT_EQ(Call().notes->attributes().size(), 1u);
  EXPECT_EQ(Call().notes->attributes()[0].key, "opened");
}

TEST_F(TraceServiceTest, AnExchangeThatIsNotSampledRecordsNothing) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(TraceOf(call)->is_recording(call), 0);
    EXPECT_EQ(Set(call, Number("a", 1)), CALLOUT_OK);
    EXPECT_EQ(Add(call, "e"), CALLOUT_OK);
    return CALLOUT_OK;
  };
  rpc_.metadata["traceparent"] = kNotSampled;
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnHalfClose();
  EXPECT_TRUE(sink_.traces.empty());
}

TEST_F(TraceServiceTest, IsThereWithoutTraces) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(TraceOf(call)->is_recording(call), 0);
    EXPECT_EQ(Set(call, Number("a", 1)), CALLOUT_OK);
    EXPECT_EQ(Traceparent(call), kParent);
    return CALLOUT_OK;
  };
  rpc_.metadata["traceparent"] = kParent;
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
}

TEST_F(TraceServiceTest, RefusesKeysAndTextsThatMayNotStandInATrace) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    const std::string longest(CALLOUT_TRACE_KEY_BYTES_MAX, 'k');
    EXPECT_EQ(Set(call, Number(longest, 1)), CALLOUT_OK);
    for (const std::string& key :
         {std::string(), longest + "k", std::string("\xff"), std::string("callout.outcome"),
          std::string("http.response.status_code")}) {
      EXPECT_EQ(Set(call, Number(key, 1)), CALLOUT_INVALID_ARGUMENT) << key;
      EXPECT_EQ(Add(call, "e", {Number(key, 1)}), CALLOUT_INVALID_ARGUMENT) << key;
    }
    EXPECT_EQ(Set(call, Text("a", "\xc3")), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(Set(call, {ToBytes("a"), {}, 2, 0, CALLOUT_TRACE_FLAG, 0}), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(Set(call, {ToBytes("a"), {}, 0, 0, 0, 0}), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(Set(call, {ToBytes("a"), {}, 0, 0, 5, 0}), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(Add(call, ""), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(Add(call, "\xff"), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(TraceOf(call)->set_attribute(call, nullptr), CALLOUT_INVALID_ARGUMENT);
    return CALLOUT_OK;
  };
  BeginTraced();
  Run();
  EXPECT_EQ(Call().notes->attributes().size(), 1u);
  EXPECT_TRUE(Call().notes->events().empty());
}

TEST_F(TraceServiceTest, WhatIsOverALimitIsRefusedAndCounted) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(Set(call, Number("a", 1)), CALLOUT_OK);
    EXPECT_EQ(Set(call, Text("b", "123456789")), CALLOUT_OK);
    EXPECT_EQ(Set(call, Number("c", 1)), CALLOUT_RESOURCE_EXHAUSTED);
    EXPECT_EQ(Add(call, "e", {Number("x", 1), Number("y", 1)}), CALLOUT_OK);
    EXPECT_EQ(Add(call, "e"), CALLOUT_RESOURCE_EXHAUSTED);
    EXPECT_EQ(Add(call, "e"), CALLOUT_RESOURCE_EXHAUSTED);
    return CALLOUT_OK;
  };
  BeginTraced(
      {.attributes_max = 2, .events_max = 1, .event_attributes_max = 1, .text_bytes_max = 8});
  Run();
  const SpanNotes& notes = *Call().notes;
  EXPECT_EQ(std::get<std::string>(notes.attributes()[1].value), "12345678");
  EXPECT_EQ(notes.events()[0].attributes.size(), 1u);
  EXPECT_EQ(notes.events()[0].dropped_attributes, 1u);
  EXPECT_EQ(notes.dropped_attributes(), 1u);
  EXPECT_EQ(notes.dropped_events(), 2u);
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_trace_dropped_total{plugin=\"fake0\",what=\"attribute\"} 1"));
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_trace_dropped_total{plugin=\"fake0\",what=\"event\"} 2"));
}

TEST_F(TraceServiceTest, AllThatIsAddedToAnExchangeHasALimit) {
  const size_t one = SpanNotes::kAttributeBytes + 1;
  for (int i = 0; i < 2; ++i) {
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [i](callout_call_t* call) {
      EXPECT_EQ(Set(call, Number("a", 1)), CALLOUT_OK);
      EXPECT_EQ(Set(call, Number("b", 1)), i == 0 ? CALLOUT_OK : CALLOUT_RESOURCE_EXHAUSTED);
      return CALLOUT_OK;
    };
  }
  BeginTraced({.bytes_max = 3 * one});
  Run();
  EXPECT_EQ(Call(1).notes->dropped_attributes(), 1u);
}

TEST_F(TraceServiceTest, PassesTheCallsOwnSpanOn) {
  std::string told, again, state;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    told = Traceparent(call, &state);
    again = Traceparent(call);
    return CALLOUT_OK;
  };
  rpc_.metadata["traceparent"] = kParent;
  rpc_.metadata["tracestate"] = "envoy=1";
  BeginTraced();
  Run();
  EXPECT_EQ(told, again);
  EXPECT_EQ(state, "envoy=1");
  ASSERT_NE(Call().notes, nullptr);
  EXPECT_EQ(told, std::string("00-") + kTraceId + "-" + ToHex(*Call().notes->known_id()) + "-01");
}

TEST_F(TraceServiceTest, PassesOnWhatCameIfNothingIsRecorded) {
  std::string state = "unset";
  std::string told;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    told = Traceparent(call, &state);
    return CALLOUT_OK;
  };
  rpc_.metadata["traceparent"] = kNotSampled;
  rpc_.metadata["tracestate"] = "envoy=1";
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(told, kNotSampled);
  EXPECT_EQ(state, "envoy=1");
}

TEST_F(TraceServiceTest, HasNoContextWhereNoneCame) {
  std::string told;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    told = Traceparent(call);
    return CALLOUT_OK;
  };
  rpc_.metadata["traceparent"] = "junk";
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(told, "none");
}

TEST_F(TraceServiceTest, ADeferredCallAddsFromAnotherThread) {
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  std::thread([&] {
    EXPECT_EQ(Set(held, Number("late", 1)), CALLOUT_OK);
    EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_OK);
    EXPECT_EQ(Set(held, Number("after", 1)), CALLOUT_FAILED_PRECONDITION);
  }).join();
  WaitAndDeliver();
  End();
  ASSERT_NE(Call().notes, nullptr);
  EXPECT_EQ(Call().notes->attributes().size(), 1u);
}

// Its span has been told; what the plugin still says belongs to no other call.
TEST_F(TraceServiceTest, ACallThatTheHostHasGivenUpHasNoSpan) {
  callout_call_t* held = nullptr;
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_HEADERS] =
      [&](callout_call_t* call) {
        held = call;
        EXPECT_EQ(Set(call, Number("early", 1)), CALLOUT_OK);
        return CALLOUT_DEFERRED;
      };
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  PassDeadline();
  EXPECT_EQ(TraceOf(held)->is_recording(held), 0);
  EXPECT_EQ(Set(held, Number("late", 1)), CALLOUT_FAILED_PRECONDITION);
  stream_->OnCancel();
  EXPECT_EQ(Add(held, "later"), CALLOUT_FAILED_PRECONDITION);
  EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
  WaitAndDeliver();
  ASSERT_EQ(sink_.traces.size(), 1u);
  EXPECT_EQ(Call().outcome, "fault:deadline");
  ASSERT_EQ(Call().notes->attributes().size(), 1u);
  EXPECT_EQ(Call().notes->attributes()[0].key, "early");
}

TEST_F(TraceServiceTest, ACopyOfACallIsRefused) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    callout_call_t copy = *call;
    EXPECT_EQ(Set(&copy, Number("a", 1)), CALLOUT_FAILED_PRECONDITION);
    EXPECT_EQ(TraceOf(call)->is_recording(&copy), 0);
    char text[CALLOUT_TRACEPARENT_BYTES];
    EXPECT_EQ(TraceOf(call)->get_context(&copy, text, nullptr), CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_OK;
  };
  BeginTraced();
  Run();
}

}  // namespace
}  // namespace callout::host
