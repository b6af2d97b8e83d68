// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <callout/shared_data.h>
#include <callout/timers.h>

#include <thread>
#include <utility>
#include <vector>

#include "notification.h"
#include "stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Plugins made of lambdas stand for files; GenerationSource::path says which.
class PluginSetTest : public ::testing::Test {
 protected:
  PluginSetTest() { Make({}); }

  void Make(PluginSet::Options options) {
    options.instance.metrics = &metrics_;
    options.load =
        [this](const std::string& path) -> absl::StatusOr<std::shared_ptr<const Plugin>> {
      ++loads_;
      if (path == "broken") return absl::InvalidArgumentError("cannot load plugin broken");
      return plugins_[path].Load();
    };
    set_ = std::make_unique<PluginSet>(std::move(options), [this] { ++wakes_; });
  }

  absl::Status Prepare(GenerationId id, const std::string& file, bool on_trial = false) {
    return PrepareAs(id, id, file, on_trial);
  }
  absl::Status PrepareAs(GenerationId id, uint64_t number, const std::string& file,
                         bool on_trial = false) {
    GenerationSource source;
    source.id = id;
    source.number = number;
    source.name = "p";
    source.path = source.load_path = source.sha256 = file;
    source.on_trial = on_trial;
    FakePlugin::creating = &plugins_[file];
    return set_->Prepare(source).status();
  }

  void Serve(GenerationId id, const std::string& file) {
    ASSERT_TRUE(Prepare(id, file).ok());
    set_->Commit({id});
  }

  std::map<std::string, FakePlugin> plugins_;
  Metrics metrics_;
  int loads_ = 0;
  std::atomic<int> wakes_{0};
  std::unique_ptr<PluginSet> set_;
};

TEST_F(PluginSetTest, NewStreamsGetTheCommittedChain) {
  ASSERT_TRUE(Prepare(1, "a").ok());
  ASSERT_TRUE(Prepare(2, "b").ok());
  EXPECT_THAT(set_->chains().current()->instances, IsEmpty());
  set_->Commit({2, 1});
  EXPECT_EQ(set_->chains().current()->instances.size(), 2u);
}

TEST_F(PluginSetTest, AnInstanceIsDestroyedAfterItsLastStreamByTheReloadingThread) {
  Serve(1, "a");
  auto stream = set_->chains().current();
  Serve(2, "b");
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 0);
  EXPECT_EQ(set_->GetUsage().streams, (std::map<GenerationId, size_t>{{1, 1}, {2, 0}}));
  stream.reset();
  EXPECT_EQ(plugins_["a"].destroyed, 0) << "not on the stream's thread";
  EXPECT_EQ(wakes_, 1);
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 1);
  EXPECT_EQ(plugins_["b"].destroyed, 0);
  EXPECT_EQ(set_->GetUsage().streams, (std::map<GenerationId, size_t>{{2, 0}}));
}

TEST_F(PluginSetTest, CountsTheStreamsOfEveryChainThatHoldsAGeneration) {
  Serve(1, "a");
  const auto one = set_->chains().current();
  ASSERT_TRUE(Prepare(2, "b").ok());
  set_->Commit({1, 2});
  const auto two = set_->chains().current();
  const auto three = set_->chains().current();
  EXPECT_EQ(set_->GetUsage().streams, (std::map<GenerationId, size_t>{{1, 3}, {2, 2}}));
}

// --- Canaries and shadows ---

class PluginSetCanaryTest : public PluginSetTest {
 protected:
  void PrepareWith(GenerationId id, const std::string& settings, bool canary,
                   const std::string& name = "p") {
    GenerationSource source;
    source.id = source.number = id;
    source.name = name;
    source.path = source.load_path = source.sha256 = "file";
    source.settings_text = settings;
    source.on_trial = source.canary = canary;
    FakePlugin& plugin = plugins_["file"];
    plugin.phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    FakePlugin::creating = &plugin;
    const absl::Status status = set_->Prepare(source).status();
    ASSERT_TRUE(status.ok()) << status;
  }
  // How many of the instances of the current chain serve the stream.
  size_t Serving(uint64_t stream_id, const std::string& user) {
    const auto chain = set_->chains().current();
    size_t serving = 0;
    for (size_t i = 0; i < chain->instances.size(); ++i) {
      serving +=
          chain->Shares(i, stream_id, [&](const std::string&) { return std::string_view(user); })
              ? 1
              : 0;
    }
    return serving;
  }
};

