// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_tally.h"

#include <gtest/gtest.h>

#include <random>

namespace callout::host {
namespace {

CallRecord Taking(uint64_t ns, Violation violation = Violation::kNone) {
  CallRecord record;
  record.begun = true;
  record.begin_ns = 1000;
  record.end_ns = 1000 + ns;
  if (violation != Violation::kNone) record.result.outcome = CallOutcome::kFault;
  record.result.violation = violation;
  return record;
}

TEST(CallTally, CountsCallsFaultsAndTimes) {
  CallTally tally;
  for (int i = 0; i < 98; ++i) tally.Add(Taking(1'000'000));
  tally.Add(Taking(51'000'000, Violation::kDeadline));
  tally.Add(Taking(51'000'000));
  const CallCounts counts = tally.Get();
  EXPECT_EQ(counts.calls, 100u);
  EXPECT_EQ(counts.faults, 1u);
  EXPECT_DOUBLE_EQ(counts.FaultPercent(), 1);
  EXPECT_DOUBLE_EQ(counts.MeanMs(), 2);
  EXPECT_NEAR(counts.QuantileMs(0.5), 1, 0.25);
  EXPECT_NEAR(counts.QuantileMs(0.99), 51, 13);
}

TEST(CallTally, WhatSaysNothingOfTheVersionIsNoFault) {
  CallTally tally;
  for (const Violation violation :
       {Violation::kBodyTooLarge, Violation::kBodyLost, Violation::kEndlessBody,
        Violation::kDeferLimit, Violation::kOverload}) {
    tally.Add(Taking(1000, violation));
  }
  CallRecord by_peer = Taking(1000, Violation::kDeadline);
  by_peer.result.by_peer = true;
  tally.Add(by_peer);
  EXPECT_EQ(tally.Get().faults, 0u);
}

TEST(CallTally, ACallThatWasRefusedIsNone) {
  CallTally tally;
  CallRecord record = Taking(1000, Violation::kOverload);
  record.begun = false;
  tally.Add(record);
  EXPECT_EQ(tally.Get().calls, 0u);
}

TEST(CallTally, BucketsHoldTheTimesThatFallIntoThem) {
  const uint64_t seed = std::random_device()();
  std::mt19937_64 random(seed);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t ns = random() >> (random() % 64);
    const size_t bucket = CallTally::BucketOf(ns);
    ASSERT_LT(bucket, CallTally::kBuckets) << ns << ", seed " << seed;
    if (bucket == CallTally::kBuckets - 1) continue;
    EXPECT_LE(ns, CallTally::UpperNs(bucket)) << "seed " << seed;
    if (bucket > 4) {
      EXPECT_GE(ns, CallTally::UpperNs(bucket - 1) - 1000) << "seed " << seed;
    }
  }
}

TEST(CallCounts, AddUpOverProcesses) {
  CallTally one, other;
  one.Add(Taking(1'000'000));
  other.Add(Taking(3'000'000, Violation::kDeadline));
  CallCounts counts;  // of nobody
  EXPECT_EQ(counts.QuantileMs(0.99), 0);
  counts.Add(one.Get());
  counts.Add(other.Get());
  EXPECT_EQ(counts.calls, 2u);
  EXPECT_EQ(counts.faults, 1u);
  EXPECT_DOUBLE_EQ(counts.MeanMs(), 2);
  counts.Add({1, 0, 0, std::vector<uint64_t>(100000, 1)});
  EXPECT_EQ(counts.buckets.size(), CallTally::kBuckets);
}

}  // namespace
}  // namespace callout::host
