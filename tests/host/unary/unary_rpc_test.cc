// SPDX-License-Identifier: Apache-2.0

#include "host/unary/unary_rpc.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "host/plugin/call_observer.h"
#include "host/wire/response.h"
#include "tests/host/unary/check_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using UnaryRpcTest = CheckTest;

TEST_F(UnaryRpcTest, AnInstanceIsOpenedCalledAndClosed) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    EXPECT_EQ(plugin->opened, 1);
    EXPECT_EQ(plugin->closed, 0);
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  EXPECT_TRUE(Check(Request()).has_ok_response());
  EXPECT_EQ(plugin->closed, 1);
  EXPECT_FALSE(rpc_call_->wants_message());
}

TEST_F(UnaryRpcTest, AnOpenThatRefusesIsTheAnswer) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_CHECK] = Allows();
  plugin->open = Returns(CALLOUT_PERMISSION_DENIED);
  EXPECT_EQ(StatusTold(Request()), 403);
  EXPECT_EQ(plugin->closed, 0);
}

TEST_F(UnaryRpcTest, WhatIsNoRequestIsRefused) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  for (const std::string& bytes : {std::string("\xff"), std::string("\x0a\x05x")}) {
    AskBytes(bytes);
    EXPECT_EQ(rpc_call_->end()->code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(rpc_call_->TakeOutput(), IsEmpty());
    EXPECT_TRUE(rpc_call_->closed());
  }
}

TEST_F(UnaryRpcTest, TooManyHeadersAreAnsweredByADenial) {
  limits_.message_fields_max = 5;
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  EXPECT_TRUE(Check(Request({{"x", "1"}})).has_ok_response()) << "four pseudo headers and one";
  EXPECT_EQ(StatusTold(Request({{"x", "1"}, {"y", "1"}})), 431);
}

TEST_F(UnaryRpcTest, AnRpcWithoutARequestIsAnError) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  Begin();
  rpc_call_ = std::make_unique<UnaryRpc>(environment_.get(), &rpc_,
                                         std::make_unique<CheckService>(&environment_->limits()));
  EXPECT_TRUE(rpc_call_->wants_message());
  rpc_call_->OnHalfClose();
  EXPECT_EQ(rpc_call_->end()->code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(rpc_call_->closed());
}

// --- Faults ---

TEST_F(UnaryRpcTest, ThePolicyDecidesAboutAFault) {
  AddPlugin()->phases[CALLOUT_CHECK] = Returns(CALLOUT_INTERNAL);
  EXPECT_EQ(FaultTold(Request()), "plugin fake0 returned INTERNAL from check");
  Finish();
  Reset();
  AddPlugin(ErrorPolicy::Action::kDeny, 429)->phases[CALLOUT_CHECK] = Returns(CALLOUT_INTERNAL);
  EXPECT_EQ(StatusTold(Request()), 429);
  Finish();
  Reset();
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_CHECK] = Returns(CALLOUT_INTERNAL);
  EXPECT_TRUE(Check(Request()).has_ok_response()) << "as Envoy lets pass that fails open";
}

TEST_F(UnaryRpcTest, StatusesAndServicesOfStreamsHaveNoPlace) {
  for (const callout_status_t status : {callout_status_t{CALLOUT_NO_RESPONSE}, 17}) {
    AddPlugin()->phases[CALLOUT_CHECK] = Returns(status);
    EXPECT_THAT(FaultTold(Request()), HasSubstr("bad_status"));
    Finish();
    Reset();
  }
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    EXPECT_EQ(call->host->send(call, CALLOUT_CHECK_OK, nullptr, 0), CALLOUT_OK);
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  EXPECT_THAT(FaultTold(Request()), HasSubstr("second_answer"));
}

TEST_F(UnaryRpcTest, MalformedBytesAreAFault) {
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    RespondWith(call, CALLOUT_WHOLE_RESPONSE, "\xff");
    return CALLOUT_OK;
  };
  EXPECT_THAT(FaultTold(Request()), HasSubstr("malformed"));
  Finish();
  Reset();
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    return RespondWith(call, CALLOUT_CHECK_OK, "\x12\x05x");
  };
  EXPECT_THAT(FaultTold(Request()), HasSubstr("malformed"));
}

