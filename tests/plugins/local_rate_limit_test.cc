// SPDX-License-Identifier: Apache-2.0

// plugins/local_rate_limit, in the fake host; behind a real Envoy see
// tests/envoy/rate_limit_test.cc.
#include <gtest/gtest.h>

#include <atomic>
#include <callout/testing.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host_process.h"
#include "local_rate_limit/token_buckets.h"

namespace callout::tests {
namespace {

using callout::plugins::TokenBucket;
using callout::plugins::TokenBuckets;
using callout::plugins::TokenRate;
using callout::testing::HeaderList;
using callout::testing::RateLimitAnswer;
using callout::testing::RateLimitQuestion;
using std::chrono::milliseconds;

// A limit that does not fill up while a test runs.
constexpr char kOfUsers[] =
    R"({"limits": [{"name": "user", "descriptor": [{"key": "user"}], "count": 2, "per": "day"}]})";

RateLimitQuestion Question(const std::vector<HeaderList>& descriptors) {
  RateLimitQuestion question;
  for (const HeaderList& entries : descriptors) {
    RateLimitQuestion::Descriptor descriptor;
    descriptor.entries = entries;
    question.descriptors.push_back(descriptor);
  }
  return question;
}

class LocalRateLimitTest : public ::testing::Test {
 protected:
  static RateLimitAnswer Ask(callout::testing::Plugin& plugin, const RateLimitQuestion& question) {
    callout::testing::Stream stream(plugin);
    RateLimitAnswer answer = stream.rate_limit(question);
    EXPECT_EQ(answer.problem, "");
    return answer;
  }
  static bool Passes(callout::testing::Plugin& plugin, const RateLimitQuestion& question) {
    return Ask(plugin, question).within_limit();
  }
  const std::string file_ = BuiltPlugin("local_rate_limit");
};

TEST_F(LocalRateLimitTest, EachValueHasABucketOfItsOwn) {
  callout::testing::Plugin plugin(file_, kOfUsers);
  for (const char* user : {"ada", "bob"}) {
    for (const uint32_t remaining : {1u, 0u}) {
      const RateLimitAnswer answer = Ask(plugin, Question({{{"user", user}}}));
      EXPECT_TRUE(answer.within_limit());
      ASSERT_EQ(answer.statuses.size(), 1u);
      EXPECT_EQ(answer.statuses[0].remaining, remaining);
      EXPECT_EQ(answer.statuses[0].name, "user");
      EXPECT_EQ(answer.statuses[0].count, 2u);
      EXPECT_EQ(answer.statuses[0].unit, uint32_t{CALLOUT_PER_DAY});
    }
    const RateLimitAnswer answer = Ask(plugin, Question({{{"user", user}}}));
    EXPECT_FALSE(answer.within_limit());
    ASSERT_EQ(answer.response_headers.size(), 1u);
    EXPECT_EQ(answer.response_headers[0].first, "retry-after");
    const int seconds = std::stoi(answer.response_headers[0].second);
    EXPECT_GT(seconds, 40000) << "a token comes back every half day";
    EXPECT_LE(seconds, 43200);
  }
  EXPECT_EQ(plugin.metric("local_rate_limit_within_total"), 4);
  EXPECT_EQ(plugin.metric("local_rate_limit_over_total"), 2);
}

TEST_F(LocalRateLimitTest, TheFirstLimitThatFitsCounts) {
  callout::testing::Plugin plugin(file_, R"({"limits": [
      {"domain": "a", "descriptor": [{"key": "user", "value": "ada"}], "count": 1, "per": "day"},
      {"descriptor": [{"key": "user"}], "count": 0},
      {"descriptor": [{"key": "user"}, {"key": "path"}], "count": 0}]})");
  RateLimitQuestion question = Question({{{"user", "ada"}}});
  EXPECT_FALSE(Passes(plugin, question)) << "of another domain";
  question.domain = "a";
  EXPECT_TRUE(Passes(plugin, question));
  EXPECT_FALSE(Passes(plugin, question));
  EXPECT_FALSE(Passes(plugin, Question({{{"user", "ada"}, {"path", "/"}}})));
  // Entries more, fewer, of other keys or in another order: no limit fits.
  for (const HeaderList& entries :
       std::vector<HeaderList>{{},
                               {{"path", "/"}},
                               {{"path", "/"}, {"user", "ada"}},
                               {{"user", ""}, {"path", ""}, {"x", ""}}}) {
    const RateLimitAnswer answer = Ask(plugin, Question({entries}));
    EXPECT_TRUE(answer.within_limit());
    ASSERT_EQ(answer.statuses.size(), 1u);
    EXPECT_FALSE(answer.statuses[0].has_limit);
  }
}

