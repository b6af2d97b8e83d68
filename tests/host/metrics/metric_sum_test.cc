// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/metric_sum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "host/metrics/metrics.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Page(const MetricSum& sum) { return MetricsText(sum.Get()); }

TEST(MetricSum, AddsCountersAndGaugesOfTheSameLabels) {
  Metrics one, two;
  for (Metrics* metrics : {&one, &two}) {
    metrics->Add(*metrics->Define(Metrics::Kind::kCounter, "c", "Help.", {{"a", "x"}}), 2);
    metrics->Set(*metrics->Define(Metrics::Kind::kGauge, "g", "Help."), 5);
  }
  two.Add(*two.Define(Metrics::Kind::kCounter, "c", "Help.", {{"a", "y"}}), 7);
  MetricSum sum;
  sum.Add(one.Collect());
  sum.Add(two.Collect());
  const std::string page = Page(sum);
  EXPECT_THAT(page, HasSubstr("# HELP c Help.\n# TYPE c counter\n"));
  EXPECT_THAT(page, HasSubstr("c{a=\"x\"} 4\n"));
  EXPECT_THAT(page, HasSubstr("c{a=\"y\"} 7\n"));
  EXPECT_THAT(page, HasSubstr("g 10\n"));
}

TEST(MetricSum, AddsHistogramsBucketByBucket) {
  Metrics one, two;
  for (Metrics* metrics : {&one, &two}) {
    metrics->Observe(*metrics->Define(Metrics::Kind::kHistogram, "h", "Help.", {}, {1, 2}), 1.5);
  }
  one.Observe(*one.Define(Metrics::Kind::kHistogram, "h", "Help.", {}, {1, 2}), 0.5);
  MetricSum sum;
  sum.Add(one.Collect());
  sum.Add(two.Collect());
  const std::string page = Page(sum);
  EXPECT_THAT(page, HasSubstr("h_bucket{le=\"1\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("h_bucket{le=\"2\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("h_bucket{le=\"+Inf\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("h_count 3\n"));
  EXPECT_THAT(page, HasSubstr("h_sum 3.5\n"));
}

TEST(MetricSum, LeavesOutWhatDoesNotFit) {
  Metrics one, two, three;
  one.Observe(*one.Define(Metrics::Kind::kHistogram, "h", "Help.", {}, {1, 2}), 1);
  two.Observe(*two.Define(Metrics::Kind::kHistogram, "h", "Help.", {}, {1, 3}), 1);
  three.Add(*three.Define(Metrics::Kind::kCounter, "h", "Help."), 1);
  MetricSum sum;
  for (const Metrics* metrics : {&one, &two, &three}) sum.Add(metrics->Collect());
  EXPECT_THAT(Page(sum), HasSubstr("h_count 1\n"));
}

}  // namespace
}  // namespace callout::host