TEST_F(UnaryRpcTest, AResponseOverTheLimitIsADenial) {
  message_bytes_max_ = 100;
  AddPlugin()->phases[CALLOUT_CHECK] =
      Denies([](DeniedHttpResponse* denied) { denied->set_body(std::string(200, 'x')); });
  EXPECT_EQ(StatusTold(Request()), 500);
}

// --- Calls that take longer ---

TEST_F(UnaryRpcTest, ADeferredCallIsWaitedFor) {
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  int asked = 0;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    ++asked;
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  Ask(Request({{"x-a", "1"}}));
  EXPECT_FALSE(rpc_call_->end().has_value());
  EXPECT_NE(rpc_call_->deadline_ns(), 0u);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(ToView(held->request).size(), bytes_.size()) << "the views stay good";
  RespondWith(held, CALLOUT_CHECK_OK, "");
  EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_OK);
  rpc_.Deliver(rpc_call_.get());
  EXPECT_TRUE(Told().has_ok_response());
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(rpc_call_->closed());
}

TEST_F(UnaryRpcTest, AfterTheDeadlineThePolicyAnswers) {
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kDeny, ErrorPolicy::Action::kContinue}) {
    callout_call_t* held = nullptr;
    FakePlugin* plugin = AddPlugin(action, 503);
    plugin->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
      held = call;
      return CALLOUT_DEFERRED;
    };
    Ask(Request());
    rpc_call_->OnDeadline(rpc_call_->deadline_ns() - 1);
    EXPECT_FALSE(rpc_call_->end().has_value());
    rpc_call_->OnDeadline(rpc_call_->deadline_ns());
    ASSERT_TRUE(rpc_call_->end().has_value());
    EXPECT_EQ(Told().has_ok_response(), action == ErrorPolicy::Action::kContinue);
    EXPECT_FALSE(rpc_call_->closed()) << "the plugin still has the call";
    EXPECT_EQ(plugin->closed, 0);
    RespondWith(held, CALLOUT_CHECK_OK, "");
    EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
    rpc_.Deliver(rpc_call_.get());
    EXPECT_TRUE(rpc_call_->closed());
    EXPECT_EQ(plugin->closed, 1);
    EXPECT_EQ(environment_->deferred(), 0u);
    Finish();
    Reset();
  }
}

TEST_F(UnaryRpcTest, AClientThatLeavesCancelsTheCall) {
  callout_call_t* held = nullptr;
  FakePlugin* plugin = AddPlugin();
  int cancelled = 0;
  plugin->cancel = [&](callout_call_t* call) {
    ++cancelled;
    EXPECT_EQ(call->stream, plugin);
  };
  plugin->open = [&](callout_call_t* call) {
    call->stream = plugin;
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Ask(Request());
  rpc_call_->OnCancel();
  EXPECT_EQ(cancelled, 1);
  EXPECT_FALSE(rpc_call_->closed());
  EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_CANCELLED);
  rpc_.Deliver(rpc_call_.get());
  EXPECT_TRUE(rpc_call_->closed());
  EXPECT_EQ(plugin->closed, 1);
  EXPECT_THAT(rpc_call_->TakeOutput(), IsEmpty());
}

