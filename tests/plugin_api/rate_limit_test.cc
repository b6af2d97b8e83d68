// SPDX-License-Identifier: Apache-2.0

// Rate limits in the layers for plugins: callout/rate_limit.h, callout/rate_limit.hpp and the fake
// host.
#include <callout/rate_limit.h>
#include <gtest/gtest.h>

#include <callout/testing.hpp>
#include <string>

namespace callout::testing {
namespace {

class RateLimitHookTest : public ::testing::Test {
 protected:
  RateLimitAnswer Do(const std::string& deed, RateLimitQuestion question = {}) {
    Stream stream(plugin_);
    RateLimitQuestion::Descriptor descriptor;
    descriptor.entries = {{"do", deed}};
    question.descriptors.push_back(descriptor);
    return stream.rate_limit(question);
  }

  Plugin plugin_{CALLOUT_RATE_LIMIT_PLUGIN};
};

TEST_F(RateLimitHookTest, NothingSaidIsWithinTheLimits) {
  const RateLimitAnswer answer = Do("nothing");
  EXPECT_TRUE(answer.within_limit());
  EXPECT_EQ(answer.problem, "");
}

TEST_F(RateLimitHookTest, WhatGoesWithTheAnswerIsSaid) {
  const RateLimitAnswer within = Do("within");
  EXPECT_TRUE(within.within_limit()) << within.problem;
  EXPECT_EQ(within.request_headers, (HeaderList{{"x-tier", "gold"}}));
  EXPECT_EQ(within.response_headers, (HeaderList{{"x-seen", "1"}}));
  const RateLimitAnswer over = Do("over");
  EXPECT_FALSE(over.within_limit());
  EXPECT_EQ(over.code, 2u);
  EXPECT_EQ(over.response_headers, (HeaderList{{"retry-after", "3"}}));
  EXPECT_EQ(over.body, "slow down");
  EXPECT_EQ(Struct(Do("metadata").metadata)["user"].text(), "ada");
}

TEST_F(RateLimitHookTest, AStatusOverItsLimitMeansThatTheRequestIs) {
  EXPECT_TRUE(Do("statuses").within_limit());
  RateLimitQuestion question;
  question.descriptors.resize(2);
  const RateLimitAnswer answer = Do("statuses", question);
  EXPECT_EQ(answer.code, 2u);
  EXPECT_EQ(answer.problem, "");
  ASSERT_EQ(answer.statuses.size(), 3u);
  const RateLimitAnswer::Status& status = answer.statuses[1];
  EXPECT_EQ(status.code, 2u);
  EXPECT_EQ(status.name, "per user");
  EXPECT_EQ(status.count, 10u);
  EXPECT_EQ(status.unit, uint32_t{CALLOUT_PER_MINUTE});
  EXPECT_EQ(status.units, 5u);
  EXPECT_EQ(status.remaining, 7u);
  EXPECT_EQ(status.reset_seconds, 30u);
  EXPECT_FALSE(answer.statuses[2].has_limit);
  EXPECT_EQ(answer.statuses[2].code, 1u);
}

TEST_F(RateLimitHookTest, TheCallTellsWhatIsAsked) {
  RateLimitQuestion question;
  question.hits = 3;
  question.descriptors.resize(1);
  question.descriptors[0].entries = {{"user", "ada"}, {"path", "/"}};
  EXPECT_EQ(Do("facts", question).body, "test [user=ada;path=/|3] [do=facts|3]");
  question.hits = 0;
  question.descriptors[0].hits = 0;
  question.descriptors[0].gives_back = true;
  question.descriptors[0].limit = RateLimitQuestion::Limit{7, CALLOUT_PER_MONTH, 2};
  EXPECT_EQ(Do("facts", question).body, "test [user=ada;path=/|0|back|7 per 2x5] [do=facts|1]");
}

TEST_F(RateLimitHookTest, WhatGoesWrongDoesNotBecomeAPass) {
  EXPECT_EQ(Do("throw").status, CALLOUT_INTERNAL);
  EXPECT_EQ(Do("throw").error, "thrown");
  EXPECT_EQ(Do("throw").code, 2u) << "it was refused before";
  EXPECT_EQ(Do("fail").status, CALLOUT_UNAVAILABLE);
  EXPECT_FALSE(Do("fail").within_limit());
  EXPECT_EQ(Do("evil").problem, "a control character in the header x");
}

TEST_F(RateLimitHookTest, ADeferredCallIsAnsweredLater) {
  const RateLimitAnswer answer = Do("defer");
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.code, 2u);
}

}  // namespace
}  // namespace callout::testing
