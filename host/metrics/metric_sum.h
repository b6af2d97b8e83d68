// SPDX-License-Identifier: Apache-2.0

// Adds up the metrics of several processes, as if one process had counted.
//
//   MetricSum sum;
//   for (const auto& families : collected) sum.Add(families);
//   std::string page = MetricsText(sum.Get());
//
// Series of the same name and labels become one: counters and gauges are added,
// histograms bucket by bucket. If two series do not match (another kind, other
// buckets), the first one stays.
//
// For one thread.
#ifndef CALLOUT_HOST_METRICS_METRIC_SUM_H_
#define CALLOUT_HOST_METRICS_METRIC_SUM_H_

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace callout::host {

class MetricSum {
 public:
  // Keeps at most Metrics::kSeriesMax series; further ones are left out.
  void Add(const std::vector<prometheus::MetricFamily>& families);
  // By name, then by labels.
  std::vector<prometheus::MetricFamily> Get() const;

 private:
  struct Family {
    std::string help;
    prometheus::MetricType type = prometheus::MetricType::Untyped;
    std::map<std::vector<prometheus::ClientMetric::Label>, prometheus::ClientMetric> series;
  };
  std::map<std::string, Family> families_;
  size_t series_count_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_METRIC_SUM_H_
