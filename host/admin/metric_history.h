// SPDX-License-Identifier: Apache-2.0

// What the page shows of rates: the metrics as they were at its last refreshes.
//
//   history.Add(families, MonotonicNs());
//   const std::optional<double> rate = history.Rate("callout_streams_started_total");
//
// A sample is taken whenever somebody looks, since nobody else needs one: a host without a viewer
// does no work for it. So the first look has no rates, and a later one has those of the time since
// the oldest sample that is kept, five minutes at most.
//
// For one thread at a time.
#ifndef CALLOUT_HOST_ADMIN_METRIC_HISTORY_H_
#define CALLOUT_HOST_ADMIN_METRIC_HISTORY_H_

#include <prometheus/metric_family.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::host {

// A histogram, or the difference of two.
struct Distribution {
  uint64_t count = 0;
  double sum = 0;
  std::vector<std::pair<double, uint64_t>> buckets;  // upper bound, cumulative count

  // By linear interpolation in its bucket; none without a value. What is over the last finite bound
  // counts as that bound.
  std::optional<double> Quantile(double q) const;
  void Add(const Distribution& other);
  // `earlier` is of the same histogram. All of it if that has counted anew since.
  Distribution Since(const Distribution& earlier) const;
};

class MetricHistory {
 public:
  static constexpr uint64_t kSampleGapNs = 1'000'000'000;
  static constexpr uint64_t kSpanNs = 300'000'000'000;
  // Rates and quantiles are of this time, or of less if there are no older samples.
  static constexpr uint64_t kWindowNs = 30'000'000'000;
  // Series of each kind that are kept; of more than these the page shows no rates.
  static constexpr size_t kSeriesMax = 512;

  // A plugin's counts that are not 0, by the label that tells them apart: outcome, kind, status.
  using Counts = std::map<std::string, double>;
  // By plugin and phase, of callout_call_seconds.
  using Calls = std::map<std::pair<std::string, std::string>, Distribution>;

  struct Sample {
    uint64_t time_ns = 0;
    std::map<std::string, double, std::less<>> values;  // counters and gauges, summed over labels
    // By metric and plugin; of the last sample only.
    std::map<std::pair<std::string, std::string>, Counts> of_plugin;
    Calls calls;
    Distribution messages;  // callout_message_seconds of all phases
  };

  // Replaces the last sample if that is not kSampleGapNs old, so that several viewers do not make
  // the history short.
  void Add(const std::vector<prometheus::MetricFamily>& families, uint64_t now_ns);

  // Null before the first Add.
  const Sample* last() const { return samples_.empty() ? nullptr : &samples_.back(); }
  double Value(std::string_view name) const;
  // Since the start: callout_calls_total by outcome, callout_plugin_faults_total by kind,
  // callout_denials_total by status.
  Counts CountsOf(const std::string& name, const std::string& plugin) const;

  // A counter's growth in a second; none with a single sample.
  std::optional<double> Rate(std::string_view name) const;
  // The calls since the window began, or since the start if there is a single sample.
  Calls Recent() const;
  Distribution RecentMessages() const;
  // Seconds that Recent() is of; none if it is of the time since the start.
  std::optional<double> RecentSeconds() const;

  // One point for each pair of neighbouring samples, oldest first, for plots.
  std::vector<double> RatePoints(std::string_view name) const;
  std::vector<double> ValuePoints(std::string_view name) const;
  // The 99th percentile of a plugin's calls, in seconds; 0 where it had none.
  std::vector<double> P99Points(std::string_view plugin) const;
  std::vector<double> MessageP99Points() const;

 private:
  const Sample* WindowStart() const;

  std::deque<Sample> samples_;  // oldest first
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_ADMIN_METRIC_HISTORY_H_