TEST_F(PluginSetCanaryTest, EveryStreamIsServedByExactlyOneOfThePair) {
  PrepareWith(1, "", false);
  set_->Commit({1});
  PrepareWith(2, R"({"canary": {"percent": 30, "by_header": "x-user"}})", true);
  set_->Commit({1, 2});
  ASSERT_EQ(set_->chains().current()->instances.size(), 2u);
  for (uint64_t id = 1; id < 500; ++id) {
    EXPECT_EQ(Serving(id, ""), 1u);
    EXPECT_EQ(Serving(id, std::to_string(id)), 1u);
  }
}

TEST_F(PluginSetCanaryTest, CountsTheCallsOfBothWhileTheyAreAPair) {
  PrepareWith(1, "", false);
  set_->Commit({1});
  EXPECT_TRUE(set_->GetUsage().calls.empty());
  PrepareWith(2, R"({"canary": {}})", true);
  set_->Commit({1, 2});
  CallRecord record;
  record.begun = true;
  record.phase = CALLOUT_REQUEST_HEADERS;
  const auto chain = set_->chains().current();
  chain->instances[0]->CountCall(record);
  chain->instances[1]->CountCall(record);
  chain->instances[1]->CountCall(record);
  EXPECT_EQ(set_->GetUsage().calls.at(1).calls, 1u);
  EXPECT_EQ(set_->GetUsage().calls.at(2).calls, 2u);
  // Another canary beside the same one: both begin anew.
  PrepareWith(3, R"({"canary": {}})", true);
  set_->Commit({1, 3});
  EXPECT_EQ(set_->GetUsage().calls.at(1).calls, 0u);
  EXPECT_EQ(set_->GetUsage().calls.at(3).calls, 0u);
  EXPECT_EQ(set_->GetUsage().calls.count(2), 0u);
}

TEST_F(PluginSetCanaryTest, AfterItsPromotionItServesAll) {
  PrepareWith(1, "", false);
  set_->Commit({1});
  PrepareWith(2, R"({"canary": {"percent": 5}})", true);
  set_->Commit({1, 2});
  set_->Commit({2});
  EXPECT_FALSE(set_->chains().current()->has_share);
  EXPECT_TRUE(set_->GetUsage().calls.empty());
}

TEST_F(PluginSetCanaryTest, ItsTrialGoesByItsOwnLimits) {
  PrepareWith(1, "", false);
  set_->Commit({1});
  PrepareWith(2, R"({"canary": {"max_fault_percent": 50, "min_calls": 4}})", true);
  set_->Commit({1, 2});
  const auto chain = set_->chains().current();
  for (int i = 0; i < 2; ++i) {
    chain->instances[1]->CountViolation(Violation::kErrorStatus, CALLOUT_REQUEST_HEADERS, "", {});
  }
  EXPECT_THAT(set_->TakeFailedTrials(), IsEmpty());
  chain->instances[1]->CountViolation(Violation::kErrorStatus, CALLOUT_REQUEST_HEADERS, "", {});
  EXPECT_THAT(set_->TakeFailedTrials(), ElementsAre(2u));
}

TEST_F(PluginSetCanaryTest, AShadowStandsBesideTheChain) {
  PrepareWith(1, "", false, "first");
  PrepareWith(2, R"({"mode": "shadow"})", false, "shadow");
  PrepareWith(3, "", false, "last");
  PrepareWith(4, R"({"mode": "shadow", "instead_of": "first"})", false, "other");
  set_->Commit({1, 2, 3, 4});
  const auto chain = set_->chains().current();
  ASSERT_EQ(chain->instances.size(), 2u);
  ASSERT_EQ(chain->shadows.size(), 2u);
  EXPECT_EQ(chain->shadows[0].position, 1u);
  EXPECT_EQ(chain->shadows[0].replaces, 0u);
  EXPECT_EQ(chain->shadows[1].position, 0u);
  EXPECT_EQ(chain->shadows[1].replaces, 1u);
}

