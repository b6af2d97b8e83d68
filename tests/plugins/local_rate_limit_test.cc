// SPDX-License-Identifier: Apache-2.0

// plugins/local_rate_limit, in the fake host; behind a real Envoy see
// tests/envoy/rate_limit_test.cc.
#include <gtest/gtest.h>

#include <atomic>
#include <callout/testing.hpp>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "host_process.h"
#include "local_rate_limit/token_buckets.h"

namespace callout::tests {
namespace {

using callout::plugins::TokenBuckets;
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

TEST_F(LocalRateLimitTest, MoreBucketsThanMayBeAreRefused) {
  callout::testing::Plugin plugin(file_, R"({"max_buckets": 16, "limits": [
      {"descriptor": [{"key": "user"}], "count": 1, "per": "day"}]})");
  int passed = 0;
  constexpr int kUsers = 1000;
  for (int i = 0; i < kUsers; ++i) {
    if (Passes(plugin, Question({{{"user", std::to_string(i)}}}))) ++passed;
  }
  EXPECT_GT(passed, 0);
  EXPECT_LE(passed, 16);
  EXPECT_EQ(plugin.metric("local_rate_limit_full_total"), kUsers - passed);
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
           R"({"max_buckets": 15})",
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

// --- The buckets, with a clock of the test's own ---

TEST(TokenBucketsTest, TokensComeBackWithTime) {
  using Kind = TokenBuckets::Kind;
  TokenBuckets buckets(100);
  const TokenBuckets::Rate rate{.capacity = 4, .per_second = 2};
  TokenBuckets::Time now{};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(buckets.Take("a", rate, 1, now).kind, Kind::kTaken);
  EXPECT_EQ(buckets.Take("a", rate, 1, now).kind, Kind::kShort);
  now += milliseconds(499);
  EXPECT_EQ(buckets.Take("a", rate, 1, now).kind, Kind::kShort);
  now += milliseconds(1);
  EXPECT_EQ(buckets.Take("a", rate, 1, now).kind, Kind::kTaken);
  EXPECT_EQ(buckets.Take("a", rate, 1, now).kind, Kind::kShort);
  now += std::chrono::hours(1);
  EXPECT_EQ(buckets.Take("a", rate, 5, now).kind, Kind::kShort) << "no more than the capacity";
  EXPECT_EQ(buckets.Take("a", rate, 4, now).kind, Kind::kTaken);
  // Another thread's clock was read a little earlier.
  EXPECT_EQ(buckets.Take("a", rate, 1, now - milliseconds(900)).kind, Kind::kShort);
  now += milliseconds(500);
  EXPECT_EQ(buckets.Take("a", rate, 1, now).kind, Kind::kTaken);
}

TEST(TokenBucketsTest, FullBucketsMakeRoom) {
  using Kind = TokenBuckets::Kind;
  TokenBuckets buckets(16);
  const TokenBuckets::Rate rate{.capacity = 1, .per_second = 1};
  TokenBuckets::Time now{};
  int taken = 0;
  const auto take_all = [&](const std::string& prefix) {
    taken = 0;
    for (int i = 0; i < 200; ++i) {
      const auto outcome = buckets.Take(prefix + std::to_string(i), rate, 1, now);
      EXPECT_NE(outcome.kind, Kind::kShort);
      if (outcome.kind == Kind::kTaken) ++taken;
    }
  };
  take_all("a");
  const int first = taken;
  EXPECT_LE(buckets.size(), 16u);
  take_all("b");
  EXPECT_EQ(taken, 16 - first) << "none of the others is full";
  now += std::chrono::seconds(1);
  take_all("c");
  EXPECT_EQ(taken, 16);
  EXPECT_LE(buckets.size(), 16u);
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
