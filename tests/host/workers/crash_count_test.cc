// SPDX-License-Identifier: Apache-2.0

#include "host/workers/crash_count.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr uint64_t kSecond = 1'000'000'000;

TEST(CrashCountTest, SoManyCrashesInSoMuchTimeAreTooMany) {
  CrashCount crashes({.crashes = 3, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1 * kSecond));
  EXPECT_FALSE(crashes.Add("p", 2 * kSecond));
  EXPECT_TRUE(crashes.Add("p", 61 * kSecond));
}

TEST(CrashCountTest, OldCrashesAreForgotten) {
  CrashCount crashes({.crashes = 3, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1 * kSecond));
  EXPECT_FALSE(crashes.Add("p", 2 * kSecond));
  EXPECT_FALSE(crashes.Add("p", 61 * kSecond + 1));
  EXPECT_TRUE(crashes.Add("p", 62 * kSecond));
}

TEST(CrashCountTest, EachPluginHasItsOwn) {
  CrashCount crashes({.crashes = 2, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1));
  EXPECT_FALSE(crashes.Add("q", 2));
  EXPECT_TRUE(crashes.Add("p", 3));
  EXPECT_THAT(crashes.totals(), ElementsAre(Pair("p", 2), Pair("q", 1)));
}

TEST(CrashCountTest, AnotherVersionBeginsAnewButTheTotalStays) {
  CrashCount crashes({.crashes = 2, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1));
  crashes.BeginAnew("p");
  EXPECT_FALSE(crashes.Add("p", 2));
  EXPECT_THAT(crashes.totals(), ElementsAre(Pair("p", 2)));
}

TEST(CrashCountTest, NoneIsTooManyWithoutALimit) {
  CrashCount crashes({.crashes = 0, .seconds = 60});
  for (uint64_t i = 0; i < 100; ++i) EXPECT_FALSE(crashes.Add("p", i));
}

}  // namespace
}  // namespace callout::host