TEST_F(PluginSetCanaryTest, AShadowIsDestroyedWithItsLastChain) {
  PrepareWith(1, R"({"mode": "shadow"})", false);
  set_->Commit({1});
  set_->Commit({});
  set_->Reap();
  EXPECT_EQ(plugins_["file"].destroyed, 1);
}

TEST_F(PluginSetTest, AGenerationThatIsNotCommittedIsDropped) {
  Serve(1, "a");
  ASSERT_TRUE(Prepare(2, "b").ok());
  set_->Commit({1});
  set_->Reap();
  EXPECT_EQ(plugins_["b"].destroyed, 1);
  EXPECT_EQ(plugins_["a"].destroyed, 0);
}

TEST_F(PluginSetTest, AGenerationIsDroppedWhenItIsNotWantedAfterAll) {
  Serve(1, "a");
  ASSERT_TRUE(Prepare(2, "b").ok());
  ASSERT_TRUE(Prepare(3, "c").ok());
  set_->Discard(2);
  set_->Reap();
  EXPECT_EQ(plugins_["b"].destroyed, 1);
  set_->Commit({1, 3});
  EXPECT_EQ(set_->chains().current()->instances.size(), 2u) << "the others stay";
}

TEST_F(PluginSetTest, NoChainGoesWithoutOneOfItsGenerations) {
  Serve(1, "a");
  ASSERT_TRUE(Prepare(2, "b").ok());
  const absl::Status status = set_->CommitAll({1, 2, 3});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the generation with id 3 is not there"));
  EXPECT_EQ(set_->chains().current()->instances.size(), 1u) << "nothing has changed";
  EXPECT_TRUE(set_->CommitAll({1, 2}).ok()) << "what was prepared is still there";
  EXPECT_EQ(set_->chains().current()->instances.size(), 2u);
  set_->Commit({3});
  EXPECT_EQ(set_->chains().current()->instances.size(), 2u);
}

TEST_F(PluginSetTest, OneThatIsOverIsNotThereThoughItWasNotReaped) {
  Serve(1, "a");
  ASSERT_TRUE(Prepare(2, "b").ok());
  set_->Discard(2);
  EXPECT_FALSE(set_->CommitAll({1, 2}).ok());
}

TEST_F(PluginSetTest, OneThatIsPreparedAgainOutlivesTheInstanceBefore) {
  ASSERT_TRUE(Prepare(1, "a").ok());
  ASSERT_TRUE(Prepare(1, "a").ok());
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 1);
  EXPECT_TRUE(set_->CommitAll({1}).ok());
  EXPECT_EQ(set_->chains().current()->instances.size(), 1u);
  ASSERT_TRUE(Prepare(2, "b").ok());
  EXPECT_TRUE(set_->CommitAll({1, 2}).ok()) << "nor does a later chain go without it";
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 1);
  EXPECT_EQ(set_->chains().current()->instances.size(), 2u);
}

TEST_F(PluginSetTest, OneThatIsPreparedAgainWhileTheOneBeforeHasStreamsOutlivesIt) {
  Serve(1, "a");
  auto stream = set_->chains().current();
  ASSERT_TRUE(Prepare(1, "a").ok());
  set_->Commit({1});
  stream.reset();
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 1);
  EXPECT_TRUE(set_->CommitAll({1}).ok());
  EXPECT_EQ(set_->GetUsage().streams, (std::map<GenerationId, size_t>{{1, 0}}));
}

TEST_F(PluginSetTest, BytesLoadedBeforeAreNotLoadedAgain) {
  Serve(1, "a");
  Serve(2, "b");
  Serve(3, "a");
  EXPECT_EQ(loads_, 2);
  EXPECT_EQ(set_->GetUsage().mapped, 2u);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_generations_mapped 2\n"));
}

