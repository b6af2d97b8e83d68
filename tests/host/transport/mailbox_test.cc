// SPDX-License-Identifier: Apache-2.0

#include "host/transport/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "host/transport/drain_poll.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Mailbox, WakesForTheFirstItemOnly) {
  int wakes = 0;
  Mailbox<int> mailbox([&] { ++wakes; });
  EXPECT_THAT(mailbox.Take(), IsEmpty());
  mailbox.Put(1);
  mailbox.Put(2);
  EXPECT_EQ(wakes, 1);
  EXPECT_THAT(mailbox.Take(), ElementsAre(1, 2));
  EXPECT_THAT(mailbox.Take(), IsEmpty());
  mailbox.Put(3);
  EXPECT_EQ(wakes, 2);
  EXPECT_THAT(mailbox.Take(), ElementsAre(3));
}

TEST(Mailbox, TakesWhatCannotBeCopied) {
  Mailbox<std::unique_ptr<int>> mailbox([] {});
  mailbox.Put(std::make_unique<int>(7));
  EXPECT_EQ(*mailbox.Take().front(), 7);
}

// Whoever takes only when woken gets all of it, each thread's in its order.
TEST(Mailbox, LosesNothingOfManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kItems = 2000;
  struct Item {
    int thread, number;
  };
  std::atomic<int> wakes{0};
  Mailbox<Item> mailbox([&] {
    wakes.fetch_add(1);
    wakes.notify_one();
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < kItems; ++n) mailbox.Put({i, n});
    });
  }
  std::vector<int> next(kThreads);
  for (int taken = 0, seen = 0; taken < kThreads * kItems;) {
    wakes.wait(seen);
    seen = wakes.load();
    for (const Item& item : mailbox.Take()) {
      EXPECT_EQ(item.number, next[static_cast<size_t>(item.thread)]++);
      ++taken;
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(mailbox.Take(), IsEmpty());
}

TEST(PollUntil, ReturnsWhenItIsDone) {
  int asked = 0;
  EXPECT_TRUE(PollUntil(60000, [&] { return ++asked == 3; }));
  EXPECT_EQ(asked, 3);
}

TEST(PollUntil, AsksOnceWithoutTimeAndGivesUpInTime) {
  EXPECT_TRUE(PollUntil(0, [] { return true; }));
  EXPECT_FALSE(PollUntil(0, [] { return false; }));
  EXPECT_FALSE(PollUntil(3, [] { return false; }));
}

}  // namespace
}  // namespace callout::host
