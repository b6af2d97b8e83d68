// SPDX-License-Identifier: Apache-2.0

#include "host/base/moving_mean.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(MovingMean, KnowsNothingBeforeTheFirst) { EXPECT_EQ(MovingMean().Need(), 0U); }

TEST(MovingMean, IsTheFirstAndThenFollows) {
  MovingMean mean;
  mean.Add(800);
  EXPECT_EQ(mean.mean(), 800U);
  EXPECT_EQ(mean.Need(), 800U);
  mean.Add(1600);
  EXPECT_EQ(mean.mean(), 900U);
  EXPECT_GT(mean.Need(), 900U) << "they differ";
  for (int i = 0; i < 200; ++i) mean.Add(80);
  EXPECT_LT(mean.Need(), 120U);
}

TEST(MovingMean, ZeroIsATimeToo) {
  MovingMean mean;
  for (int i = 0; i < 200; ++i) mean.Add(0);
  EXPECT_GT(mean.Need(), 0U);
}

}  // namespace
}  // namespace callout::host