TEST_F(PluginSetTest, AFileThatDoesNotLoadIsAnErrorEachTime) {
  EXPECT_FALSE(Prepare(1, "broken").ok());
  EXPECT_FALSE(Prepare(2, "broken").ok());
  EXPECT_EQ(set_->GetUsage().mapped, 0u);
}

TEST_F(PluginSetTest, LoadsNoMoreFilesThanAllowed) {
  PluginSet::Options options;
  options.generations_max = 2;
  Make(std::move(options));
  Serve(1, "a");
  Serve(2, "b");
  const absl::Status status = Prepare(3, "c");
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("restart the host by draining it"));
  EXPECT_TRUE(Prepare(4, "a").ok()) << "what is loaded can be used again";
}

TEST_F(PluginSetTest, AFailingTrialIsTold) {
  PluginSet::Options options;
  options.guard = {.rate = 0.5, .calls = 4};
  Make(std::move(options));
  ASSERT_TRUE(Prepare(1, "a", /*on_trial=*/true).ok());
  set_->Commit({1});
  Instance& instance = *set_->chains().current()->instances.front();
  for (int i = 0; i < 2; ++i) {
    for (const Violation body_or_host :
         {Violation::kBodyTooLarge, Violation::kBodyLost, Violation::kEndlessBody,
          Violation::kDeferLimit, Violation::kOverload}) {
      instance.CountViolation(body_or_host, CALLOUT_REQUEST_BODY, "", {});
    }
    instance.CountViolation(Violation::kErrorStatus, CALLOUT_REQUEST_HEADERS, "", {});
  }
  EXPECT_THAT(set_->TakeFailedTrials(), IsEmpty());
  instance.CountViolation(Violation::kErrorStatus, CALLOUT_REQUEST_HEADERS, "", {});
  EXPECT_THAT(set_->TakeFailedTrials(), ElementsAre(1));
  EXPECT_THAT(set_->TakeFailedTrials(), IsEmpty());
}

TEST_F(PluginSetTest, ATrialGoesOnUntilItsCallsHaveEnded) {
  PluginSet::Options options;
  options.guard = {.rate = 0.5, .calls = 4};
  Make(std::move(options));
  for (const GenerationId id : {1, 2}) {
    ASSERT_TRUE(Prepare(id, "a", /*on_trial=*/true).ok());
    set_->Commit({id});
    Instance& instance = *set_->chains().current()->instances.front();
    const auto end_call = [&](bool fails, bool begun = true) {
      CallRecord record;
      record.phase = CALLOUT_REQUEST_HEADERS;
      record.begun = begun;
      if (fails) instance.CountViolation(Violation::kDeadline, record.phase, "", {});
      instance.CountCall(record);
    };
    for (int i = 0; i < 9; ++i) end_call(false, /*begun=*/false);
    end_call(false);
    if (id == 2) end_call(false);
    for (int i = 0; i < 3; ++i) end_call(true);
    if (id == 1) {
      EXPECT_THAT(set_->TakeFailedTrials(), ElementsAre(1));
    } else {
      EXPECT_THAT(set_->TakeFailedTrials(), IsEmpty()) << "the last is not part of it";
    }
  }
}

TEST_F(PluginSetTest, OneThatTakesNobodysPlaceIsOnNoTrial) {
  PluginSet::Options options;
  options.guard = {.rate = 0, .calls = 4};
  Make(std::move(options));
  Serve(1, "a");
  set_->chains().current()->instances.front()->CountViolation(Violation::kErrorStatus, 2, "", {});
  EXPECT_THAT(set_->TakeFailedTrials(), IsEmpty());
}

TEST_F(PluginSetTest, DestroysEveryInstanceAtItsEnd) {
  Serve(1, "a");
  ASSERT_TRUE(Prepare(2, "b").ok());
  set_.reset();
  for (const char* file : {"a", "b"}) {
    EXPECT_EQ(plugins_[file].destroyed, 1);
    EXPECT_EQ(plugins_[file].destroy_reason, callout_destroy_reason_t{CALLOUT_DESTROY_SHUTDOWN});
  }
}

