// SPDX-License-Identifier: Apache-2.0

#include "host/trace/sampler.h"

#include <gtest/gtest.h>

#include <string>

namespace callout::host {
namespace {

// Of `count` random ids.
int CountSampled(const Sampler& sampler, int count, const SpanContext* parent = nullptr) {
  int sampled = 0;
  for (int i = 0; i < count; ++i) sampled += sampler.Samples(parent, NewTraceId()) ? 1 : 0;
  return sampled;
}

Sampler Parsed(const std::string& name, const std::string& argument = "") {
  const absl::StatusOr<Sampler> sampler = Sampler::Parse(name, argument);
  EXPECT_TRUE(sampler.ok()) << name << ": " << sampler.status();
  return sampler.value_or(Sampler());
}

TEST(Sampler, KnowsOpenTelemetrysNames) {
  EXPECT_EQ(CountSampled(Parsed("always_on"), 100), 100);
  EXPECT_EQ(CountSampled(Parsed("always_off"), 100), 0);
  EXPECT_EQ(CountSampled(Parsed("parentbased_always_on"), 100), 100);
  EXPECT_EQ(CountSampled(Parsed("parentbased_always_off"), 100), 0);
  EXPECT_EQ(CountSampled(Parsed("traceidratio"), 100), 100);
  EXPECT_EQ(CountSampled(Parsed("traceidratio", "0"), 100), 0);
  EXPECT_EQ(CountSampled(Parsed("parentbased_traceidratio", "1"), 100), 100);
}

TEST(Sampler, IsParentbasedAlwaysOnByDefault) {
  SpanContext parent;
  EXPECT_FALSE(Sampler().Samples(&parent, NewTraceId()));
  parent.sampled = true;
  EXPECT_TRUE(Sampler().Samples(&parent, NewTraceId()));
  EXPECT_TRUE(Sampler().Samples(nullptr, NewTraceId()));
}

TEST(Sampler, OnlyParentbasedSamplersObeyTheParent) {
  SpanContext parent;
  parent.sampled = true;
  EXPECT_EQ(CountSampled(Parsed("parentbased_always_off"), 100, &parent), 100);
  EXPECT_EQ(CountSampled(Parsed("parentbased_traceidratio", "0"), 100, &parent), 100);
  EXPECT_EQ(CountSampled(Parsed("always_off"), 100, &parent), 0);
  parent.sampled = false;
  EXPECT_EQ(CountSampled(Parsed("parentbased_always_on"), 100, &parent), 0);
  EXPECT_EQ(CountSampled(Parsed("always_on"), 100, &parent), 100);
}

TEST(Sampler, SamplesTheRatioOfIds) {
  constexpr int kIds = 100000;
  const int sampled = CountSampled(Parsed("traceidratio", "0.1"), kIds);
  // Thirty standard deviations.
  EXPECT_NEAR(sampled, kIds / 10, 3000);
}

// Hosts with the same ratio choose the same traces, and OpenTelemetry's SDKs the same ones.
TEST(Sampler, ChoosesByTheLast63RandomBitsOfTheId) {
  const Sampler half = Parsed("traceidratio", "0.5");
  TraceId id{};
  id.fill(0xff);
  EXPECT_FALSE(half.Samples(nullptr, id));
  id[8] = 0x7f;
  EXPECT_TRUE(half.Samples(nullptr, id));
  id[8] = 0x80;
  for (size_t i = 9; i < id.size(); ++i) id[i] = 0;
  EXPECT_FALSE(half.Samples(nullptr, id));
}

TEST(Sampler, DecidesByTheEndOfAnIdAsByTheWholeId) {
  const Sampler half = Parsed("traceidratio", "0.5");
  for (int i = 0; i < 1000; ++i) {
    const uint64_t end = NewTraceIdEnd();
    const TraceId id = NewTraceId(end);
    ASSERT_EQ(EndOf(id), end);
    ASSERT_EQ(half.Samples(nullptr, id), half.SamplesNew(end));
  }
  TraceId id{};
  id[8] = 0x12;
  id[15] = 0x34;
  EXPECT_EQ(EndOf(id), 0x1200000000000034u);
}

TEST(Sampler, RefusesOtherNamesAndRatios) {
  for (const char* name :
       {"", "on", "jaeger_remote", "parentbased_", "parentbased_parentbased_always_on"}) {
    EXPECT_FALSE(Sampler::Parse(name, "").ok()) << name;
  }
  for (const char* ratio : {"-0.1", "1.1", "nan", "half", "0.1.2"}) {
    EXPECT_FALSE(Sampler::Parse("traceidratio", ratio).ok()) << ratio;
  }
}

}  // namespace
}  // namespace callout::host