TEST_F(LocalRateLimitTest, WhatNoLimitFitsCanBeRefused) {
  callout::testing::Plugin plugin(file_, R"({"refuse_unknown": true, "limits": [
      {"descriptor": [{"key": "user"}], "count": 1, "per": "day"}]})");
  EXPECT_FALSE(Passes(plugin, Question({{{"path", "/"}}})));
  EXPECT_FALSE(Passes(plugin, Question({{{"user", "ada"}}, {{"path", "/"}}})));
  EXPECT_TRUE(Passes(plugin, Question({{{"user", "ada"}}}))) << "what was refused cost nothing";
}

TEST_F(LocalRateLimitTest, WhatIsRefusedCostsNothing) {
  callout::testing::Plugin plugin(file_, R"({"limits": [
      {"descriptor": [{"key": "user"}], "count": 1, "per": "day"},
      {"descriptor": [{"key": "path"}], "count": 3, "per": "day"}]})");
  EXPECT_TRUE(Passes(plugin, Question({{{"path", "/"}}, {{"user", "ada"}}})));
  for (int i = 0; i < 5; ++i) {
    const RateLimitAnswer answer = Ask(plugin, Question({{{"path", "/"}}, {{"user", "ada"}}}));
    EXPECT_FALSE(answer.within_limit());
    EXPECT_EQ(answer.statuses[0].code, 1u);
    EXPECT_EQ(answer.statuses[0].remaining, 2u);
    EXPECT_EQ(answer.statuses[1].code, 2u);
  }
}

TEST_F(LocalRateLimitTest, HitsAreAsManyAsAreSaid) {
  callout::testing::Plugin plugin(file_, R"({"limits": [
      {"descriptor": [{"key": "user"}], "count": 1, "burst": 5, "per": "day"}]})");
  RateLimitQuestion question = Question({{{"user", "ada"}}});
  question.hits = 3;
  EXPECT_TRUE(Passes(plugin, question));
  EXPECT_FALSE(Passes(plugin, question)) << "two are left";
  question.descriptors[0].hits = 2;
  EXPECT_TRUE(Passes(plugin, question)) << "the descriptor's own hits count";
  question.descriptors[0].hits = 0;
  EXPECT_FALSE(Passes(plugin, question)) << "0 asks whether one is left";
  question.descriptors[0].gives_back = true;
  question.descriptors[0].hits = 1;
  EXPECT_TRUE(Passes(plugin, question));
  question.descriptors[0].gives_back = false;
  question.descriptors[0].hits = 0;
  EXPECT_TRUE(Passes(plugin, question));
  EXPECT_TRUE(Passes(plugin, question)) << "asking takes none";
}

TEST_F(LocalRateLimitTest, ARefusedRequestGivesNothingBack) {
  callout::testing::Plugin plugin(file_, kOfUsers);
  RateLimitQuestion both = Question({{{"user", "ada"}}, {{"user", "bob"}}});
  both.descriptors[1].gives_back = true;
  const RateLimitQuestion of_bob = Question({{{"user", "bob"}}});
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(Passes(plugin, both));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(Passes(plugin, of_bob));
  const RateLimitAnswer refused = Ask(plugin, both);
  EXPECT_FALSE(refused.within_limit()) << "ada has none left";
  EXPECT_EQ(refused.statuses.at(1).remaining, 0u);
  EXPECT_FALSE(Passes(plugin, of_bob));
}

