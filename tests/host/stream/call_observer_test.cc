// SPDX-License-Identifier: Apache-2.0

// What those who watch an RPC are told of it: each call once, with what came of it.
#include "host/plugin/call_observer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "absl/synchronization/notification.h"
#include "host/plugin/instance.h"
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// "fake0 request_headers changed", and what else there is to say.
std::string Describe(const CallRecord& call) {
  const CallResult& result = call.result;
  std::string text = fmt::format("{} {} {}", call.instance->name(), PhaseName(call.phase),
                                 CallOutcomeName(result.outcome));
  if (result.outcome == CallOutcome::kFault) {
    text += fmt::format(" {}", ViolationName(result.violation));
  }
  if (result.overruled != Overruled::kNot) {
    text += fmt::format(" {}", OverruledName(result.overruled));
  }
  if (result.http_status != 0) text += fmt::format(" {}", result.http_status);
  if (call.deferred) text += ", deferred";
  if (call.blocking) text += ", blocking";
  if (!call.begun) text += ", not begun";
  if (result.changed_bytes > 0) text += fmt::format(", {} bytes", result.changed_bytes);
  return text;
}

class Watcher final : public RpcWatcher {
 public:
  class Observer final : public RpcObserver {
   public:
    explicit Observer(Watcher* watcher) : watcher_(watcher) {}
    void OnMessage(const MessageView& message) override {
      watcher_->told.push_back(fmt::format("message {}", PhaseName(message.phase)));
    }
    void OnSaid(const SaidView& said) override {
      EXPECT_EQ(said.state.observers->list().front().get(), this);
      watcher_->told.push_back(fmt::format("said {}", said.state.response.field));
    }
    void OnFault(const FaultView& fault) override {
      watcher_->told.push_back(fmt::format("fault {}", ViolationName(fault.violation)));
    }
    void OnOverruled(const OverruledView& part) override {
      watcher_->told.push_back(fmt::format("left out {}", OverruledName(part.overruled)));
    }
    void OnCall(const CallRecord& call) override {
      EXPECT_LE(call.begin_ns, call.end_ns);
      EXPECT_LE(call.hook_ns, call.taken_ns());
      watcher_->calls.push_back(Describe(call));
      watcher_->records.push_back(call);
      watcher_->told.push_back("call");
    }
    void OnResponse(callout_field_t field, std::string_view) override {
      watcher_->told.push_back(fmt::format("response {}", field));
    }
    void OnEnd(const RpcEnd& end) override {
      watcher_->told.push_back(fmt::format("end {}", end.status.ok() ? "OK" : "error"));
    }

   private:
    Watcher* const watcher_;
  };

  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override {
    starts.push_back(std::string(PhaseName(start.phase)));
    return wants ? std::make_unique<Observer>(this) : nullptr;
  }

  bool wants = true;
  std::vector<std::string> starts, told, calls;
  std::vector<CallRecord> records;
};

class CallObserverTest : public StreamTest {
 protected:
  // The stream tells the watcher of its end.
  ~CallObserverTest() override {
    if (stream_ == nullptr) return;
    if (!stream_->closed()) stream_->OnCancel();
    while (!stream_->closed() && !HasFatalFailure()) WaitAndDeliver();
    Reset();
  }

  void BeginWatched() {
    Begin();
    environment_->watchers().Add(&watcher_);
    environment_->watchers().SetActive(&watcher_, true);
  }
  void Request(const FakePlugin::Hook& hook) {
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = hook;
    BeginWatched();
    Feed(Headers(CALLOUT_REQUEST_HEADERS));
  }
  FakePlugin::Hook Defers() {
    return [this](callout_call_t* call) {
      deferred_ = call;
      return CALLOUT_DEFERRED;
    };
  }
  void FinishDeferred() {
    deferred_->host->finish(deferred_, CALLOUT_OK);
    Deliver();
  }
  double Metric(const std::string& line) const {
    const std::string text = metrics_.Text();
    const size_t at = text.find("\n" + line + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + line.size() + 2));
  }

  Watcher watcher_;
  callout_call_t* deferred_ = nullptr;
};