// Of what was the case when it left, not when its last stream has ended.
TEST_F(PluginSetTest, AnInstanceIsToldWhyItLeaves) {
  const auto reason_of = [this](const char* file) {
    set_->Reap();
    EXPECT_EQ(plugins_[file].destroyed, 1) << file;
    return plugins_[file].destroy_reason;
  };
  Serve(1, "a");
  auto stream = set_->chains().current();
  Serve(2, "b");
  ASSERT_TRUE(PrepareAs(3, 1, "c").ok());  // the first generation again
  set_->Commit({3});
  EXPECT_EQ(reason_of("b"), callout_destroy_reason_t{CALLOUT_DESTROY_WITHDRAWN});
  ASSERT_TRUE(Prepare(4, "never").ok());
  set_->Commit({3});
  EXPECT_EQ(reason_of("never"), callout_destroy_reason_t{CALLOUT_DESTROY_WITHDRAWN});
  set_->Commit({});
  EXPECT_EQ(reason_of("c"), callout_destroy_reason_t{CALLOUT_DESTROY_REMOVED});
  stream.reset();
  EXPECT_EQ(reason_of("a"), callout_destroy_reason_t{CALLOUT_DESTROY_REPLACED});
}

TEST_F(PluginSetTest, AnInstanceWhoseTimerRunsIsDestroyedLaterAndDelaysNobody) {
  struct Gate {
    Notification begun, let_go;
  };
  static Gate* gate;  // hooks have no closure
  Gate here;
  gate = &here;
  plugins_["a"].create = [](callout_create_args_t* args) {
    const auto* timers =
        static_cast<const callout_timers_t*>(args->host->get_extension(args->host, CALLOUT_TIMERS));
    callout_timer_t timer = {};
    timer.struct_size = sizeof(timer);
    timer.run = [](void*) {
      gate->begun.Notify();
      gate->let_go.WaitForNotification();
    };
    uint64_t id = 0;
    EXPECT_EQ(timers->start(args->host, &timer, &id), CALLOUT_OK);
  };
  Serve(1, "a");
  here.begun.WaitForNotification();
  Serve(2, "b");
  Serve(3, "c");
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 0);
  EXPECT_EQ(plugins_["b"].destroyed, 1);
  EXPECT_EQ(set_->GetUsage().streams, (std::map<GenerationId, size_t>{{1, 0}, {3, 0}}));
  const int wakes = wakes_;
  here.let_go.Notify();
  while (wakes_ == wakes) std::this_thread::yield();
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 1);
  EXPECT_EQ(set_->GetUsage().streams, (std::map<GenerationId, size_t>{{3, 0}}));
}

// Both have the same id. The end of one must not be taken for that of the other.
TEST_F(PluginSetTest, AnInstanceWhoseTimerRunsIsKeptThoughAnotherOfItsIdEnds) {
  struct Gate {
    Notification begun, let_go;
    bool timed = false;
  };
  static Gate* gate;  // hooks have no closure
  Gate here;
  gate = &here;
  plugins_["a"].create = [](callout_create_args_t* args) {
    if (std::exchange(gate->timed, true)) return;
    const auto* timers =
        static_cast<const callout_timers_t*>(args->host->get_extension(args->host, CALLOUT_TIMERS));
    callout_timer_t timer = {};
    timer.struct_size = sizeof(timer);
    timer.run = [](void*) {
      gate->begun.Notify();
      gate->let_go.WaitForNotification();
    };
    uint64_t id = 0;
    EXPECT_EQ(timers->start(args->host, &timer, &id), CALLOUT_OK);
  };
  ASSERT_TRUE(Prepare(1, "a").ok());
  here.begun.WaitForNotification();
  ASSERT_TRUE(Prepare(1, "a").ok());
  ASSERT_TRUE(Prepare(1, "a").ok());
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 1) << "the second";
  const int wakes = wakes_;
  here.let_go.Notify();
  while (wakes_ == wakes) std::this_thread::yield();
  set_->Reap();
  EXPECT_EQ(plugins_["a"].destroyed, 2);
  EXPECT_TRUE(set_->CommitAll({1}).ok()) << "the third serves";
}

