// SPDX-License-Identifier: Apache-2.0

// The threads of shadows: that live streams never wait for them, their limits, faults and deferral.
#include "host/shadow/shadow_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "host/base/clock.h"
#include "tests/host/notification.h"
#include "tests/host/shadow/shadow_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A hook that does not return before it is let go.
class Gate {
 public:
  FakePlugin::Hook Blocks() {
    return [this](callout_call_t*) {
      std::unique_lock<std::mutex> lock(mutex_);
      ++waiting_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_; });
      return CALLOUT_OK;
    };
  }
  void AwaitOne() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
  }
  void Open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

class ShadowRunnerTest : public ShadowTest {};

TEST_F(ShadowRunnerTest, LiveStreamsCompleteWhileAShadowIsBlocked) {
  Gate gate;
  shadow_limits_.exchanges_max = 3;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-live", "1");
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = gate.Blocks();
  BeginShadowed();
  RunStream();
  gate.AwaitOne();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(RunStream().size(), 1u);
  }
  // Two wait behind the one that runs.
  EXPECT_EQ(Metric("callout_shadow_exchanges"), 3);
  EXPECT_EQ(Metric("callout_shadow_dropped_total{plugin=\"fake1\",why=\"queue_full\"}"), 18);
  gate.Open();
  EXPECT_EQ(Summary("fake1").exchanges, 3u);
  EXPECT_EQ(Metric("callout_shadow_exchanges_total{plugin=\"fake1\"}"), 3);
  EXPECT_EQ(Metric("callout_shadow_bytes"), 0);
}

TEST_F(ShadowRunnerTest, StreamsThatGoOnForLongTakeNoPlace) {
  shadow_limits_.exchanges_max = 1;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginShadowed();
  std::vector<std::unique_ptr<Stream>> open;
  for (int i = 0; i < 5; ++i) {
    NextStream();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kNone));
    open.push_back(std::move(stream_));
  }
  EXPECT_EQ(Metric("callout_shadow_exchanges"), 0);
  EXPECT_GT(Metric("callout_shadow_bytes"), 0);
  RunStream();
  EXPECT_EQ(Summary("fake1").exchanges, 1u);
  for (const auto& stream : open) stream->OnCancel();
  AwaitShadows();
  EXPECT_EQ(Metric("callout_shadow_bytes"), 0);
}

TEST_F(ShadowRunnerTest, ThereIsRoomForExactlySoManyBytesOfAnExchange) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  const ProcessingRequest request = WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kNone);
  shadow_limits_.exchange_bytes_max = request.SerializeAsString().size();
  BeginShadowed();
  RunStream();
  RunStream({{":path", "/x"}});  // a byte more
  EXPECT_EQ(Summary("fake1").exchanges, 1u);
  EXPECT_EQ(Metric("callout_shadow_dropped_total{plugin=\"fake1\",why=\"too_large\"}"), 1);
}

TEST_F(ShadowRunnerTest, TheMemoryOfAllExchangesHasALimit) {
  Gate gate;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = gate.Blocks();
  const ProcessingRequest request = WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kNone);
  shadow_limits_.bytes_max = 2 * request.SerializeAsString().size();
  BeginShadowed();
  for (int i = 0; i < 3; ++i) RunStream();
  EXPECT_EQ(Metric("callout_shadow_dropped_total{plugin=\"fake1\",why=\"memory\"}"), 1);
  gate.Open();
  EXPECT_EQ(Summary("fake1").exchanges, 2u);
}

TEST_F(ShadowRunnerTest, ExchangesThatWaitForAShadowThatIsRemovedDoNotRun) {
  Gate gate;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = gate.Blocks();
  BeginShadowed();
  for (int i = 0; i < 4; ++i) RunStream();
  gate.AwaitOne();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kNone));
  chains_->Switch(std::make_shared<const Chain>());
  EndStream();  // that had begun with it
  EXPECT_EQ(Metric("callout_shadow_exchanges"), 5);
  EXPECT_EQ(plugins_[1]->destroyed, 0) << "a call of it is at work";
  gate.Open();
  AwaitShadows();
  EXPECT_EQ(Metric("callout_shadow_exchanges_total{plugin=\"fake1\"}"), 1);
  EXPECT_EQ(Metric("callout_shadow_dropped_total{plugin=\"fake1\",why=\"removed\"}"), 4);
  EXPECT_EQ(Metric("callout_shadow_bytes"), 0);
  ASSERT_TRUE(runner_->Stop(kGiveUpMs));
  EXPECT_EQ(plugins_[1]->destroyed, 1);
}

TEST_F(ShadowRunnerTest, AnotherChainWithTheSameShadowKeepsItsExchanges) {
  Gate gate;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = gate.Blocks();
  BeginShadowed();
  for (int i = 0; i < 3; ++i) RunStream();
  gate.AwaitOne();
  chains_->Switch(std::make_shared<const Chain>(*chains_->current()));
  gate.Open();
  EXPECT_EQ(Summary("fake1").exchanges, 3u);
}

TEST_F(ShadowRunnerTest, ItsFaultsFailNoExchangeAndCountApart) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-live", "1");
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_INTERNAL);
  BeginShadowed();
  const auto responses = RunStream();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_TRUE(responses[0].has_request_headers());
  EXPECT_THAT(Differences("fake1"),
              ElementsAre("error rpc: none -> error_status in request_headers"));
  EXPECT_EQ(Metric("callout_shadow_faults_total{kind=\"error_status\",plugin=\"fake1\"}"), 1);
  EXPECT_EQ(Metric("callout_streams_started_total"), 2);  // with the fixture's own
  EXPECT_EQ(
      metrics_.Text().find("callout_plugin_faults_total{kind=\"error_status\",plugin=\"fake1"),
      std::string::npos);
}