TEST_F(LocalRateLimitTest, ALimitOfTheRouteTakesThePlaceOfItsOwn) {
  callout::testing::Plugin plugin(file_, kOfUsers);
  RateLimitQuestion question = Question({{{"user", "ada"}}, {{"unknown", "x"}}});
  for (auto& descriptor : question.descriptors) {
    descriptor.limit = RateLimitQuestion::Limit{1, CALLOUT_PER_DAY, 2};
  }
  const RateLimitAnswer answer = Ask(plugin, question);
  EXPECT_TRUE(answer.within_limit());
  EXPECT_EQ(answer.statuses[0].count, 1u);
  EXPECT_EQ(answer.statuses[0].units, 2u);
  EXPECT_FALSE(Passes(plugin, question));
  EXPECT_TRUE(Passes(plugin, Question({{{"user", "ada"}}}))) << "its own bucket is full";
}

// A client that reaches two of them in turn would fill the slow one's bucket at the fast one's
// rate.
TEST_F(LocalRateLimitTest, EachRateOfARouteHasABucketOfItsOwn) {
  callout::testing::Plugin plugin(file_);
  const auto passes = [&](uint32_t count, callout_limit_unit_t unit, uint32_t units) {
    RateLimitQuestion question = Question({{{"user", "ada"}}});
    question.descriptors[0].limit = RateLimitQuestion::Limit{count, unit, units};
    return Passes(plugin, question);
  };
  constexpr uint32_t kManyCount = 4000000000;  // a token each fraction of a nanosecond
  EXPECT_TRUE(passes(1, CALLOUT_PER_DAY, 1));
  EXPECT_FALSE(passes(1, CALLOUT_PER_DAY, 1));
  EXPECT_TRUE(passes(kManyCount, CALLOUT_PER_SECOND, 1));
  EXPECT_FALSE(passes(1, CALLOUT_PER_DAY, 1));
  EXPECT_TRUE(passes(1, CALLOUT_PER_WEEK, 1));
  EXPECT_TRUE(passes(1, CALLOUT_PER_DAY, 2));
  EXPECT_FALSE(passes(1, CALLOUT_PER_DAY, 1));
}

TEST_F(LocalRateLimitTest, CostsThatThereWereAlreadyStand) {
  callout::testing::Plugin plugin(file_, R"({"limits": [
      {"descriptor": [{"key": "user"}], "count": 1000, "per": "day", "overdraw": true},
      {"descriptor": [{"key": "path"}], "count": 1, "per": "day"}]})");
  RateLimitQuestion asks = Question({{{"user", "ada"}}});
  asks.descriptors[0].hits = 0;
  RateLimitQuestion costs = asks;
  costs.descriptors[0].hits = 1500;
  EXPECT_TRUE(Passes(plugin, asks));
  const RateLimitAnswer over = Ask(plugin, costs);
  EXPECT_FALSE(over.within_limit());
  EXPECT_EQ(over.statuses.at(0).remaining, 0u);
  const RateLimitAnswer refused = Ask(plugin, asks);
  EXPECT_FALSE(refused.within_limit());
  EXPECT_EQ(refused.statuses.at(0).remaining, 0u);
  ASSERT_EQ(refused.response_headers.size(), 1u);
  const int seconds = std::stoi(refused.response_headers[0].second);
  EXPECT_GT(seconds, 43200) << "500 that are owed, at 1000 a day";
  EXPECT_LE(seconds, 43300);
  // Another limit's refusal does not give them back either.
  RateLimitQuestion both = Question({{{"user", "bob"}}, {{"path", "/"}}});
  both.hits = 1000;
  EXPECT_FALSE(Passes(plugin, both)) << "of the path there are not so many";
  RateLimitQuestion bob = Question({{{"user", "bob"}}});
  EXPECT_FALSE(Passes(plugin, bob));
  EXPECT_TRUE(Passes(plugin, Question({{{"path", "/"}}}))) << "its refusal cost nothing";
}