TEST_F(CallObserverTest, TellsOfEverythingInItsOrder) {
  Request(SetsHeader("x-name", "four"));
  stream_->OnHalfClose();
  EXPECT_THAT(watcher_.starts, ElementsAre("request_headers"));
  EXPECT_THAT(watcher_.told,
              ElementsAre("message request_headers", "said 1", "call", "response 1", "end OK"));
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers changed, 10 bytes"));
  EXPECT_EQ(Metric("callout_calls_total{outcome=\"changed\",phase=\"request_headers\",plugin="
                   "\"fake0\"}"),
            1);
  EXPECT_EQ(Metric("callout_changed_bytes_total{phase=\"request_headers\",plugin=\"fake0\"}"), 10);
  EXPECT_EQ(Metric("callout_call_seconds_count{phase=\"request_headers\",plugin=\"fake0\"}"), 1);
  EXPECT_EQ(Metric("callout_message_seconds_count{phase=\"request_headers\"}"), 1);
}

TEST_F(CallObserverTest, IsAskedOnceAndOnlyWhileItIsActive) {
  watcher_.wants = false;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginWatched();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(watcher_.starts.size(), 1u);
  EXPECT_TRUE(watcher_.told.empty());
  environment_->watchers().SetActive(&watcher_, false);
  EXPECT_FALSE(environment_->watchers().active());
  stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(watcher_.starts.size(), 1u);
}

TEST_F(CallObserverTest, ACallThatSaysNothingIsUnchanged) {
  Request(Returns(CALLOUT_OK));
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers unchanged"));
}

// The call goes on, and is given up with the stream.
TEST_F(CallObserverTest, ACallThatSendsWhatEndsTheStreamIsToldOnceAndAsItself) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Request([this](callout_call_t* call) {
    const callout_bytes_t part = ToBytes("no message");
    EXPECT_EQ(call->host->send(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1), CALLOUT_OK);
    deferred_ = call;
    return callout_status_t{CALLOUT_DEFERRED};
  });
  EXPECT_TRUE(stream_->end().has_value());
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers unchanged",
                                          "fake1 request_headers fault second_answer, deferred"));
  FinishDeferred();
  EXPECT_EQ(watcher_.calls.size(), 2u);
}

TEST_F(CallObserverTest, ADenialHasItsStatusAndItsMetric) {
  Request(RepliesAtOnce(403));
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers immediate 403"));
  EXPECT_EQ(Metric("callout_denials_total{by=\"plugin\",plugin=\"fake0\",status=\"403\"}"), 1);
  EXPECT_EQ(Metric("callout_message_seconds_count{phase=\"request_headers\"}"), 1);
}

TEST_F(CallObserverTest, ADenialByStatusIsDenied) {
  Request(Returns(CALLOUT_PERMISSION_DENIED));
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers denied"));
  EXPECT_EQ(watcher_.told.back(), "end error");
}

TEST_F(CallObserverTest, AFaultHasItsKindAndWhatThePolicyDid) {
  AddPlugin(ErrorPolicy::Action::kDeny, 503)->phases[CALLOUT_REQUEST_HEADERS] =
      Returns(CALLOUT_INTERNAL);
  BeginWatched();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers fault error_status 503"));
  EXPECT_EQ(watcher_.records[0].result.action, ErrorPolicy::Action::kDeny);
  EXPECT_THAT(watcher_.told, ElementsAre("message request_headers", "said 0", "fault error_status",
                                         "response 7", "call"));
  EXPECT_EQ(Metric("callout_denials_total{by=\"policy\",plugin=\"fake0\",status=\"503\"}"), 1);
}

TEST_F(CallObserverTest, ADeferredCallLastsUntilItIsFinished) {
  Request(Defers());
  EXPECT_TRUE(watcher_.calls.empty());
  FinishDeferred();
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers unchanged, deferred"));
  const CallRecord& call = watcher_.records[0];
  EXPECT_LT(call.hook_ns, call.taken_ns());
  EXPECT_EQ(Metric("callout_calls_deferred_total{phase=\"request_headers\",plugin=\"fake0\"}"), 1);
  const double waited =
      Metric("callout_call_wait_seconds_total{phase=\"request_headers\",plugin=\"fake0\"}");
  EXPECT_DOUBLE_EQ(waited, static_cast<double>(call.taken_ns() - call.hook_ns) * 1e-9);
  EXPECT_GE(Metric("callout_call_seconds_sum{phase=\"request_headers\",plugin=\"fake0\"}"), waited);
  EXPECT_GE(Metric("callout_message_seconds_sum{phase=\"request_headers\"}"), waited);
}

TEST_F(CallObserverTest, AMissedDeadlineEndsTheCallAndALateFinishIsNoOther) {
  Request(Defers());
  PassDeadline();
  FinishDeferred();
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers fault deadline, deferred"));
}

