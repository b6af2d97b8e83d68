// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/circuit_breaker.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

using Admission = CircuitBreaker::Admission;
using State = CircuitBreaker::State;

TEST(CircuitBreaker, OpensAfterFailuresInARow) {
  CircuitBreaker circuit({.failures = 3, .open_ns = 100});
  for (const bool failed : {true, true, false, true, true}) {
    const Admission admission = circuit.Admit(0);
    EXPECT_EQ(admission, Admission::kUsual);
    if (failed) {
      EXPECT_FALSE(circuit.Failed(admission, 0));
    } else {
      circuit.Succeeded(admission);
    }
  }
  EXPECT_TRUE(circuit.Failed(circuit.Admit(0), 10));
  EXPECT_EQ(circuit.state(), State::kOpen);
  EXPECT_EQ(circuit.Admit(109), Admission::kNone);
}

TEST(CircuitBreaker, LetsOneCallThroughAfterAWhile) {
  CircuitBreaker circuit({.failures = 1, .open_ns = 100});
  EXPECT_TRUE(circuit.Failed(circuit.Admit(0), 0));
  EXPECT_EQ(circuit.Admit(100), Admission::kTrial);
  EXPECT_EQ(circuit.Admit(100), Admission::kNone);
  EXPECT_TRUE(circuit.Failed(Admission::kTrial, 150));
  EXPECT_EQ(circuit.Admit(249), Admission::kNone);
  EXPECT_EQ(circuit.Admit(250), Admission::kTrial);
  circuit.Succeeded(Admission::kTrial);
  EXPECT_EQ(circuit.state(), State::kClosed);
  EXPECT_EQ(circuit.Admit(250), Admission::kUsual);
}

TEST(CircuitBreaker, ATrialThatTellsNothingIsFollowedByAnother) {
  CircuitBreaker circuit({.failures = 1, .open_ns = 100});
  circuit.Failed(circuit.Admit(0), 0);
  circuit.Abandoned(circuit.Admit(100));
  EXPECT_EQ(circuit.Admit(100), Admission::kTrial);
}

TEST(CircuitBreaker, CallsFromBeforeItOpenedSayNothing) {
  CircuitBreaker circuit({.failures = 1, .open_ns = 100});
  circuit.Failed(circuit.Admit(0), 0);
  circuit.Succeeded(Admission::kUsual);
  EXPECT_EQ(circuit.state(), State::kOpen);
  EXPECT_EQ(circuit.Admit(100), Admission::kTrial);
  circuit.Succeeded(Admission::kUsual);
  EXPECT_FALSE(circuit.Failed(Admission::kUsual, 100));
  EXPECT_EQ(circuit.state(), State::kHalfOpen);
}

TEST(CircuitBreaker, NeverOpensWithoutALimit) {
  CircuitBreaker circuit({.failures = 0});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(circuit.Failed(circuit.Admit(0), 0));
  EXPECT_EQ(circuit.state(), State::kClosed);
}

}  // namespace
}  // namespace callout::host
