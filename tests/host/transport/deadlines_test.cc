// SPDX-License-Identifier: Apache-2.0

#include "host/transport/deadlines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Timed {
  explicit Timed(int name) : name(name) {}
  const int name;
  uint64_t due_ns = 0;
  TimeoutQueue<Timed>::Entry wait{this};
};

class DeadlinesTest : public testing::Test {
 protected:
  void Move(Timed* timed, uint64_t new_ns) {
    deadlines_.Move(timed, timed->due_ns, new_ns);
    timed->due_ns = new_ns;
  }
  // The names of those whose deadline has come, which have none after it.
  std::vector<int> Take(uint64_t now_ns) {
    std::vector<int> due;
    deadlines_.TakeDue(now_ns, [&](Timed* timed) {
      due.push_back(timed->name);
      Move(timed, 0);
    });
    return due;
  }

  Deadlines<Timed> deadlines_;
  Timed one_{1}, two_{2}, three_{3};
};

TEST_F(DeadlinesTest, AreTakenEarliestFirstAndNotBeforeTheirTime) {
  EXPECT_EQ(deadlines_.next_ns(), 0u);
  Move(&one_, 300);
  Move(&two_, 100);
  Move(&three_, 200);
  EXPECT_EQ(deadlines_.next_ns(), 100u);
  EXPECT_THAT(Take(99), IsEmpty());
  EXPECT_THAT(Take(200), ElementsAre(2, 3));
  EXPECT_EQ(deadlines_.next_ns(), 300u);
  EXPECT_THAT(Take(300), ElementsAre(1));
  EXPECT_EQ(deadlines_.next_ns(), 0u);
}

TEST_F(DeadlinesTest, AMoveReplacesTheOneBefore) {
  Move(&one_, 100);
  Move(&one_, 500);
  EXPECT_EQ(deadlines_.next_ns(), 500u);
  Move(&one_, 0);
  EXPECT_EQ(deadlines_.next_ns(), 0u);
}

TEST_F(DeadlinesTest, TwoMayHaveTheSame) {
  Move(&one_, 100);
  Move(&two_, 100);
  EXPECT_EQ(Take(100).size(), 2u);
}

TEST_F(DeadlinesTest, OneThatIsDueMayMoveAnother) {
  Move(&one_, 100);
  Move(&two_, 100);
  std::vector<int> due;
  deadlines_.TakeDue(100, [&](Timed* timed) {
    due.push_back(timed->name);
    Move(&one_, 0);
    Move(&two_, 0);
  });
  EXPECT_EQ(due.size(), 1u);
}

TEST(EarlierDeadline, ZeroIsNever) {
  EXPECT_EQ(EarlierDeadline(0, 0), 0u);
  EXPECT_EQ(EarlierDeadline(5, 0), 5u);
  EXPECT_EQ(EarlierDeadline(0, 7), 7u);
  EXPECT_EQ(EarlierDeadline(5, 7), 5u);
  EXPECT_EQ(EarlierDeadline(7, 5), 5u);
}

std::vector<int> TakeDue(TimeoutQueue<Timed>* queue, uint64_t now_ns) {
  std::vector<int> due;
  queue->TakeDue(now_ns, [&](Timed* timed) { due.push_back(timed->name); });
  return due;
}

TEST(TimeoutQueue, EndsWaitsInTheOrderOfTheirBeginnings) {
  Timed one(1), two(2), three(3);
  TimeoutQueue<Timed> queue(100);
  EXPECT_EQ(queue.next_ns(), 0u);
  queue.Start(&one.wait, 1000);
  queue.Start(&two.wait, 1010);
  queue.Start(&three.wait, 1020);
  EXPECT_EQ(queue.next_ns(), 1100u);
  EXPECT_THAT(TakeDue(&queue, 1099), IsEmpty());
  EXPECT_THAT(TakeDue(&queue, 1110), ElementsAre(1, 2));
  EXPECT_FALSE(one.wait.waits());
  EXPECT_TRUE(three.wait.waits());
  EXPECT_EQ(queue.next_ns(), 1120u);
}

TEST(TimeoutQueue, AWaitThatBeginsAnewGoesToTheEnd) {
  Timed one(1), two(2);
  TimeoutQueue<Timed> queue(100);
  queue.Start(&one.wait, 1000);
  queue.Start(&two.wait, 1010);
  queue.Start(&one.wait, 1050);
  EXPECT_THAT(TakeDue(&queue, 1110), ElementsAre(2));
  EXPECT_THAT(TakeDue(&queue, 1150), ElementsAre(1));
}

TEST(TimeoutQueue, AStoppedOrDestroyedWaitNeverEnds) {
  TimeoutQueue<Timed> queue(100);
  Timed one(1);
  auto two = std::make_unique<Timed>(2);
  queue.Start(&one.wait, 1000);
  queue.Start(&two->wait, 1000);
  TimeoutQueue<Timed>::Stop(&one.wait);
  TimeoutQueue<Timed>::Stop(&one.wait);  // harmless
  two.reset();
  EXPECT_EQ(queue.next_ns(), 0u);
  EXPECT_THAT(TakeDue(&queue, UINT64_MAX), IsEmpty());
}

TEST(TimeoutQueue, MovesFromOneQueueToAnother) {
  Timed one(1);
  TimeoutQueue<Timed> shorter(100), longer(1000);
  shorter.Start(&one.wait, 5000);
  longer.Start(&one.wait, 5000);
  EXPECT_EQ(shorter.next_ns(), 0u);
  EXPECT_EQ(longer.next_ns(), 6000u);
}

TEST(TimeoutQueue, WithoutATimeItOnlyKeepsTheList) {
  Timed one(1);
  auto two = std::make_unique<Timed>(2);
  TimeoutQueue<Timed> queue(0);
  queue.Start(&one.wait, 5000);
  queue.Start(&two->wait, 5000);
  EXPECT_EQ(queue.next_ns(), 0u);
  EXPECT_THAT(TakeDue(&queue, UINT64_MAX), IsEmpty());
  std::vector<int> seen;
  queue.ForEach([&](Timed* timed) {
    seen.push_back(timed->name);
    if (timed == two.get()) two.reset();
  });
  EXPECT_THAT(seen, ElementsAre(1, 2));
  seen.clear();
  queue.ForEach([&](Timed* timed) { seen.push_back(timed->name); });
  EXPECT_THAT(seen, ElementsAre(1));
}

}  // namespace
}  // namespace callout::host
