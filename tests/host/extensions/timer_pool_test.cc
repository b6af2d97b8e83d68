// SPDX-License-Identifier: Apache-2.0

#include "host/extensions/timer_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "host/base/thread.h"
#include "tests/host/notification.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kHourNs = 3'600'000'000'000;

// What a timer does, and how often it was released.
struct Work {
  std::function<void()> run = [] {};
  std::function<void()> on_release = [] {};
  std::atomic<int> runs{0}, releases{0};

  static void Run(void* data) {
    auto* work = static_cast<Work*>(data);
    ++work->runs;
    work->run();
  }
  static void Release(void* data) {
    auto* work = static_cast<Work*>(data);
    ++work->releases;
    work->on_release();
  }
  callout_timer_t Timer(uint64_t delay_ns = 0, uint64_t period_ns = 0) {
    return {sizeof(callout_timer_t), 0, Run, Release, this, delay_ns, period_ns};
  }
};

class TimerPoolTest : public ::testing::Test {
 protected:
  void MakePool(TimerPool::Options options) {
    pool_ = std::make_unique<TimerPool>(options, &metrics_);
  }
  std::unique_ptr<TimerSet> MakeSet(const std::string& name, size_t timers_max = 100) {
    if (pool_ == nullptr) MakePool({});
    return std::make_unique<TimerSet>(
        pool_.get(),
        TimerSet::Options{.name = name,
                          .timers_max = timers_max,
                          .call = [](void (*function)(void*), void* data) { function(data); }});
  }
  static uint64_t Start(TimerSet* set, const callout_timer_t& timer) {
    uint64_t id = 0;
    EXPECT_EQ(set->Start(timer, &id), CALLOUT_OK);
    EXPECT_NE(id, 0u);
    return id;
  }

  Metrics metrics_;
  std::unique_ptr<TimerPool> pool_;
};

