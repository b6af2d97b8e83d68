// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/trial.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(Trial, FailsOnTheFirstFaultAboveTheRate) {
  int failed = 0;
  Trial trial({.rate = 0.5, .calls = 10}, [&failed] { ++failed; });
  for (int i = 0; i < 5; ++i) trial.CountFault();
  EXPECT_EQ(failed, 0) << "half of the calls is not more than half";
  trial.CountFault();
  EXPECT_EQ(failed, 1);
  trial.CountFault();
  EXPECT_EQ(failed, 1) << "told once";
}

TEST(Trial, IsOverAfterItsCalls) {
  Trial trial({.rate = 0.5, .calls = 3}, [] {});
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(trial.CountCall());
  EXPECT_FALSE(trial.CountCall());
}

TEST(Trial, ARateOfZeroAllowsNoFault) {
  int failed = 0;
  Trial trial({.rate = 0, .calls = 10}, [&failed] { ++failed; });
  trial.CountFault();
  EXPECT_EQ(failed, 1);
}

}  // namespace
}  // namespace callout::host