TEST_F(PluginSetTest, TheEndOfTheSetWaitsForATimer) {
  static Notification* begun;
  Notification here;
  begun = &here;
  plugins_["a"].create = [](callout_create_args_t* args) {
    const auto* timers =
        static_cast<const callout_timers_t*>(args->host->get_extension(args->host, CALLOUT_TIMERS));
    callout_timer_t timer = {};
    timer.struct_size = sizeof(timer);
    timer.run = [](void*) {
      begun->Notify();
      for (int i = 0; i < 10; ++i) std::this_thread::yield();
    };
    uint64_t id = 0;
    EXPECT_EQ(timers->start(args->host, &timer, &id), CALLOUT_OK);
  };
  Serve(1, "a");
  here.WaitForNotification();
  Serve(2, "b");
  set_->Reap();  // may find the timer running
  set_.reset();
  EXPECT_EQ(plugins_["a"].destroyed, 1);
  EXPECT_EQ(plugins_["b"].destroyed, 1);
}

// For ThreadSanitizer and AddressSanitizer: streams start and cancel timers and use shared data
// while generations come and go.
TEST_F(PluginSetTest, GenerationsComeAndGoInTheMiddleOfTimersAndCalls) {
  constexpr int kGenerations = 30, kStreams = 500, kThreads = 2;
  static std::atomic<int> released;
  released = 0;
  plugins_["a"].phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  std::atomic<int> started{0};
  const auto start = [&](const callout_host_t* host, uint64_t delay_ns, uint64_t period_ns) {
    const auto* timers =
        static_cast<const callout_timers_t*>(host->get_extension(host, CALLOUT_TIMERS));
    callout_timer_t timer = {};
    timer.struct_size = sizeof(timer);
    timer.run = [](void*) {};
    timer.release = [](void*) { ++released; };
    timer.delay_ns = delay_ns;
    timer.period_ns = period_ns;
    uint64_t id = 0;
    EXPECT_EQ(timers->start(host, &timer, &id), CALLOUT_OK);
    ++started;
    if (id % 3 == 0) timers->cancel(host, id);
  };
  plugins_["a"].create = [&](callout_create_args_t* args) {
    start(args->host, 0, CALLOUT_TIMER_PERIOD_MIN_NS);
    start(args->host, CALLOUT_TIMER_NS_MAX, 0);
  };
  Serve(1, "a");
  const auto add = [](const callout_host_t* host, int64_t amount) {
    const auto* data =
        static_cast<const callout_shared_data_t*>(host->get_extension(host, CALLOUT_SHARED_DATA));
    int64_t sum = 0;
    EXPECT_EQ(data->add(host, {}, ToBytes("streams"), amount, 0, &sum), CALLOUT_OK);
    return sum;
  };
  std::vector<std::thread> streams;
  for (int t = 0; t < kThreads; ++t) {
    streams.emplace_back([&] {
      for (int i = 0; i < kStreams; ++i) {
        const std::shared_ptr<const Chain> chain = set_->chains().current();
        callout_call_t call = {};
        chain->instances.at(0)->Prepare(&call);
        start(call.host, i % 2 == 0 ? 0 : 1'000'000, 0);
        add(call.host, 1);
      }
    });
  }
  for (GenerationId id = 2; id <= kGenerations; ++id) {
    Serve(id, "a");
    set_->Reap();
  }
  for (std::thread& stream : streams) stream.join();
  callout_call_t call = {};
  set_->chains().current()->instances.at(0)->Prepare(&call);
  EXPECT_EQ(add(call.host, 0), kStreams * kThreads) << "the data outlives each generation";
  set_.reset();
  EXPECT_EQ(plugins_["a"].destroyed, kGenerations);
  EXPECT_EQ(released, started);
}

}  // namespace
}  // namespace callout::host
