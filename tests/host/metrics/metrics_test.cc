// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <latch>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "host/metrics/host_names.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Kind = Metrics::Kind;

Metrics::Id Defined(Metrics& metrics, Kind kind, const std::string& name,
                    Metrics::Labels labels = {}, std::vector<double> buckets = {}) {
  absl::StatusOr<Metrics::Id> id =
      metrics.Define(kind, name, "Help.", std::move(labels), std::move(buckets));
  EXPECT_TRUE(id.ok()) << id.status();
  return id.ok() ? *id : 0;
}

absl::Status RefusalOf(Metrics& metrics, Kind kind, const std::string& name,
                       Metrics::Labels labels = {}, std::vector<double> buckets = {},
                       const std::string& help = "Help.") {
  return metrics.Define(kind, name, help, std::move(labels), std::move(buckets)).status();
}

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST(Metrics, TextIsPrometheusFormat) {
  Metrics metrics;
  const auto counter = Defined(metrics, Kind::kCounter, "a_total", {{"plugin", "x\"y\\z\nw"}});
  const auto gauge = Defined(metrics, Kind::kGauge, "b");
  const auto histogram = Defined(metrics, Kind::kHistogram, "c_seconds", {}, {0.5, 2});
  metrics.Add(counter);
  metrics.Add(counter, 2.5);
  metrics.Set(gauge, -3);
  metrics.Observe(histogram, 0.25);
  metrics.Observe(histogram, 4);
  EXPECT_EQ(metrics.Text(),
            "# HELP a_total Help.\n"
            "# TYPE a_total counter\n"
            "a_total{plugin=\"x\\\"y\\\\z\\nw\"} 3.5\n"
            "# HELP b Help.\n"
            "# TYPE b gauge\n"
            "b -3\n"
            "# HELP c_seconds Help.\n"
            "# TYPE c_seconds histogram\n"
            "c_seconds_count 2\n"
            "c_seconds_sum 4.25\n"
            "c_seconds_bucket{le=\"0.5\"} 1\n"
            "c_seconds_bucket{le=\"2\"} 1\n"
            "c_seconds_bucket{le=\"+Inf\"} 2\n");
}

TEST(Metrics, HelpCannotBreakThePage) {
  Metrics metrics;
  ASSERT_TRUE(metrics.Define(Kind::kCounter, "a_total", "one\\two\nevil_total 7").ok());
  EXPECT_THAT(metrics.Text(), HasSubstr("# HELP a_total one\\\\two\\nevil_total 7\n"));
}

TEST(Metrics, SameKindNameAndLabelsGiveTheSameId) {
  Metrics metrics;
  const auto id = Defined(metrics, Kind::kCounter, "a_total", {{"x", "1"}, {"y", "2"}});
  EXPECT_EQ(Defined(metrics, Kind::kCounter, "a_total", {{"y", "2"}, {"x", "1"}}), id);
  EXPECT_NE(Defined(metrics, Kind::kCounter, "a_total", {{"x", "2"}, {"y", "2"}}), id);
  EXPECT_NE(id, 0u);
}

