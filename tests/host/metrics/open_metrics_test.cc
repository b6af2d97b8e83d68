// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/open_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";

TEST(OpenMetrics, IsWrittenByItsRules) {
  Metrics metrics;
  metrics.Add(*metrics.Define(Metrics::Kind::kCounter, "a_total", "Says \"a\"."), 2);
  metrics.Add(*metrics.Define(Metrics::Kind::kCounter, "b", "No total."), 3);
  metrics.Set(*metrics.Define(Metrics::Kind::kGauge, "c", "Gauge.", {{"l", "x\"y\\z\n"}}), 0.5);
  const auto histogram =
      *metrics.Define(Metrics::Kind::kHistogram, "d", "Times.", {{"l", "v"}}, {0.5, 1});
  metrics.Observe(histogram, 0.75);
  EXPECT_EQ(OpenMetricsText(metrics.Collect(), {}),
            "# TYPE a counter\n"
            "# HELP a Says \\\"a\\\".\n"
            "a_total 2\n"
            "# TYPE b unknown\n"
            "# HELP b No total.\n"
            "b 3\n"
            "# TYPE c gauge\n"
            "# HELP c Gauge.\n"
            "c{l=\"x\\\"y\\\\z\\n\"} 0.5\n"
            "# TYPE d histogram\n"
            "# HELP d Times.\n"
            "d_bucket{l=\"v\",le=\"0.5\"} 0\n"
            "d_bucket{l=\"v\",le=\"1.0\"} 1\n"
            "d_bucket{l=\"v\",le=\"+Inf\"} 1\n"
            "d_count{l=\"v\"} 1\n"
            "d_sum{l=\"v\"} 0.75\n"
            "# EOF\n");
}

// In OpenMetrics a counter's name has no "_total", and each name is there once.
TEST(OpenMetrics, ACounterWhoseNameAGaugeHasKeepsItsWholeName) {
  Metrics metrics;
  metrics.Set(*metrics.Define(Metrics::Kind::kGauge, "calls", "Now."), 1);
  metrics.Add(*metrics.Define(Metrics::Kind::kCounter, "calls_total", "Ever."), 2);
  const std::string text = OpenMetricsText(metrics.Collect(), {});
  EXPECT_THAT(text, HasSubstr("# TYPE calls gauge\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE calls_total unknown\n"));
  EXPECT_THAT(text, HasSubstr("\ncalls_total 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("# TYPE calls counter")));
}

TEST(OpenMetrics, HasTheTraceOfAValueInItsBucket) {
  Metrics metrics;
  const auto histogram = *metrics.Define(Metrics::Kind::kHistogram, "d", "Times.", {}, {0.5, 1});
  metrics.KeepExemplars(histogram);
  int asked = 0;
  const auto trace = [&asked] {
    ++asked;
    return std::string_view(kTrace);
  };
  metrics.Observe(histogram, 0.75, 1, trace);
  EXPECT_EQ(asked, 1);
  const std::string text = OpenMetricsText(metrics.Collect(), metrics.CollectExemplars());
  EXPECT_THAT(text, HasSubstr("d_bucket{le=\"0.5\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(std::string("d_bucket{le=\"1.0\"} 1 # {trace_id=\"") + kTrace +
                              "\"} 0.75\n"));
  EXPECT_THAT(text, HasSubstr("d_bucket{le=\"+Inf\"} 1\n"));
  // Within a second nobody is asked again, and another bucket has an exemplar of its own.
  metrics.Observe(histogram, 0.8, 1 + Metrics::kExemplarNs / 2, trace);
  EXPECT_EQ(asked, 1);
  metrics.Observe(histogram, 0.1, 1 + Metrics::kExemplarNs / 2, trace);
  EXPECT_EQ(asked, 2);
  metrics.Observe(histogram, 0.9, 1 + Metrics::kExemplarNs, trace);
  EXPECT_EQ(asked, 3);
  EXPECT_THAT(OpenMetricsText(metrics.Collect(), metrics.CollectExemplars()),
              HasSubstr("\"} 0.9\n"));
}

TEST(OpenMetrics, HasNoExemplarWithoutATraceAndNoneThatIsNonsense) {
  Metrics metrics;
  const auto histogram = *metrics.Define(Metrics::Kind::kHistogram, "d", "Times.", {}, {0.5, 1});
  metrics.KeepExemplars(histogram);
  metrics.Observe(histogram, 0.75, 1, [] { return std::string_view(); });
  EXPECT_TRUE(metrics.CollectExemplars().empty());
  // From a worker.
  const std::vector<Exemplar> nonsense = {
      {"d", {}, 0, "outside", 0.75}, {"d", {}, 7, "beyond", 0.75}, {"e", {}, 0, "unknown", 0.75}};
  EXPECT_THAT(OpenMetricsText(metrics.Collect(), nonsense), Not(HasSubstr("#  {trace")));
  EXPECT_THAT(OpenMetricsText(metrics.Collect(), nonsense), Not(HasSubstr("trace_id")));
}

TEST(OpenMetrics, IsForThoseWhoAskForIt) {
  for (const char* accept :
       {"application/openmetrics-text", "application/openmetrics-text; version=1.0.0",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
        "text/plain, Application/OpenMetrics-Text;q=0.1"}) {
    EXPECT_TRUE(WantsOpenMetrics(accept)) << accept;
  }
  for (const char* accept : {"", "*/*", "text/plain", "application/openmetrics-text;q=0",
                             "application/openmetrics-textile", ",,;"}) {
    EXPECT_FALSE(WantsOpenMetrics(accept)) << accept;
  }
}

}  // namespace
}  // namespace callout::host