TEST_F(UnaryRpcTest, ABlockingHookRunsElsewhere) {
  const std::thread::id own = std::this_thread::get_id();
  FakePlugin* plugin = AddBlocking();
  plugin->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    EXPECT_NE(std::this_thread::get_id(), own);
    EXPECT_TRUE(ThisHookMayWait());
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  Ask(Request());
  EXPECT_FALSE(rpc_call_->end().has_value());
  rpc_.WaitAndDeliver(rpc_call_.get());
  EXPECT_TRUE(Told().has_ok_response());
  while (!rpc_call_->closed()) rpc_.WaitAndDeliver(rpc_call_.get());
  EXPECT_EQ(plugin->opened, 1);
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(UnaryRpcTest, OfAnInstanceThatBlocksElsewhereAHookMayNotWait) {
  InstanceSettings settings;
  settings.blocking = CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
  int calls = 0;
  AddPlugin(settings)->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    EXPECT_FALSE(ThisHookMayWait()) << "it holds the RPC's thread";
    ++calls;
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  Ask(Request());
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(Told().has_ok_response());
  while (!rpc_call_->closed()) rpc_.WaitAndDeliver(rpc_call_.get());
}

TEST_F(UnaryRpcTest, MoreDeferredCallsThanAllowedAreRefused) {
  limits_.deferred_max = 0;
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  EXPECT_EQ(StatusTold(Request()), 503);
  EXPECT_FALSE(rpc_call_->closed());
  held->host->finish(held, CALLOUT_OK);
  rpc_.Deliver(rpc_call_.get());
  EXPECT_TRUE(rpc_call_->closed());
  EXPECT_EQ(environment_->deferred(), 0u);
}

TEST_F(UnaryRpcTest, TheEndOfADrainIsAnError) {
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Ask(Request());
  rpc_call_->OnDrainDeadline();
  EXPECT_EQ(rpc_call_->end()->code(), absl::StatusCode::kUnavailable);
  held->host->finish(held, CALLOUT_OK);
  rpc_.Deliver(rpc_call_.get());
  EXPECT_TRUE(rpc_call_->closed());
}

// --- Who watches ------------------------------------------------------------------

// Notes what came of each call.
class CallWatcher final : public RpcWatcher {
 public:
  class Observer final : public RpcObserver {
   public:
    explicit Observer(CallWatcher* watcher) : watcher_(watcher) {}
    void OnCall(const CallRecord& call) override {
      std::string text = fmt::format("{} {} {}", call.instance->name(), PhaseName(call.phase),
                                     CallOutcomeName(call.result.outcome));
      if (call.result.http_status != 0) text += fmt::format(" {}", call.result.http_status);
      if (call.deferred) text += " deferred";
      watcher_->told.push_back(text);
    }
    void OnResponse(callout_field_t, std::string_view) override {
      watcher_->told.emplace_back("response");
    }
    void OnEnd(const RpcEnd&) override { watcher_->told.emplace_back("end"); }

   private:
    CallWatcher* const watcher_;
  };

  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override {
    EXPECT_EQ(start.service, RpcService::kExtAuthz);
    EXPECT_EQ(FindHeader(start.headers, "x-request-id"), "4711");
    return std::make_unique<Observer>(this);
  }

  std::vector<std::string> told;
};

class WatchedRpcTest : public CheckTest {
 protected:
  ~WatchedRpcTest() override { Finish(); }  // before the watcher
  // A Check that is watched.
  void AskWatched() {
    Begin();
    environment_->watchers().Add(&watcher_);
    environment_->watchers().SetActive(&watcher_, true);
    Ask(Request({{"x-request-id", "4711"}}));
  }

  CallWatcher watcher_;
};

TEST_F(WatchedRpcTest, TellsWhatCameOfEachCall) {
  AddPlugin()->phases[CALLOUT_CHECK] =
      Allows([](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), "x-new", "1"); });
  AddPlugin()->phases[CALLOUT_CHECK] = Denies([](DeniedHttpResponse* denied) {
    denied->mutable_status()->set_code(envoy::type::v3::TooManyRequests);
  });
  AskWatched();
  EXPECT_THAT(watcher_.told,
              ElementsAre("fake0 check changed", "fake1 check immediate 429", "response", "end"));
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_denials_total{by=\"plugin\",plugin=\"fake1\",status=\"429\"} 1"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_message_seconds_count{phase=\"check\"} 1"));
}

TEST_F(WatchedRpcTest, TellsOfARefusalByStatusAndOfAFault) {
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_CHECK] = Returns(CALLOUT_INTERNAL);
  AddPlugin()->phases[CALLOUT_CHECK] = Returns(CALLOUT_UNAUTHENTICATED);
  AskWatched();
  EXPECT_THAT(watcher_.told,
              ElementsAre("fake0 check fault", "fake1 check denied 401", "response", "end"));
}

TEST_F(WatchedRpcTest, TellsOfACallThatIsNotOverBeforeTheEnd) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  AskWatched();
  rpc_call_->OnCancel();
  EXPECT_THAT(watcher_.told, ElementsAre("fake0 check overruled deferred", "end"));
  deferred->host->finish(deferred, CALLOUT_OK);
  rpc_.Deliver(rpc_call_.get());
  EXPECT_EQ(watcher_.told.size(), 2u);
}

}  // namespace
}  // namespace callout::host
