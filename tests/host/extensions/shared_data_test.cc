// SPDX-License-Identifier: Apache-2.0

#include "host/extensions/shared_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace callout::host {
namespace {

using ::testing::HasSubstr;

class SharedDataTest : public ::testing::Test {
 protected:
  void Make(const SharedData::Limits& limits) {
    data_ = std::make_unique<SharedData>(limits, &metrics_);
  }
  SharedDataTest() { Make({}); }

  SharedData::Written Put(const std::string& key, std::string_view value,
                          const SharedData::PutOptions& options = {}) {
    return data_->Put(key, value, options, now_ns_);
  }
  // "none" if there is no value.
  std::string Get(const std::string& key) {
    char buffer[256];
    const callout_status_t status = data_->Get(key, buffer, sizeof(buffer), &entry_, now_ns_);
    return status == CALLOUT_OK ? std::string(buffer, entry_.size) : "none";
  }
  callout_status_t Add(const std::string& key, int64_t amount, uint64_t ttl_ns = 0) {
    return data_->Add(key, amount, ttl_ns, &sum_, now_ns_);
  }

  Metrics metrics_;
  std::unique_ptr<SharedData> data_;
  uint64_t now_ns_ = 1000;
  SharedData::Entry entry_;
  int64_t sum_ = 0;
};

TEST_F(SharedDataTest, KeepsAValueAndGivesEachChangeAVersion) {
  EXPECT_EQ(Get("k"), "none");
  const SharedData::Written first = Put("k", "one");
  const SharedData::Written second = Put("k", "");
  EXPECT_EQ(first.status, CALLOUT_OK);
  EXPECT_GT(second.version, first.version);
  EXPECT_EQ(Get("k"), "");
  EXPECT_EQ(entry_.version, second.version);
  EXPECT_EQ(entry_.expires_ns, 0u);
}

TEST_F(SharedDataTest, SaysTheSizeOfAValueThatDoesNotFit) {
  Put("k", "four");
  char buffer[3];
  EXPECT_EQ(data_->Get("k", buffer, sizeof(buffer), &entry_, now_ns_), CALLOUT_OUT_OF_RANGE);
  EXPECT_EQ(entry_.size, 4u);
}

TEST_F(SharedDataTest, ComparesVersionsBeforeItChangesAValue) {
  const uint64_t version = Put("k", "one", {.expected = CALLOUT_SHARED_ABSENT}).version;
  const SharedData::Written late = Put("k", "two", {.expected = CALLOUT_SHARED_ABSENT});
  EXPECT_EQ(late.status, CALLOUT_ABORTED);
  EXPECT_EQ(late.version, version);
  EXPECT_EQ(Put("k", "two", {.expected = version}).status, CALLOUT_OK);
  EXPECT_EQ(Put("k", "three", {.expected = version}).status, CALLOUT_ABORTED);
  EXPECT_EQ(data_->Remove("k", version, now_ns_), CALLOUT_ABORTED);
  EXPECT_EQ(Get("k"), "two");
  EXPECT_EQ(data_->Remove("k", entry_.version, now_ns_), CALLOUT_OK);
  EXPECT_EQ(data_->Remove("k", CALLOUT_SHARED_ANY, now_ns_), CALLOUT_NOT_FOUND);
  EXPECT_EQ(Put("k", "four", {.expected = version}).status, CALLOUT_ABORTED);
  EXPECT_EQ(data_->bytes(), 0u);
}

TEST_F(SharedDataTest, ForgetsAValueAtTheEndOfItsLife) {
  Put("k", "v", {.ttl_ns = 10});
  now_ns_ += 9;
  EXPECT_EQ(Get("k"), "v");
  EXPECT_EQ(entry_.expires_ns, now_ns_ + 1);
  ++now_ns_;
  EXPECT_EQ(Get("k"), "none");
  EXPECT_EQ(data_->keys(), 0u);
  EXPECT_EQ(Put("k", "w", {.expected = CALLOUT_SHARED_ABSENT}).status, CALLOUT_OK);
  now_ns_ += 1000;
  EXPECT_EQ(Get("k"), "w") << "without a life it stays";
}

TEST_F(SharedDataTest, CountsWithinAWindowOfTime) {
  EXPECT_EQ(Add("n", 2, 10), CALLOUT_OK);
  now_ns_ += 9;
  EXPECT_EQ(Add("n", 3, 10), CALLOUT_OK);
  EXPECT_EQ(sum_, 5);
  ++now_ns_;
  EXPECT_EQ(Add("n", 1, 10), CALLOUT_OK);
  EXPECT_EQ(sum_, 1) << "a later add does not prolong the window";
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(Add("n", kMax), CALLOUT_OK);
  EXPECT_EQ(sum_, kMax);
  Put("text", "v");
  EXPECT_EQ(Add("text", 1), CALLOUT_INVALID_ARGUMENT);
}

TEST_F(SharedDataTest, RefusesWhatIsOverItsLimitsAndChangesNothing) {
  Make({.bytes_max = 2 * SharedData::kEntryBytes + 144, .keys_max = 2, .value_bytes_max = 100});
  EXPECT_EQ(Put("a", std::string(100, 'x')).status, CALLOUT_OK);
  EXPECT_EQ(Put("b", std::string(101, 'x')).status, CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(Put("b", std::string(100, 'x')).status, CALLOUT_RESOURCE_EXHAUSTED);  // bytes
  EXPECT_EQ(Put("b", "").status, CALLOUT_OK);
  EXPECT_EQ(Put("c", "").status, CALLOUT_RESOURCE_EXHAUSTED);  // keys
  EXPECT_EQ(Add("c", 1), CALLOUT_RESOURCE_EXHAUSTED);
  const SharedData::Written written = Put("b", std::string(100, 'y'));
  EXPECT_EQ(written.status, CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(Get("b"), "");
  EXPECT_EQ(entry_.version, written.version);
  EXPECT_EQ(Put("a", "x").status, CALLOUT_OK) << "a smaller value always fits";
  EXPECT_EQ(data_->bytes(), 2 * (1 + SharedData::kEntryBytes) + 1);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_shared_data_keys 2"));
}

// What malloc has given out. A sanitizer's malloc does not say.
size_t MallocBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}
bool MallocTells() {
  const size_t before = MallocBytes();
  const auto block = std::make_unique<std::string>(100000, 'x');
  return MallocBytes() >= before + block->size();
}

TEST_F(SharedDataTest, KeepsNoMoreOfAValueThanItCounts) {
  if (!MallocTells()) GTEST_SKIP() << "this malloc does not say what it has given out";
  constexpr size_t kBytes = 1000000;
  const size_t before = MallocBytes();
  Put("k", std::string(kBytes, 'x'));
  Put("k", std::string(kBytes + 1, 'x'));
  EXPECT_LT(MallocBytes() - before, kBytes + kBytes / 10) << "grown by one byte";
  for (const char* small : {"short", "too long to be kept in place"}) {
    Put("k", std::string(kBytes, 'x'));
    Put("k", small);
    EXPECT_LT(MallocBytes() - before, kBytes / 10) << small;
  }
}

TEST_F(SharedDataTest, CountsAboutTheMemoryThatManySmallValuesTake) {
  if (!MallocTells()) GTEST_SKIP() << "this malloc does not say what it has given out";
  constexpr int kValues = 20000;
  const size_t before = MallocBytes();
  for (int i = 0; i < kValues; ++i) {
    Put("a client's key " + std::to_string(i), std::string(20, 'x'),
        {.ttl_ns = 1'000'000'000, .may_evict = true});
  }
  const size_t kept = MallocBytes() - before;
  EXPECT_LT(kept, data_->bytes());
  EXPECT_GT(kept, data_->bytes() / 2);
}

TEST_F(SharedDataTest, MakesRoomByWhatHasExpiredBeforeWhatMayBeDropped) {
  Make({.keys_max = 3});
  Put("expired", "v", {.ttl_ns = 10});
  Put("cached", "v", {.may_evict = true});
  Put("kept", "v");
  now_ns_ += 10;
  EXPECT_EQ(Put("new", "v").status, CALLOUT_OK);
  EXPECT_EQ(Get("cached"), "v");
  EXPECT_EQ(Put("newer", "v").status, CALLOUT_OK);
  EXPECT_EQ(Get("cached"), "none");
  EXPECT_EQ(Put("newest", "v").status, CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(Get("kept"), "v");
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_shared_data_expired_total 1"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_shared_data_evicted_total 1"));
}

TEST_F(SharedDataTest, DropsNothingForAValueThatCanNeverFit) {
  Make({.bytes_max = 1000, .value_bytes_max = 10000});
  Put("cached", "v", {.may_evict = true});
  EXPECT_EQ(Put("big", std::string(1000, 'x')).status, CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(Get("cached"), "v");
}

TEST_F(SharedDataTest, KeepsSpacesApart) {
  EXPECT_NE(SharedKey("p", "", "k"), SharedKey("q", "", "k"));
  EXPECT_NE(SharedKey("p", "", "k"), SharedKey("x", "p", "k"));
  EXPECT_EQ(SharedKey("p", "s", "k"), SharedKey("q", "s", "k"));
  EXPECT_NE(SharedKey("p", "sk", "k"), SharedKey("p", "s", "kk"));
}

// Room that one thread has made, another may take at once. And a value that has no room must not
// stand in the way of one that has.
TEST_F(SharedDataTest, RefusesNothingWhileThereAreValuesThatMayBeDropped) {
  constexpr int kThreads = 4, kRounds = 5000;
  Make({.bytes_max = 10 * SharedData::kEntryBytes, .keys_max = 8});
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        const std::string cached = "cached " + std::to_string(t) + "-" + std::to_string(i);
        const std::string bytes(static_cast<size_t>(i) % 400, 'x');
        if (data_->Put(cached, bytes, {.may_evict = true}, now_ns_).status != CALLOUT_OK) ++refused;
        const std::string count = "count " + std::to_string(t);
        int64_t sum = 0;
        if (data_->Add(count, 1, 0, &sum, now_ns_) != CALLOUT_OK) ++refused;
        if (i % 3 == 0) data_->Remove(count, CALLOUT_SHARED_ANY, now_ns_);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, 0);
  EXPECT_LE(data_->keys(), 8u);
  EXPECT_LE(data_->bytes(), 10 * SharedData::kEntryBytes);
}

// For ThreadSanitizer, and for what is lost between compare and swap.
TEST_F(SharedDataTest, LosesNoChangeOfManyThreads) {
  constexpr int kThreads = 4, kRounds = 2000;
  Make({.keys_max = 20});
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        int64_t sum = 0;
        EXPECT_EQ(data_->Add("count", 1, 0, &sum, now_ns_), CALLOUT_OK);
        uint64_t expected = CALLOUT_SHARED_ABSENT;
        for (;;) {  // one more letter, by compare and swap
          char buffer[8];
          SharedData::Entry entry;
          const bool found =
              data_->Get("cas", buffer, sizeof(buffer), &entry, now_ns_) == CALLOUT_OK;
          expected = found ? entry.version : 0;
          int64_t value = 0;
          if (found) memcpy(&value, buffer, sizeof(value));
          ++value;
          const std::string_view bytes(reinterpret_cast<const char*>(&value), sizeof(value));
          if (data_->Put("cas", bytes, {.expected = expected}, now_ns_).status == CALLOUT_OK) break;
        }
        const std::string key = "t" + std::to_string(t) + "-" + std::to_string(i % 30);
        data_->Put(key, "v", {.ttl_ns = i % 2 == 0 ? 5u : 0u, .may_evict = true},
                   now_ns_ + static_cast<uint64_t>(i));
        if (i % 5 == 0) data_->Remove(key, CALLOUT_SHARED_ANY, now_ns_);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Add("count", 0), CALLOUT_OK);
  EXPECT_EQ(sum_, kThreads * kRounds);
  EXPECT_EQ(Add("cas", 0), CALLOUT_OK);
  EXPECT_EQ(sum_, kThreads * kRounds);
  EXPECT_LE(data_->keys(), 20u);
}

}  // namespace
}  // namespace callout::host