TEST_F(CallObserverTest, ACallThatOutlivesItsRpcIsOverruled) {
  Request(Defers());
  stream_->OnCancel();
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers overruled ended, deferred"));
  EXPECT_EQ(watcher_.told.back(), "end error");
  FinishDeferred();
  EXPECT_EQ(watcher_.calls.size(), 1u);
  EXPECT_EQ(Metric("callout_ignored_total{plugin=\"fake0\",what=\"ended\"}"), 1);
}

TEST_F(CallObserverTest, ABlockingCallHasItsTimeOnTheThread) {
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "b");
  BeginWatched();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  WaitAndDeliver();
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers changed, blocking, 2 bytes"));
}

TEST_F(CallObserverTest, ACallWithoutAThreadWasNotBegun) {
  limits_.blocking_threads_max = 1;
  AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginWatched();
  auto done = std::make_shared<absl::Notification>();
  environment_->blocking_pool().Submit([done] { done->WaitForNotification(); });
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  PassDeadline();
  done->Notify();
  EXPECT_THAT(watcher_.calls,
              ElementsAre("fake0 request_headers fault overload 503, blocking, not begun"));
  EXPECT_EQ(Metric("callout_call_seconds_count{phase=\"request_headers\",plugin=\"fake0\"}"), 0);
}

TEST_F(CallObserverTest, AKeptChunkIsKept) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_NO_RESPONSE);
  BeginWatched();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "chunk", false));
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_body kept"));
}

TEST_F(CallObserverTest, ChunksSentAheadAreChanges) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    SendChunk(call, "1234");
    return CALLOUT_OK;
  };
  BeginWatched();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "chunk", true));
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_body changed, 4 bytes"));
}

TEST_F(CallObserverTest, NothingSaidInObservabilityModeHasAnEffect) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", "b");
  BeginWatched();
  ProcessingRequest request = Headers(CALLOUT_REQUEST_HEADERS);
  request.set_observability_mode(true);
  Feed(request);
  EXPECT_THAT(watcher_.calls, ElementsAre("fake0 request_headers overruled observability"));
}

TEST_F(CallObserverTest, SaysWhatEnvoyWillNotHeed) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Answers([](CommonResponse* common) {
    auto* value = common->mutable_header_mutation()->add_set_headers();
    value->mutable_header()->set_key("x-a");
    value->mutable_header()->set_value("not raw");
    AddSet(common, "x-b", "1");
    common->mutable_header_mutation()->mutable_set_headers(1)->set_append_action(
        envoy::config::core::v3::HeaderValueOption::ADD_IF_ABSENT);
    common->mutable_header_mutation()->add_remove_headers("Host");
    common->mutable_body_mutation()->set_body("x");
  });
  AddPlugin()->phases[CALLOUT_RESPONSE_HEADERS] = Answers([](CommonResponse* common) {
    AddSet(common, "x-c", "1");
    common->set_clear_route_cache(true);
  });
  BeginWatched();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  std::vector<std::string> left_out;
  for (const std::string& told : watcher_.told) {
    if (told.starts_with("left out ")) left_out.push_back(told.substr(9));
  }
  EXPECT_THAT(left_out,
              testing::UnorderedElementsAre("header_value", "append_action", "header_removal",
                                            "headers_body", "route_cache"));
  EXPECT_EQ(Metric("callout_ignored_total{plugin=\"fake0\",what=\"header_value\"}"), 1);
  EXPECT_EQ(Metric("callout_ignored_total{plugin=\"fake1\",what=\"route_cache\"}"), 1);
  EXPECT_EQ(Metric("callout_ignored_total{plugin=\"fake1\",what=\"header_value\"}"), 0);
}

TEST_F(CallObserverTest, StatusesWithSeriesOfTheirOwnAreLimited) {
  constexpr int kAsked = static_cast<int>(CallMetrics::kStatusesMax) + 10;
  int status = 400;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&status](callout_call_t* call) {
    return RepliesAtOnce(status++)(call);
  };
  Begin();
  for (int i = 0; i < kAsked; ++i) {
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
    Feed(Headers(CALLOUT_REQUEST_HEADERS));
  }
  const std::string text = metrics_.Text();
  size_t series = 0;
  for (size_t at = 0; (at = text.find("\ncallout_denials_total{", at)) != text.npos; ++at) ++series;
  EXPECT_EQ(series, CallMetrics::kStatusesMax + 1);
  EXPECT_EQ(Metric("callout_denials_total{by=\"plugin\",plugin=\"fake0\",status=\"other\"}"), 10);
}

}  // namespace
}  // namespace callout::host
