// SPDX-License-Identifier: Apache-2.0

#include "host/workers/backoff.h"

#include <gtest/gtest.h>

#include <climits>

namespace callout::host {
namespace {

TEST(Backoff, DoublesUpToALimit) {
  EXPECT_EQ(PauseAfter(0).count(), 0) << "nothing has failed";
  EXPECT_EQ(PauseAfter(1).count(), 100);
  EXPECT_EQ(PauseAfter(2).count(), 200);
  EXPECT_EQ(PauseAfter(6).count(), 3200);
  EXPECT_EQ(PauseAfter(7).count(), 5000);
  EXPECT_EQ(PauseAfter(INT_MAX).count(), 5000);
}

}  // namespace
}  // namespace callout::host
