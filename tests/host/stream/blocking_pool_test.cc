#include "host/stream/blocking_pool.h"

#include <gtest/gtest.h>

#include <latch>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>

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

}  // namespace
}  // namespace callout::host