TEST_F(LocalRateLimitTest, CostsStandForALimitOfTheRouteToo) {
  callout::testing::Plugin plugin(file_, R"({"limits": [
      {"descriptor": [{"key": "user"}], "count": 0, "overdraw": true}]})");
  RateLimitQuestion question = Question({{{"user", "ada"}}});
  question.descriptors[0].limit = RateLimitQuestion::Limit{10, CALLOUT_PER_DAY, 1};
  question.descriptors[0].hits = 15;
  EXPECT_FALSE(Passes(plugin, question));
  question.descriptors[0].hits = 0;
  EXPECT_FALSE(Passes(plugin, question));
}

TEST_F(LocalRateLimitTest, MoreBucketsThanTheStoreTakesAreRefused) {
  const auto store = std::make_shared<callout::testing::Store>();
  store->keys_max = 16;
  callout::testing::Plugin plugin(file_, kOfUsers, store);
  constexpr int kUsers = 20;
  int passed = 0;
  for (int i = 0; i < kUsers; ++i) {
    if (Passes(plugin, Question({{{"user", std::to_string(i)}}}))) ++passed;
  }
  EXPECT_EQ(passed, 16);
  EXPECT_EQ(plugin.metric("local_rate_limit_full_total"), kUsers - passed);
  EXPECT_TRUE(Passes(plugin, Question({{{"user", "0"}}}))) << "those that there are count on";
  EXPECT_FALSE(Passes(plugin, Question({{{"user", std::string(2000, 'x')}}})))
      << "no key is so long";
}

// A charge of the tokens comes later, when nobody waits for the answer.
TEST_F(LocalRateLimitTest, WhatCannotBeChargedLaterDoesNotPassFirst) {
  const auto store = std::make_shared<callout::testing::Store>();
  store->keys_max = 1;
  callout::testing::Plugin plugin(file_, kOfUsers, store);
  const auto asks = [&](const std::string& user) {
    RateLimitQuestion question = Question({{{"user", user}}});
    question.descriptors[0].hits = 0;
    return Passes(plugin, question);
  };
  EXPECT_FALSE(asks(std::string(2000, 'x'))) << "no key is so long";
  EXPECT_TRUE(asks("ada"));
  EXPECT_TRUE(asks("ada")) << "asking takes nothing";
  EXPECT_FALSE(asks("bob")) << "the store is full";
  EXPECT_EQ(plugin.metric("local_rate_limit_full_total"), 2);
}

TEST_F(LocalRateLimitTest, TheNextVersionCountsOn) {
  const auto store = std::make_shared<callout::testing::Store>();
  const RateLimitQuestion question = Question({{{"user", "ada"}}});
  {
    callout::testing::Plugin plugin(file_, kOfUsers, store);
    EXPECT_TRUE(Passes(plugin, question));
    EXPECT_TRUE(Passes(plugin, question));
    EXPECT_FALSE(Passes(plugin, question));
  }
  // With other limits, and this one not the first.
  callout::testing::Plugin plugin(file_, R"({"limits": [
      {"descriptor": [{"key": "path"}], "count": 5, "per": "day"},
      {"descriptor": [{"key": "user"}], "count": 3, "per": "day"}]})",
                                  store);
  EXPECT_FALSE(Passes(plugin, question));
  EXPECT_TRUE(Passes(plugin, Question({{{"user", "bob"}}})));
  store->advance(std::chrono::hours(25));
  EXPECT_TRUE(Passes(plugin, question)) << "a bucket that is full is forgotten";
}