TEST_F(TimerPoolTest, RunsTheTimersOfASetInOrderOnceItIsOpen) {
  const auto set = MakeSet("p");
  std::vector<int> order;  // one after the other
  Notification last;
  Work third, second, first;
  third.run = [&] { order.push_back(3); };
  third.on_release = [&] { last.Notify(); };
  second.run = [&] { order.push_back(2); };
  first.run = [&] { order.push_back(1); };
  Start(set.get(), third.Timer(2'000'000));
  Start(set.get(), second.Timer(1'000'000));
  Start(set.get(), first.Timer());
  EXPECT_EQ(first.runs, 0) << "it is not open";
  set->Open();
  last.WaitForNotification();
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST_F(TimerPoolTest, RepeatsATimerWithAPeriodUntilItIsCancelled) {
  const auto set = MakeSet("p");
  set->Open();
  Notification thrice, released;
  Work work;
  std::atomic<uint64_t> id{0};
  std::atomic<callout_status_t> cancelled{CALLOUT_OK};
  work.run = [&] {
    if (work.runs < 3) return;
    while (id == 0) std::this_thread::yield();
    cancelled = set->Cancel(id);
    thrice.Notify();
  };
  work.on_release = [&] { released.Notify(); };
  id = Start(set.get(), work.Timer(0, CALLOUT_TIMER_PERIOD_MIN_NS));
  thrice.WaitForNotification();
  released.WaitForNotification();
  EXPECT_EQ(cancelled, CALLOUT_ABORTED) << "it was running";
  EXPECT_EQ(work.runs, 3);
  EXPECT_EQ(work.releases, 1);
  EXPECT_EQ(set->Cancel(id), CALLOUT_NOT_FOUND);
}

TEST_F(TimerPoolTest, CancelsATimerThatWaits) {
  const auto set = MakeSet("p");
  set->Open();
  Work work;
  const uint64_t id = Start(set.get(), work.Timer(kHourNs));
  EXPECT_EQ(set->Cancel(id), CALLOUT_OK);
  EXPECT_EQ(work.releases, 1);
  EXPECT_EQ(work.runs, 0);
  EXPECT_EQ(set->Cancel(id), CALLOUT_NOT_FOUND);
  EXPECT_EQ(set->Cancel(0), CALLOUT_NOT_FOUND);
}

TEST_F(TimerPoolTest, ASlowTimerDelaysThoseOfItsSetOnly) {
  MakePool({.threads_max = 2});
  const auto slow_set = MakeSet("slow");
  const auto other_set = MakeSet("other");
  Notification begun, let_go, other_ran, behind_ran;
  Work slow, behind, other;
  slow.run = [&] {
    begun.Notify();
    let_go.WaitForNotification();
  };
  behind.run = [&] { behind_ran.Notify(); };
  other.run = [&] { other_ran.Notify(); };
  slow_set->Open();
  other_set->Open();
  Start(slow_set.get(), slow.Timer());
  begun.WaitForNotification();
  Start(slow_set.get(), behind.Timer());
  Start(other_set.get(), other.Timer());
  other_ran.WaitForNotification();
  EXPECT_EQ(behind.runs, 0);
  let_go.Notify();
  behind_ran.WaitForNotification();
}

TEST_F(TimerPoolTest, ClosingReleasesWhatWaitsAndTellsWhenTheOneThatRunsHasReturned) {
  auto set = MakeSet("p");
  set->Open();
  Notification begun, let_go, idle;
  Work running, waiting;
  running.run = [&] {
    begun.Notify();
    let_go.WaitForNotification();
  };
  Start(set.get(), running.Timer(0, CALLOUT_TIMER_PERIOD_MIN_NS));
  begun.WaitForNotification();
  Start(set.get(), waiting.Timer(kHourNs));
  EXPECT_FALSE(set->Close([&] { idle.Notify(); }));
  EXPECT_EQ(waiting.releases, 1);
  uint64_t id = 0;
  EXPECT_EQ(set->Start(waiting.Timer(), &id), CALLOUT_FAILED_PRECONDITION);
  EXPECT_FALSE(idle.HasBeenNotified());
  let_go.Notify();
  idle.WaitForNotification();
  EXPECT_TRUE(set->Close(nullptr));
  EXPECT_EQ(running.runs, 1) << "its period ends with the set";
  EXPECT_EQ(running.releases, 1);
}

TEST_F(TimerPoolTest, TheDestructorWaitsForATimerThatRuns) {
  auto set = MakeSet("p");
  set->Open();
  Notification begun;
  std::atomic<bool> over{false};
  Work work;
  work.run = [&] {
    begun.Notify();
    for (int i = 0; i < 10; ++i) std::this_thread::yield();
  };
  work.on_release = [&] { over = true; };
  Start(set.get(), work.Timer());
  begun.WaitForNotification();
  set.reset();
  EXPECT_TRUE(over);
}

// The timer of a set that is not open yet has its thread, until another set takes that.
TEST_F(TimerPoolTest, OpensASetWhileATimerOfAnotherHangs) {
  const auto hanging = MakeSet("hanging"), set = MakeSet("p");
  hanging->Open();
  Notification begun, let_go, ran;
  Work hangs, work;
  hangs.run = [&] {
    begun.Notify();
    let_go.WaitForNotification();
  };
  work.run = [&] { ran.Notify(); };
  Start(set.get(), work.Timer());
  Start(hanging.get(), hangs.Timer());
  begun.WaitForNotification();
  set->Open();
  ran.WaitForNotification();
  let_go.Notify();
}

TEST_F(TimerPoolTest, StopsForTheEndOfTheProcessUnlessATimerHangs) {
  const auto set = MakeSet("p");
  set->Open();
  Notification begun, let_go;
  Work hangs, later;
  hangs.run = [&] {
    begun.Notify();
    let_go.WaitForNotification();
  };
  Start(set.get(), hangs.Timer());
  begun.WaitForNotification();
  Start(set.get(), later.Timer());
  EXPECT_FALSE(pool_->Stop(1));
  let_go.Notify();
  EXPECT_TRUE(pool_->Stop(60'000));
  EXPECT_EQ(later.runs, 0);
}

TEST_F(TimerPoolTest, RunsNothingWherePluginsAreOnlyChecked) {
  MakePool({.runs = false});
  const FailThreadsForTest no_threads;
  Work work;
  {
    const auto set = MakeSet("p");
    set->Open();
    Start(set.get(), work.Timer());
    EXPECT_TRUE(set->Close(nullptr));
  }
  EXPECT_EQ(work.runs, 0);
  EXPECT_EQ(work.releases, 1);
}

TEST_F(TimerPoolTest, RefusesWhatIsOverItsLimits) {
  const auto set = MakeSet("p", 2);
  Work work;
  uint64_t id = 0;
  for (const callout_timer_t& wrong :
       {work.Timer(CALLOUT_TIMER_NS_MAX + 1), work.Timer(0, CALLOUT_TIMER_PERIOD_MIN_NS - 1),
        work.Timer(0, CALLOUT_TIMER_NS_MAX + 1),
        callout_timer_t{sizeof(callout_timer_t), 0, nullptr, nullptr, nullptr, 0, 0},
        callout_timer_t{8, 0, Work::Run, nullptr, &work, 0, 0}}) {
    EXPECT_EQ(set->Start(wrong, &id), CALLOUT_INVALID_ARGUMENT);
  }
  Start(set.get(), work.Timer(CALLOUT_TIMER_NS_MAX, CALLOUT_TIMER_NS_MAX));
  Start(set.get(), work.Timer(kHourNs));
  EXPECT_EQ(set->Start(work.Timer(), &id), CALLOUT_RESOURCE_EXHAUSTED);
  const std::string text = metrics_.Text();
  EXPECT_THAT(text, HasSubstr("callout_timers{plugin=\"p\"} 2"));
  EXPECT_THAT(text, HasSubstr("callout_timers_refused_total{plugin=\"p\"} 6"));
  EXPECT_EQ(work.releases, 0) << "what was not started is not released";
}

TEST_F(TimerPoolTest, NamesWhatIsWrongWithATimer) {
  Work work;
  const std::vector<std::pair<callout_timer_t, std::string>> cases = {
      {work.Timer(CALLOUT_TIMER_NS_MAX + 1), "its delay is 31536000000000001 ns, the limit is"},
      {work.Timer(0, CALLOUT_TIMER_PERIOD_MIN_NS - 1), "its period is 999999 ns, expected 0 or "},
      {work.Timer(0, CALLOUT_TIMER_NS_MAX + 1), "its period is 31536000000000001 ns, expected 0"},
      {callout_timer_t{sizeof(callout_timer_t), 0, nullptr, nullptr, nullptr, 0, 0},
       "it has no function to run"},
      {callout_timer_t{8, 0, Work::Run, nullptr, &work, 0, 0},
       "its struct_size is 8; set it to sizeof(callout_timer_t)"},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    // The log has such a line once a minute for each plugin.
    const auto set = MakeSet("wrong" + std::to_string(i));
    uint64_t id = 0;
    testing::internal::CaptureStderr();
    EXPECT_EQ(set->Start(cases[i].first, &id), CALLOUT_INVALID_ARGUMENT);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(cases[i].second));
  }
}

TEST_F(TimerPoolTest, SaysSoIfNoThreadCanBeStarted) {
  const auto set = MakeSet("p");
  Work work;
  uint64_t id = 0;
  {
    const FailThreadsForTest no_threads;
    EXPECT_EQ(set->Start(work.Timer(), &id), CALLOUT_UNAVAILABLE);
  }
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_timers{plugin=\"p\"} 0"));
}

// For ThreadSanitizer: sets that come and go while their timers run, start others and are
// cancelled.
TEST_F(TimerPoolTest, ManySetsComeAndGo) {
  constexpr int kThreads = 4, kRounds = 50, kTimers = 20;
  MakePool({.threads_max = 3});
  std::atomic<int> started{0}, released{0};
  struct Counted {
    std::atomic<int>* released;
    static void Run(void*) {}
    static void Release(void* data) { ++*static_cast<Counted*>(data)->released; }
  } counted{&released};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        const auto set = MakeSet("p" + std::to_string(t));
        set->Open();
        for (int i = 0; i < kTimers; ++i) {
          const uint64_t delay_ns = i % 3 == 0 ? kHourNs : static_cast<uint64_t>(i) * 1000;
          const uint64_t period_ns = i % 2 == 0 ? CALLOUT_TIMER_PERIOD_MIN_NS : 0;
          const callout_timer_t timer = {sizeof(timer), 0,        Counted::Run, Counted::Release,
                                         &counted,      delay_ns, period_ns};
          const uint64_t id = Start(set.get(), timer);
          ++started;
          if (i % 4 == 0) set->Cancel(id);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(started, kThreads * kRounds * kTimers);
  EXPECT_EQ(released, started);
}

}  // namespace
}  // namespace callout::host
