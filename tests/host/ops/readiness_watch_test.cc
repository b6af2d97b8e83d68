// SPDX-License-Identifier: Apache-2.0

#include "host/ops/readiness_watch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

namespace callout::host {
namespace {

class Told {
 public:
  void Add(bool ready) {
    std::lock_guard<std::mutex> lock(mutex_);
    told_.push_back(ready);
    changed_.notify_all();
  }
  std::vector<bool> Await(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return told_.size() >= count; });
    return told_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> told_;
};

TEST(ReadinessWatch, TellsOnceAtTheStartAndOnceForEachChange) {
  std::atomic<bool> ready{false};
  std::atomic<int> asked{0};
  Told told;
  auto watch = ReadinessWatch::Start(
      [&] {
        ++asked;
        return ready.load();
      },
      [&](bool now) { told.Add(now); });
  ASSERT_TRUE(watch.ok()) << watch.status();
  EXPECT_EQ(told.Await(1), std::vector<bool>{false});
  const int before = asked;
  while (asked < before + 2) {  // it has looked, and nothing was new
  }
  EXPECT_EQ(told.Await(1), std::vector<bool>{false});
  ready = true;
  EXPECT_EQ(told.Await(2), (std::vector<bool>{false, true}));
  ready = false;
  EXPECT_EQ(told.Await(3), (std::vector<bool>{false, true, false}));
}

TEST(ReadinessWatch, TellsNobodyOnceItIsGone) {
  std::atomic<bool> ready{true};
  Told told;
  auto watch =
      ReadinessWatch::Start([&] { return ready.load(); }, [&](bool now) { told.Add(now); });
  ASSERT_TRUE(watch.ok()) << watch.status();
  watch->reset();
  ready = false;
  EXPECT_EQ(told.Await(1), std::vector<bool>{true});
}

}  // namespace
}  // namespace callout::host
