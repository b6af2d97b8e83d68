// SPDX-License-Identifier: Apache-2.0
#include "host/transport/h2/handshake_pace.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace callout::host {
namespace {

constexpr uint64_t kMs = 1'000'000;

// What steps of `step_ns` each take of `total_ns`, taken as soon as they may be.
uint64_t TimeInSteps(HandshakePace* pace, uint64_t begin_ns, uint64_t step_ns, uint64_t total_ns) {
  uint64_t spent_ns = 0;
  for (uint64_t now_ns = begin_ns; now_ns < begin_ns + total_ns;) {
    now_ns += pace->WaitNs(now_ns);
    pace->OnStep(now_ns, now_ns + step_ns);
    now_ns += step_ns;
    spent_ns += step_ns;
  }
  return spent_ns;
}

TEST(HandshakePace, LetsTheFirstStepBegin) {
  EXPECT_EQ(HandshakePace(50).WaitNs(0), 0U);
  EXPECT_EQ(HandshakePace(1).WaitNs(1000 * kMs), 0U);
}

TEST(HandshakePace, GivesEndlessHandshakesTheirShareOfTheTime) {
  for (const uint64_t percent : {1, 25, 50, 99}) {
    HandshakePace pace(percent);
    const uint64_t spent_ns = TimeInSteps(&pace, 5000 * kMs, kMs / 10, 10000 * kMs);
    const uint64_t share_ns = 10000 * kMs * percent / 100;
    EXPECT_GE(spent_ns, share_ns - kMs / 10) << percent;
    EXPECT_LE(spent_ns, share_ns + HandshakePace::kBurstNs) << percent;
  }
}

TEST(HandshakePace, NeverWaitsIfAllOfTheTimeIsForHandshakes) {
  HandshakePace pace(100);
  EXPECT_EQ(TimeInSteps(&pace, 5000 * kMs, kMs, 1000 * kMs), 1000 * kMs);
}

TEST(HandshakePace, LetsAFewBeginAtOnceAfterAPause) {
  HandshakePace pace(50);
  TimeInSteps(&pace, 5000 * kMs, kMs, 100 * kMs);
  uint64_t now_ns = 9000 * kMs;
  int steps = 0;
  for (; pace.WaitNs(now_ns) == 0; ++steps) {
    pace.OnStep(now_ns, now_ns + kMs / 10);
    now_ns += kMs / 10;
  }
  EXPECT_GE(steps, 10);
  EXPECT_LE(steps, 40);
}

TEST(HandshakePace, MakesOneLongStepWaitForItsWholeTime) {
  HandshakePace pace(10);
  pace.OnStep(1000 * kMs, 1050 * kMs);
  EXPECT_EQ(pace.WaitNs(1050 * kMs), 450 * kMs - HandshakePace::kBurstNs);
}

}  // namespace
}  // namespace callout::host