TEST(Metrics, RefusesANameInUseForSomethingElse) {
  Metrics metrics;
  Defined(metrics, Kind::kCounter, "a_total", {{"x", "1"}});
  Defined(metrics, Kind::kHistogram, "h", {}, {1, 2});
  for (const absl::Status& status :
       {RefusalOf(metrics, Kind::kGauge, "a_total", {{"x", "1"}}),
        RefusalOf(metrics, Kind::kCounter, "a_total", {{"y", "1"}}),
        RefusalOf(metrics, Kind::kCounter, "a_total"), RefusalOf(metrics, Kind::kHistogram, "h"),
        RefusalOf(metrics, Kind::kCounter, "h_count")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  }
  EXPECT_EQ(MessageOf(RefusalOf(metrics, Kind::kCounter, "h_sum")),
            "metric h_sum would produce lines named h_sum, as metric h does");
}

TEST(Metrics, RefusesNamesOutsideTheGrammar) {
  Metrics metrics;
  Defined(metrics, Kind::kCounter, "_:aZ9");
  for (const char* name : {"", "9a", "a-b", "a b", "a.b", "\xc3\xa4"}) {
    EXPECT_EQ(RefusalOf(metrics, Kind::kCounter, name).code(), absl::StatusCode::kInvalidArgument)
        << name;
  }
  for (const char* label : {"", "9a", "a:b", "a-b", "__a"}) {
    EXPECT_EQ(RefusalOf(metrics, Kind::kCounter, "a", {{label, "v"}}).code(),
              absl::StatusCode::kInvalidArgument)
        << label;
  }
  EXPECT_THAT(MessageOf(RefusalOf(metrics, Kind::kCounter, "a", {{"x", "1"}, {"x", "2"}})),
              HasSubstr("label x is given twice"));
  EXPECT_FALSE(RefusalOf(metrics, Kind::kHistogram, "a", {{"le", "1"}}).ok());
  Defined(metrics, Kind::kCounter, "b_total", {{"le", "1"}});
}

TEST(Metrics, NamesAndTextsHaveALongestLength) {
  Metrics metrics;
  const std::string longest_name(Metrics::kNameBytesMax, 'a');
  const std::string longest_text(Metrics::kLabelValueBytesMax, 'v');
  Defined(metrics, Kind::kCounter, longest_name, {{longest_name, longest_text}});
  EXPECT_FALSE(RefusalOf(metrics, Kind::kCounter, longest_name + "a").ok());
  EXPECT_FALSE(RefusalOf(metrics, Kind::kCounter, "b", {{longest_name + "a", ""}}).ok());
  EXPECT_FALSE(RefusalOf(metrics, Kind::kCounter, "b", {{"x", longest_text + "v"}}).ok());
  EXPECT_FALSE(RefusalOf(metrics, Kind::kCounter, "b", {}, {}, longest_text + "v").ok());
}

TEST(Metrics, RefusesTextThatIsNotUtf8) {
  Metrics metrics;
  for (const char* text : {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\xe2\x82", "\xff"}) {
    EXPECT_EQ(RefusalOf(metrics, Kind::kCounter, "a", {{"x", text}}).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(RefusalOf(metrics, Kind::kCounter, "a", {}, {}, text).ok());
  }
  Defined(metrics, Kind::kCounter, "a",
          {{"x", "z\xc3\xa4\xe2\x82\xac\xed\x9f\xbf\xf0\x9f\x99\x82"}});
}

TEST(Metrics, RefusesBucketsThatDoNotRise) {
  Metrics metrics;
  const double inf = std::numeric_limits<double>::infinity();
  for (const std::vector<double>& buckets :
       {std::vector<double>{1, 1}, {2, 1}, {1, inf}, {std::nan("")}, {-inf, 0}}) {
    EXPECT_FALSE(RefusalOf(metrics, Kind::kHistogram, "h", {}, buckets).ok());
  }
  EXPECT_FALSE(RefusalOf(metrics, Kind::kCounter, "c", {}, {1}).ok());
  std::vector<double> most(Metrics::kBucketsMax);
  for (size_t i = 0; i < most.size(); ++i) most[i] = static_cast<double>(i);
  Defined(metrics, Kind::kHistogram, "h", {}, most);
  most.push_back(1e6);
  EXPECT_FALSE(RefusalOf(metrics, Kind::kHistogram, "h2", {}, most).ok());
}

TEST(Metrics, BucketBoundsAreInclusive) {
  Metrics metrics;
  const auto id = Defined(metrics, Kind::kHistogram, "h", {}, {1, 2});
  for (double value : {1.0, 1.5, 2.0, 2.5, -7.0}) metrics.Observe(id, value);
  EXPECT_THAT(metrics.Text(), HasSubstr("h_bucket{le=\"1\"} 2\n"
                                        "h_bucket{le=\"2\"} 4\n"
                                        "h_bucket{le=\"+Inf\"} 5\n"));
}

TEST(Metrics, HistogramsHaveLatencyBucketsByDefault) {
  Metrics metrics;
  Defined(metrics, Kind::kHistogram, "h");
  EXPECT_THAT(metrics.Text(), HasSubstr("h_bucket{le=\"1e-05\"} 0\n"));
  EXPECT_THAT(metrics.Text(), HasSubstr("h_bucket{le=\"10\"} 0\nh_bucket{le=\"+Inf\"} 0\n"));
}

TEST(Metrics, IgnoresWhatACounterOrHistogramCannotHold) {
  Metrics metrics;
  const auto counter = Defined(metrics, Kind::kCounter, "c");
  const auto histogram = Defined(metrics, Kind::kHistogram, "h");
  const double inf = std::numeric_limits<double>::infinity();
  for (double value : {inf, -inf, std::nan("")}) {
    metrics.Add(counter, value);
    metrics.Observe(histogram, value);
  }
  metrics.Add(counter, -1);
  EXPECT_THAT(metrics.Text(), HasSubstr("\nc 0\n"));
  EXPECT_THAT(metrics.Text(), HasSubstr("\nh_count 0\nh_sum 0\n"));
}

TEST(Metrics, IgnoresRecordingInAWayNotOfTheKindAndToIdZero) {
  Metrics metrics;
  const auto counter = Defined(metrics, Kind::kCounter, "c");
  const auto gauge = Defined(metrics, Kind::kGauge, "g");
  const auto histogram = Defined(metrics, Kind::kHistogram, "h");
  const std::string before = metrics.Text();
  metrics.Set(counter, 5);
  metrics.Observe(counter, 5);
  metrics.Observe(gauge, 5);
  metrics.Add(histogram, 5);
  metrics.Set(histogram, 5);
  metrics.Add(0);
  metrics.Set(0, 5);
  metrics.Observe(0, 5);
  EXPECT_EQ(metrics.Text(), before);
}

TEST(Metrics, GaugesAreOneValueForAllThreads) {
  Metrics metrics;
  const auto id = Defined(metrics, Kind::kGauge, "g");
  metrics.Set(id, 10);
  std::thread([&] { metrics.Add(id, -3); }).join();
  std::thread([&] { metrics.Add(id, 1); }).join();
  EXPECT_THAT(metrics.Text(), HasSubstr("\ng 8\n"));
}

TEST(Metrics, SeriesStopAtTheLimit) {
  Metrics metrics;
  for (size_t i = 0; i < Metrics::kSeriesMax; ++i) {
    ASSERT_TRUE(metrics.Define(Kind::kCounter, "c", "", {{"i", std::to_string(i)}}).ok()) << i;
  }
  const absl::Status status = RefusalOf(metrics, Kind::kCounter, "c", {{"i", "more"}});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MessageOf(status),
            "metric c: 100000 series in use, 1 more would exceed the limit of 100000; use labels "
            "with fewer values");
  EXPECT_FALSE(RefusalOf(metrics, Kind::kGauge, "g").ok());
  const auto last = Defined(metrics, Kind::kCounter, "c", {{"i", "99999"}});
  metrics.Add(last, 7);
  EXPECT_THAT(metrics.Text(), HasSubstr("\nc{i=\"99999\"} 7\n"));
}

TEST(Metrics, AHistogramCountsAsTheLinesItMakes) {
  Metrics metrics(/*series_max=*/10);
  Defined(metrics, Kind::kHistogram, "h", {}, {1, 2});
  Defined(metrics, Kind::kHistogram, "h2", {}, {1, 2});
  EXPECT_EQ(RefusalOf(metrics, Kind::kGauge, "g").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("# TYPE g")));
}

TEST(Metrics, ARefusedDefinitionLeavesNothingBehind) {
  Metrics metrics(/*series_max=*/4);
  EXPECT_FALSE(RefusalOf(metrics, Kind::kHistogram, "x", {}, {1, 2}).ok());
  EXPECT_EQ(metrics.Text(), "");
  Defined(metrics, Kind::kCounter, "x");
}

TEST(Metrics, SumsOfAllThreadsAreExactWhileTextIsRead) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 20000;
  Metrics metrics;
  const auto counter = Defined(metrics, Kind::kCounter, "c");
  const auto gauge = Defined(metrics, Kind::kGauge, "g");
  const auto histogram = Defined(metrics, Kind::kHistogram, "h", {}, {1, 2});
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done.load()) EXPECT_THAT(metrics.Text(), HasSubstr("h_count"));
  });
  std::vector<std::thread> writers;
  for (int i = 0; i < kThreads; ++i) {
    writers.emplace_back([&, i] {
      const auto own = Defined(metrics, Kind::kCounter, "own", {{"i", std::to_string(i)}});
      for (int round = 0; round < kRounds; ++round) {
        metrics.Add(counter);
        metrics.Add(own, 2);
        metrics.Add(gauge, round % 2 == 0 ? 1 : -1);
        metrics.Observe(histogram, round % 3);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  done = true;
  reader.join();
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("\nc 80000\n"));
  EXPECT_THAT(text, HasSubstr("\ng 0\n"));
  EXPECT_THAT(text, HasSubstr("\nh_count 80000\n"));
  for (int i = 0; i < kThreads; ++i) {
    EXPECT_THAT(text, HasSubstr("\nown{i=\"" + std::to_string(i) + "\"} 40000\n"));
  }
}

TEST(Metrics, ShardsOfDeadThreadsKeepTheirCountsAndAreUsedAgain) {
  Metrics metrics;
  const auto id = Defined(metrics, Kind::kCounter, "c");
  for (int i = 0; i < 100; ++i) std::thread([&] { metrics.Add(id); }).join();
  EXPECT_EQ(metrics.shard_count(), 1u);
  EXPECT_THAT(metrics.Text(), HasSubstr("\nc 100\n"));

  std::latch all_counted(3);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      metrics.Add(id);
      all_counted.arrive_and_wait();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(metrics.shard_count(), 3u);
  EXPECT_THAT(metrics.Text(), HasSubstr("\nc 103\n"));
}

TEST(Metrics, OneThreadMayCountInSeveralObjects) {
  Metrics one;
  Metrics two;
  const auto in_one = Defined(one, Kind::kCounter, "c");
  const auto in_two = Defined(two, Kind::kCounter, "c");
  for (int i = 0; i < 10; ++i) {
    one.Add(in_one);
    two.Add(in_two, 2);
  }
  EXPECT_EQ(one.shard_count(), 1u);
  EXPECT_THAT(one.Text(), HasSubstr("\nc 10\n"));
  EXPECT_THAT(two.Text(), HasSubstr("\nc 20\n"));
}

TEST(Metrics, AThreadMayOutliveTheObject) {
  std::optional<Metrics> metrics;
  std::latch counted(1);
  std::latch destroyed(1);
  metrics.emplace();
  const auto id = Defined(*metrics, Kind::kCounter, "c");
  std::thread thread([&] {
    metrics->Add(id);
    counted.count_down();
    destroyed.wait();
    Metrics next;  // the next object does not mistake the old one's shard for its own
    const auto next_id = Defined(next, Kind::kCounter, "c");
    next.Add(next_id);
    EXPECT_THAT(next.Text(), HasSubstr("\nc 1\n"));
  });
  counted.wait();
  metrics.reset();
  destroyed.count_down();
  thread.join();
}

// As a plugin's thread_local object whose destructor records a last value: it
// was made before the thread's first count, so it goes after our own.
struct CountsWhenDestroyed {
  ~CountsWhenDestroyed() {
    if (metrics != nullptr) metrics->Add(id, 5);
  }
  Metrics* metrics = nullptr;
  Metrics::Id id = 0;
};
thread_local CountsWhenDestroyed t_counts_when_destroyed;

TEST(Metrics, CountsFromDestructorsThatRunAfterTheThreadGaveItsShardBack) {
  Metrics metrics;
  const auto id = Defined(metrics, Kind::kCounter, "c");
  for (int i = 0; i < 2; ++i) {
    std::thread([&] {
      t_counts_when_destroyed.metrics = &metrics;
      t_counts_when_destroyed.id = id;
      metrics.Add(id);
    }).join();
  }
  EXPECT_THAT(metrics.Text(), HasSubstr("\nc 12\n"));
  EXPECT_EQ(metrics.shard_count(), 1u);
}

TEST(HostNames, AreThoseOfTheDocument) {
  // As the compiler was given this file's path: from the build's directory.
  const auto tests = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
  const auto path = tests.parent_path() / "docs" / "metrics.md";
  std::ifstream file(path);
  ASSERT_TRUE(file.is_open()) << path << "; run this in the build's directory";
  std::set<std::string> names;
  constexpr std::string_view kRow = "| `callout_";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kRow)) names.insert(line.substr(3, line.find('`', 3) - 3));
  }
  EXPECT_EQ(names, (std::set<std::string>(kHostMetrics.begin(), kHostMetrics.end())));
  EXPECT_TRUE(std::is_sorted(kHostMetrics.begin(), kHostMetrics.end()));
}

TEST(HostNames, AreNoOthersNorTheLinesOfItsHistograms) {
  EXPECT_TRUE(IsHostMetric("callout_denials_total"));
  EXPECT_TRUE(IsHostMetric("callout_call_seconds_bucket"));
  EXPECT_FALSE(IsHostMetric("callout_denied_total"));
  EXPECT_FALSE(IsHostMetric("denials_total"));
  EXPECT_FALSE(IsHostMetric(""));
}

}  // namespace
}  // namespace callout::host
