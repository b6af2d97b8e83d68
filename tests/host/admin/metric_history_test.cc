// SPDX-License-Identifier: Apache-2.0

#include "host/admin/metric_history.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "host/metrics/metrics.h"

namespace callout::host {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

class MetricHistoryTest : public ::testing::Test {
 protected:
  void Add(uint64_t seconds) { history_.Add(metrics_.Collect(), seconds * kSecond); }

  Metrics metrics_;
  const Metrics::Id streams_ =
      *metrics_.Define(Metrics::Kind::kCounter, "callout_streams_started_total", "x");
  const Metrics::Id calls_ =
      *metrics_.Define(Metrics::Kind::kHistogram, "callout_call_seconds", "x",
                       {{"plugin", "p"}, {"phase", "request_headers"}}, {1, 2, 4});
  MetricHistory history_;
};

TEST_F(MetricHistoryTest, HasNoRateBeforeTheSecondSample) {
  EXPECT_EQ(history_.last(), nullptr);
  Add(100);
  EXPECT_FALSE(history_.Rate("callout_streams_started_total").has_value());
  metrics_.Add(streams_, 30);
  Add(110);
  EXPECT_DOUBLE_EQ(*history_.Rate("callout_streams_started_total"), 3);
  EXPECT_EQ(history_.RatePoints("callout_streams_started_total"), (std::vector<double>{3}));
}

TEST_F(MetricHistoryTest, RatesAreOfTheWindow) {
  for (uint64_t second = 0; second <= 100; second += 2) {
    Add(second);
    metrics_.Add(streams_, second < 50 ? 1000 : 2);
  }
  EXPECT_DOUBLE_EQ(*history_.Rate("callout_streams_started_total"), 1);
  EXPECT_DOUBLE_EQ(*history_.RecentSeconds(), 30);
}

TEST_F(MetricHistoryTest, ForgetsWhatIsOld) {
  for (uint64_t second = 0; second <= 1000; second += 10) Add(second);
  EXPECT_EQ(history_.ValuePoints("callout_streams_started_total").size(),
            MetricHistory::kSpanNs / (10 * kSecond) + 1);
}

// Many viewers make many samples.
TEST_F(MetricHistoryTest, SeveralViewersDoNotMakeItShort) {
  for (uint64_t ms = 0; ms < 10'000; ms += 10) {
    history_.Add(metrics_.Collect(), ms * 1'000'000);
  }
  EXPECT_LE(history_.ValuePoints("callout_streams_started_total").size(), 12u);
  EXPECT_DOUBLE_EQ(*history_.RecentSeconds(), 9.99);
}

TEST_F(MetricHistoryTest, QuantilesAreOfTheCallsInTheWindow) {
  for (int i = 0; i < 100; ++i) metrics_.Observe(calls_, 3.5);
  Add(0);
  for (int i = 0; i < 10; ++i) metrics_.Observe(calls_, 0.5);
  Add(2);
  const MetricHistory::Calls recent = history_.Recent();
  const Distribution& calls = recent.at({"p", "request_headers"});
  EXPECT_EQ(calls.count, 10u);
  EXPECT_DOUBLE_EQ(*calls.Quantile(0.5), 0.5);
  EXPECT_LE(*calls.Quantile(0.99), 1);
  EXPECT_EQ(history_.P99Points("p").size(), 1u);
  EXPECT_EQ(history_.P99Points("other"), (std::vector<double>{0}));
}

TEST_F(MetricHistoryTest, PointsOfAPluginAreOfAllItsPhasesAndOfNoOther) {
  const auto define = [&](const char* plugin, const char* phase) {
    return *metrics_.Define(Metrics::Kind::kHistogram, "callout_call_seconds", "x",
                            {{"plugin", plugin}, {"phase", phase}}, {1, 2, 4});
  };
  const Metrics::Id body = define("p", "request_body");
  const Metrics::Id before = define("o", "request_headers");
  const Metrics::Id after = define("p2", "request_headers");
  Add(100);
  metrics_.Observe(body, 3);
  metrics_.Observe(before, 0.5);
  metrics_.Observe(after, 0.5);
  Add(110);
  ASSERT_EQ(history_.P99Points("p").size(), 1u);
  EXPECT_GT(history_.P99Points("p")[0], 2);
  EXPECT_LE(history_.P99Points("p2")[0], 1);
  metrics_.Observe(calls_, 0.5);
  Add(120);
  ASSERT_EQ(history_.P99Points("p").size(), 2u);
  EXPECT_LE(history_.P99Points("p")[1], 1);
}

TEST_F(MetricHistoryTest, KeepsSoManySeriesAtMost) {
  const auto define = [&](Metrics::Kind kind, const char* name, size_t i) {
    const std::string plugin = "q" + std::to_string(i);
    std::vector<double> bounds;
    if (kind == Metrics::Kind::kHistogram) bounds = {1, 2, 4};
    return *metrics_.Define(kind, name, "x", {{"plugin", plugin}, {"phase", "request_headers"}},
                            std::move(bounds));
  };
  for (size_t i = 0; i < MetricHistory::kSeriesMax + 10; ++i) {
    metrics_.Observe(define(Metrics::Kind::kHistogram, "callout_call_seconds", i), 0.5);
    metrics_.Add(define(Metrics::Kind::kCounter, "callout_calls_total", i), 1);
  }
  Add(100);
  EXPECT_EQ(history_.last()->calls.size(), MetricHistory::kSeriesMax);
  EXPECT_EQ(history_.last()->of_plugin.size(), MetricHistory::kSeriesMax);
  // The sum over all of them is right all the same.
  EXPECT_EQ(history_.Value("callout_calls_total"), MetricHistory::kSeriesMax + 10);
}

TEST(Distribution, QuantileIsInterpolatedInItsBucket) {
  Distribution calls;
  EXPECT_FALSE(calls.Quantile(0.5).has_value());
  calls.count = 100;
  calls.buckets = {{1, 0}, {2, 50}, {4, 100}, {HUGE_VAL, 100}};
  EXPECT_DOUBLE_EQ(*calls.Quantile(0.5), 2);
  EXPECT_DOUBLE_EQ(*calls.Quantile(0.75), 3);
  EXPECT_DOUBLE_EQ(*calls.Quantile(1), 4);
}

TEST(Distribution, WhatIsOverTheLastBoundCountsAsThatBound) {
  Distribution calls;
  calls.count = 10;
  calls.buckets = {{1, 0}, {2, 0}, {HUGE_VAL, 10}};
  EXPECT_DOUBLE_EQ(*calls.Quantile(0.5), 2);
}

// A worker that ended took its counts with it.
TEST_F(MetricHistoryTest, ACounterThatFellIsNoNegativeRate) {
  metrics_.Add(streams_, 100);
  Add(0);
  Metrics anew;
  ASSERT_TRUE(anew.Define(Metrics::Kind::kCounter, "callout_streams_started_total", "x").ok());
  history_.Add(anew.Collect(), 2 * kSecond);
  EXPECT_DOUBLE_EQ(*history_.Rate("callout_streams_started_total"), 0);
}

}  // namespace
}  // namespace callout::host