TEST_F(ShadowRunnerTest, CallsMayBeDeferred) {
  std::mutex mutex;
  std::vector<callout_call_t*> deferred;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  limits_.hook_deadline_ms = kGiveUpMs;
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    const std::lock_guard<std::mutex> lock(mutex);
    deferred.push_back(call);
    return CALLOUT_DEFERRED;
  };
  BeginShadowed();
  for (int i = 0; i < 3; ++i) RunStream();
  // All at a time, on the one thread.
  const auto count = [&] {
    const std::lock_guard<std::mutex> lock(mutex);
    return deferred.size();
  };
  while (count() < 3) std::this_thread::yield();
  for (callout_call_t* call : deferred) {
    SetsHeader("x-late", "1")(call);
    call->host->finish(call, CALLOUT_OK);
  }
  EXPECT_EQ(Summary("fake1").exchanges, 3u);
  EXPECT_THAT(Differences("fake1"), ElementsAre("header request x-late: absent -> 1"));
}

TEST_F(ShadowRunnerTest, ADeferredCallHasTheDeadlineOfLiveOnes) {
  std::atomic<callout_call_t*> deferred{nullptr};
  limits_.hook_deadline_ms = 1;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  BeginShadowed();
  RunStream();
  const std::string faults = "callout_shadow_faults_total{kind=\"deadline\",plugin=\"fake1\"}";
  while (Metric(faults) == 0) std::this_thread::yield();
  // The exchange is over when the plugin has let go of the call.
  EXPECT_EQ(Metric("callout_shadow_exchanges"), 1);
  deferred.load()->host->finish(deferred, CALLOUT_OK);
  EXPECT_THAT(Differences("fake1"), ElementsAre("error rpc: none -> deadline in request_headers"));
}

TEST_F(ShadowRunnerTest, AHookOfAShadowMayWaitSinceNoStreamWaitsForIt) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) {
    EXPECT_FALSE(ThisHookMayWait());
    return CALLOUT_OK;
  };
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) {
    EXPECT_TRUE(ThisHookMayWait());
    return CALLOUT_OK;
  };
  BeginShadowed();
  RunStream();
  EXPECT_EQ(Summary("fake1").exchanges, 1u);
}

TEST_F(ShadowRunnerTest, StopDoesNotWaitForAHookThatHangs) {
  Gate gate;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = gate.Blocks();
  BeginShadowed();
  RunStream();
  gate.AwaitOne();
  EXPECT_FALSE(runner_->Stop(1));
  gate.Open();
  EXPECT_TRUE(runner_->Stop(kGiveUpMs));
}

// A shadow defers its call, and is told when the stop has begun.
class HeldByShadow : public ShadowRunnerTest {
 protected:
  void BeginHolding() {
    limits_.hook_deadline_ms = kGiveUpMs;
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    FakePlugin* const shadow = AddShadow();
    shadow->phases[CALLOUT_REQUEST_HEADERS] = [this](callout_call_t* given) {
      call_ = given;
      deferred_.Notify();
      return CALLOUT_DEFERRED;
    };
    shadow->cancel = [this](callout_call_t*) { cancelled_.Notify(); };
    BeginShadowed();
    RunStream();
    deferred_.WaitForNotification();
  }
  void Finish() const { call_->host->finish(call_, CALLOUT_OK); }

  Notification deferred_, cancelled_;
  callout_call_t* call_ = nullptr;
};

// All plugins would otherwise end without their destroy.
TEST_F(HeldByShadow, StopWaitsForACallThatIsFinishedInTime) {
  BeginHolding();
  // It is told so only by the stop, which has begun then.
  std::thread plugin([this] {
    cancelled_.WaitForNotification();
    Finish();
  });
  EXPECT_TRUE(runner_->Stop(kGiveUpMs));
  plugin.join();
}

TEST_F(HeldByShadow, StopWaitsForACallThatIsNotFinishedUntilItsTimeIsUp) {
  constexpr uint64_t kStopMs = 20;
  BeginHolding();
  const uint64_t began_ns = MonotonicNs();
  EXPECT_FALSE(runner_->Stop(kStopMs)) << "the plugin has it still";
  EXPECT_GE(MonotonicNs() - began_ns, kStopMs * kNsPerMs);
  Finish();
  EXPECT_TRUE(runner_->Stop(kGiveUpMs)) << "who asks again is told";
}

TEST_F(ShadowRunnerTest, AReportIsOfTheLatestGeneration) {
  const auto report = [](uint64_t generation, uint64_t exchanges) {
    ShadowReport made;
    made.plugin = "p";
    made.generation = generation;
    made.summary.exchanges = exchanges;
    return made;
  };
  const auto joined = JoinShadowReports({report(1, 10), report(2, 3), report(2, 4), report(1, 5)});
  ASSERT_EQ(joined.size(), 1u);
  EXPECT_EQ(joined[0].generation, 2u);
  EXPECT_EQ(joined[0].summary.exchanges, 7u);
  EXPECT_THAT(ShadowsJson({report(2, 3)}), HasSubstr("\"exchanges\": 3"));
}

}  // namespace
}  // namespace callout::host