TEST_F(LocalRateLimitTest, ConfigurationsThatCannotBeMeantAreRefused) {
  for (const char* config : {
           R"({"limits": [{"descriptor": [{"key": "a"}]}]})",
           R"({"limits": [{"descriptor": [], "count": 1}]})",
           R"({"limits": [{"count": 1}]})",
           R"({"limits": [{"descriptor": [{"value": "a"}], "count": 1}]})",
           R"({"limits": [{"descriptor": [{"key": "a"}], "count": -1}]})",
           R"({"limits": [{"descriptor": [{"key": "a"}], "count": 1, "per": "fortnight"}]})",
           R"({"limits": [{"descriptor": [{"key": "a"}], "count": 1, "name": "a\"b"}]})",
           R"({"limits": [{"descriptor": [{"key": "a", "valu": ""}], "count": 1}]})",
           R"({"limits": [{"descriptor": [{"key": "a"}], "count": 1, "overdraw": 1}]})",
           R"({"max_buckets": 16})",
           R"({"limit": []})",
       }) {
    callout::testing::Plugin plugin(file_, config);
    EXPECT_EQ(plugin.status(), CALLOUT_INVALID_ARGUMENT) << config;
  }
  EXPECT_EQ(callout::testing::Plugin(file_).status(), CALLOUT_OK);
}

// On many threads at once no token is given out twice, and none is lost.
TEST_F(LocalRateLimitTest, ThreadsShareTheBuckets) {
  callout::testing::Plugin plugin(file_, R"({"limits": [
      {"descriptor": [{"key": "user"}], "count": 100, "per": "year"}]})");
  std::atomic<int> passed{0};
  callout::testing::run_in_parallel(
      plugin, 4, 1000, [&](callout::testing::Stream& stream, size_t i) {
        if (stream.rate_limit(Question({{{"user", std::to_string(i % 2)}}})).within_limit())
          ++passed;
      });
  EXPECT_EQ(passed, 200);
}

// --- A bucket, with a clock of the test's own ---

TEST(TokenBucketTest, TokensComeBackWithTime) {
  constexpr TokenRate kRate{.capacity = 4, .per_second = 2};
  TokenBucket::Time now{};
  TokenBucket bucket;
  bucket.Refill(kRate, now);
  EXPECT_EQ(bucket.tokens, 0);
  now += milliseconds(500);
  bucket.Refill(kRate, now);
  EXPECT_DOUBLE_EQ(bucket.tokens, 1);
  // Another thread's clock was read a little earlier.
  bucket.Refill(kRate, now - milliseconds(400));
  EXPECT_DOUBLE_EQ(bucket.tokens, 1);
  now += std::chrono::hours(1);
  bucket.Refill(kRate, now);
  EXPECT_DOUBLE_EQ(bucket.tokens, 4) << "no more than the capacity";
  bucket.Refill({.capacity = 3, .per_second = 2}, now);
  EXPECT_DOUBLE_EQ(bucket.tokens, 3) << "that of today";
}

TEST(TokenBucketTest, LivesUntilItIsFull) {
  TokenBucket bucket{1, 0};
  EXPECT_EQ(bucket.TimeUntilFull({.capacity = 4, .per_second = 2}), milliseconds(1500));
  EXPECT_EQ(bucket.TimeUntilFull({.capacity = 1, .per_second = 2}), milliseconds(0));
  const std::chrono::nanoseconds longest(static_cast<int64_t>(CALLOUT_SHARED_TTL_NS_MAX));
  EXPECT_EQ(bucket.TimeUntilFull({.capacity = 4, .per_second = 0}), longest);
  EXPECT_EQ(bucket.TimeUntilFull({.capacity = 1e9, .per_second = 1e-9}), longest);
}

TEST(TokenBucketsTest, TheTimeUntilThereAreEnough) {
  const TokenBuckets::Rate rate{.capacity = 10, .per_second = 2};
  EXPECT_EQ(TokenBuckets::SecondsUntil(1, 0, rate), 1u);
  EXPECT_EQ(TokenBuckets::SecondsUntil(10, 0, rate), 5u);
  EXPECT_EQ(TokenBuckets::SecondsUntil(10, 10, rate), 0u);
  EXPECT_EQ(TokenBuckets::SecondsUntil(11, 0, rate), 0u) << "never";
  EXPECT_EQ(TokenBuckets::SecondsUntil(1, 0, {.capacity = 1, .per_second = 0}), 0u);
}

}  // namespace
}  // namespace callout::tests
