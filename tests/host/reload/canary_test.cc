// SPDX-License-Identifier: Apache-2.0

#include "host/reload/canary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using What = CanaryVerdict::What;

// Calls that took `ms` each.
CallCounts Calls(uint64_t calls, uint64_t faults = 0, uint64_t ms = 1) {
  CallCounts counts{calls, faults, calls * ms * 1'000'000,
                    std::vector<uint64_t>(CallTally::kBuckets)};
  counts.buckets[CallTally::BucketOf(ms * 1'000'000)] = calls;
  return counts;
}

TEST(Canary, GoesOnWhileItsCallsAreGood) {
  EXPECT_EQ(Judge({}, Calls(1000), Calls(1000), 10000).what, What::kGoesOn);
}

TEST(Canary, MayHaveAsManyFaultsAsTheLimitSays) {
  CanarySettings settings;
  settings.max_fault_percent = 2;
  settings.min_calls = 100;
  EXPECT_EQ(Judge(settings, {}, Calls(100, 2), 1).what, What::kGoesOn);
  const CanaryVerdict verdict = Judge(settings, {}, Calls(100, 3), 1);
  EXPECT_EQ(verdict.what, What::kRollBack);
  EXPECT_THAT(verdict.why, HasSubstr("3 of its 100 calls failed, over max_fault_percent=2"));
}

TEST(Canary, IsRolledBackByFaultsBeforeItHasHadAllCalls) {
  CanarySettings settings;
  settings.max_fault_percent = 2;
  settings.min_calls = 100;
  // Two of the first hundred would be allowed.
  EXPECT_EQ(Judge(settings, {}, Calls(2, 2), 1).what, What::kGoesOn);
  EXPECT_EQ(Judge(settings, {}, Calls(3, 3), 1).what, What::kRollBack);
}

TEST(Canary, OneFaultIsTooManyIfNoneIsAllowed) {
  CanarySettings settings;
  settings.max_fault_percent = 0;
  EXPECT_EQ(Judge(settings, {}, Calls(1, 1), 1).what, What::kRollBack);
}

TEST(Canary, TimesDecideOnceThereAreEnoughCalls) {
  CanarySettings settings;
  settings.max_p99_ms = 10;
  settings.min_calls = 50;
  EXPECT_EQ(Judge(settings, {}, Calls(49, 0, 100), 1).what, What::kGoesOn);
  const CanaryVerdict verdict = Judge(settings, {}, Calls(50, 0, 100), 1);
  EXPECT_EQ(verdict.what, What::kRollBack);
  EXPECT_THAT(verdict.why, HasSubstr("max_p99_ms=10"));
  EXPECT_EQ(Judge(settings, {}, Calls(50, 0, 5), 1).what, What::kGoesOn);
}

TEST(Canary, IsComparedWithTheVersionBeforeOnceThatHasEnoughCalls) {
  CanarySettings settings;
  settings.max_latency_ratio = 2;
  settings.min_calls = 50;
  EXPECT_EQ(Judge(settings, Calls(49, 0, 1), Calls(50, 0, 100), 1).what, What::kGoesOn);
  EXPECT_EQ(Judge(settings, Calls(50, 0, 1), Calls(50, 0, 2), 1).what, What::kGoesOn);
  const CanaryVerdict verdict = Judge(settings, Calls(50, 0, 1), Calls(50, 0, 3), 1);
  EXPECT_EQ(verdict.what, What::kRollBack);
  EXPECT_THAT(verdict.why, HasSubstr("max_latency_ratio=2"));
}

TEST(Canary, PromotesItselfOnlyIfToldTo) {
  CanarySettings settings;
  settings.for_seconds = 60;
  settings.min_calls = 10;
  EXPECT_EQ(Judge(settings, {}, Calls(10), 60).what, What::kGoesOn);
  settings.promotes_itself = true;
  EXPECT_EQ(Judge(settings, {}, Calls(10), 59).what, What::kGoesOn);
  EXPECT_EQ(Judge(settings, {}, Calls(9), 60).what, What::kGoesOn);
  EXPECT_EQ(Judge(settings, {}, Calls(10), 60).what, What::kPromote);
}

}  // namespace
}  // namespace callout::host
