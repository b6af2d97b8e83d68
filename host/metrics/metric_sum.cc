// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/metric_sum.h"

#include <prometheus/metric_type.h>

#include <algorithm>

#include "host/metrics/metrics.h"

namespace callout::host {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

void AddHistogram(const ClientMetric::Histogram& from, ClientMetric::Histogram* to) {
  const bool fits =
      std::equal(from.bucket.begin(), from.bucket.end(), to->bucket.begin(), to->bucket.end(),
                 [](const auto& a, const auto& b) { return a.upper_bound == b.upper_bound; });
  if (!fits) return;
  to->sample_count += from.sample_count;
  to->sample_sum += from.sample_sum;
  for (size_t i = 0; i < from.bucket.size(); ++i) {
    to->bucket[i].cumulative_count += from.bucket[i].cumulative_count;
  }
}

}  // namespace

void MetricSum::Add(const std::vector<MetricFamily>& families) {
  for (const MetricFamily& from : families) {
    const auto [family, is_new] = families_.try_emplace(from.name);
    Family& to = family->second;
    if (is_new) {
      to.help = from.help;
      to.type = from.type;
    }
    if (to.type != from.type) continue;
    for (const ClientMetric& metric : from.metric) {
      const bool is_known = to.series.count(metric.label) > 0;
      if (!is_known && series_count_ >= Metrics::kSeriesMax) continue;
      const auto [series, is_first] = to.series.try_emplace(metric.label, metric);
      if (is_first) ++series_count_;
      if (is_first) continue;
      series->second.counter.value += metric.counter.value;
      series->second.gauge.value += metric.gauge.value;
      AddHistogram(metric.histogram, &series->second.histogram);
    }
  }
}

std::vector<MetricFamily> MetricSum::Get() const {
  std::vector<MetricFamily> families;
  for (const auto& [name, family] : families_) {
    MetricFamily& out = families.emplace_back();
    out.name = name;
    out.help = family.help;
    out.type = family.type;
    for (const auto& [labels, metric] : family.series) out.metric.push_back(metric);
  }
  return families;
}

}  // namespace callout::host
