// SPDX-License-Identifier: Apache-2.0

#include "host/stream/live_count.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace callout::host {
namespace {

size_t AddAll(LiveCount* count) {
  size_t added = 0;
  while (count->Add()) ++added;
  return added;
}

TEST(LiveCount, ThreadsShareThePlacesOfASmallLimitToTheLast) {
  LiveLimit limit(3);
  LiveCount one(&limit), other(&limit);
  EXPECT_TRUE(one.Add());
  EXPECT_TRUE(one.Add());
  EXPECT_TRUE(other.Add());
  EXPECT_FALSE(one.Add());
  EXPECT_FALSE(other.Add());
  EXPECT_EQ(one.live(), 2U);
  EXPECT_EQ(other.live(), 1U) << "what was refused is not counted";
  one.Remove();
  EXPECT_TRUE(other.Add()) << "a place that one has left is another's";
  EXPECT_FALSE(one.Add());
}

TEST(LiveCount, OfALargeLimitAThreadKeepsLittleUnused) {
  LiveLimit limit(1000000);
  LiveCount one(&limit), other(&limit);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(one.Add());
  for (int i = 0; i < 1000; ++i) one.Remove();
  EXPECT_GE(AddAll(&other), 1000000U - 1000000 / 2048);
  EXPECT_EQ(AddAll(&one) + other.live(), 1000000U) << "and no place is lost";
}

TEST(LiveCount, ACountThatGoesLeavesItsPlaces) {
  LiveLimit limit(10000);
  {
    LiveCount gone(&limit);
    ASSERT_TRUE(gone.Add());
    gone.Remove();
  }
  LiveCount count(&limit);
  EXPECT_EQ(AddAll(&count), 10000U);
}

TEST(LiveCount, TheLimitHoldsWhileThreadsCompete) {
  constexpr size_t kMax = 20000;
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  LiveLimit limit(kMax);
  std::atomic<size_t> live{0}, most{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      std::minstd_rand random(seed + i);
      LiveCount count(&limit);
      for (int step = 0; step < 100000; ++step) {
        if (random() % 3 != 0) {
          if (!count.Add()) continue;
          const size_t now = live.fetch_add(1) + 1;
          if (now > most) most = now;
        } else if (count.live() > 0) {
          live.fetch_sub(1);
          count.Remove();
        }
      }
      live.fetch_sub(count.live());
      while (count.live() > 0) count.Remove();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, kMax);
  EXPECT_GT(most, kMax / 2) << "they have competed";
  EXPECT_EQ(limit.Take(2 * kMax), kMax);
}

}  // namespace
}  // namespace callout::host
