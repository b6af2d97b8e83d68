// SPDX-License-Identifier: Apache-2.0

#include "host/stream/blocking_pool.h"

#include <gtest/gtest.h>

#include <latch>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "host/base/clock.h"
#include "host/base/thread.h"
#include "tests/host/notification.h"

namespace callout::host {
namespace {

TEST(BlockingPool, RunsEveryJobBeforeItIsGone) {
  Metrics metrics;
  std::atomic<int> ran{0};
  {
    BlockingPool pool(4, &metrics);
    for (int i = 0; i < 1000; ++i) pool.Submit([&] { ++ran; });
  }
  EXPECT_EQ(ran, 1000);
}

TEST(BlockingPool, OneThreadRunsJobsInTheirOrder) {
  Metrics metrics;
  std::vector<int> order;
  {
    BlockingPool pool(1, &metrics);
    for (int i = 0; i < 100; ++i) pool.Submit([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(BlockingPool, RunsAsManyJobsAtOnceAsItHasThreads) {
  Metrics metrics;
  BlockingPool pool(3, &metrics);
  std::latch running(3);
  Notification go_on;
  for (int i = 0; i < 3; ++i) {
    pool.Submit([&] {
      running.count_down();
      go_on.WaitForNotification();
    });
  }
  running.wait();  // would wait for ever with fewer threads
  go_on.Notify();
}

TEST(BlockingPool, UsesNoMoreThreadsThanItMay) {
  Metrics metrics;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  {
    BlockingPool pool(2, &metrics);
    for (int i = 0; i < 200; ++i) {
      pool.Submit([&] {
        std::lock_guard<std::mutex> lock(mutex);
        threads.insert(std::this_thread::get_id());
      });
    }
  }
  EXPECT_LE(threads.size(), 2u);
}

TEST(BlockingPool, NoThreadsMeansOne) {
  Metrics metrics;
  Notification ran;
  BlockingPool pool(0, &metrics);
  pool.Submit([&] { ran.Notify(); });
  ran.WaitForNotification();
}

TEST(BlockingPool, JobsMaySubmitJobs) {
  Metrics metrics;
  Notification ran;
  BlockingPool pool(1, &metrics);
  pool.Submit([&] { pool.Submit([&] { ran.Notify(); }); });
  ran.WaitForNotification();
}

TEST(BlockingPool, LetsGoOfAJobBeforeItIsDoneWithIt) {
  Metrics metrics;
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = held;
  Notification ran;
  BlockingPool pool(1, &metrics);
  pool.Submit([held = std::move(held)] {});
  pool.Submit([&] { ran.Notify(); });
  ran.WaitForNotification();
  EXPECT_TRUE(watch.expired());
}

TEST(BlockingPool, CountsJobsThatWaitAndThatRun) {
  Metrics metrics;
  Notification started, go_on;
  {
    BlockingPool pool(1, &metrics);
    pool.Submit([&] {
      started.Notify();
      go_on.WaitForNotification();
    });
    started.WaitForNotification();
    pool.Submit([] {});
    const std::string text = metrics.Text();
    EXPECT_NE(text.find("callout_blocking_jobs{state=\"running\"} 1"), std::string::npos) << text;
    EXPECT_NE(text.find("callout_blocking_jobs{state=\"waiting\"} 1"), std::string::npos) << text;
    go_on.Notify();
  }
  const std::string text = metrics.Text();
  EXPECT_NE(text.find("callout_blocking_jobs{state=\"running\"} 0"), std::string::npos) << text;
  EXPECT_NE(text.find("callout_blocking_jobs{state=\"waiting\"} 0"), std::string::npos) << text;
}

// --- Calls that have to be done in time ---

constexpr uint64_t kSecondNs = 1'000'000'000;

// Holds the only thread of a pool until told otherwise.
class Occupied {
 public:
  explicit Occupied(BlockingPool* pool) {
    pool->Submit([this] {
      begun_.Notify();
      end_.WaitForNotification();
    });
    begun_.WaitForNotification();
  }
  void End() { end_.Notify(); }

 private:
  Notification begun_, end_;
};

TEST(BlockingPool, ACallThatCannotBeDoneInTimeIsRefused) {
  Metrics metrics;
  BlockingPool pool(1, &metrics);
  Occupied occupied(&pool);
  MovingMean usual;
  usual.Add(100 * kSecondNs);
  const auto never = [](bool) { ADD_FAILURE() << "run though it was refused"; };
  EXPECT_FALSE(pool.SubmitCall(never, &usual, MonotonicNs() + 100 * kSecondNs));
  std::atomic<int> in_time{0};
  const auto count = [&](bool begun) { in_time += begun ? 1 : 0; };
  EXPECT_TRUE(pool.SubmitCall(count, &usual, MonotonicNs() + 250 * kSecondNs));
  EXPECT_FALSE(pool.SubmitCall(never, &usual, MonotonicNs() + 210 * kSecondNs))
      << "there is another before it";
  Notification done;
  EXPECT_TRUE(pool.SubmitCall([&](bool begun) { count(begun), done.Notify(); }, &usual,
                              MonotonicNs() + 400 * kSecondNs));
  occupied.End();
  done.WaitForNotification();
  EXPECT_EQ(in_time, 2);
}

TEST(BlockingPool, ACallWhoseTimeBecameTooShortInTheQueueIsDroppedUnbegun) {
  Metrics metrics;
  BlockingPool pool(1, &metrics);
  Occupied occupied(&pool);
  MovingMean usual;  // nothing is known of the kind when it is queued
  Notification done;
  bool in_time = true;
  ASSERT_TRUE(pool.SubmitCall(
      [&](bool begun) {
        in_time = begun;
        done.Notify();
      },
      &usual, MonotonicNs() + 100 * kSecondNs));
  usual.Add(200 * kSecondNs);
  occupied.End();
  done.WaitForNotification();
  EXPECT_FALSE(in_time);
}

TEST(BlockingPool, WhileAThreadIsFreeEveryCallIsBegunHoweverLongItsKindTakes) {
  Metrics metrics;
  BlockingPool pool(1, &metrics);
  MovingMean usual;
  usual.Add(3600 * kSecondNs);
  Notification done;
  ASSERT_TRUE(pool.SubmitCall(
      [&](bool begun) {
        EXPECT_TRUE(begun);
        done.Notify();
      },
      &usual, MonotonicNs() + 100 * kSecondNs));
  done.WaitForNotification();
}

TEST(BlockingPool, QueueTimeIsAMetricOfItsOwn) {
  Metrics metrics;
  {
    BlockingPool pool(1, &metrics);
    MovingMean usual;
    pool.SubmitCall([](bool) {}, &usual, MonotonicNs() + 100 * kSecondNs);
    pool.Submit([] {});
  }
  EXPECT_NE(metrics.Text().find("callout_queue_seconds_count 1\n"), std::string::npos);
}

TEST(BlockingPool, WithoutAThreadCallsAreRefusedAndTheRestIsDoneByTheCaller) {
  Metrics metrics;
  BlockingPool pool(2, &metrics);
  const MovingMean usual;
  {
    const FailThreadsForTest fail;
    EXPECT_FALSE(
        pool.SubmitCall([](bool) { ADD_FAILURE(); }, &usual, MonotonicNs() + 100 * kSecondNs));
    std::thread::id ran;
    pool.Submit([&ran] { ran = std::this_thread::get_id(); });
    EXPECT_EQ(ran, std::this_thread::get_id());
  }
}

}  // namespace
}  // namespace callout::host
