// What a metric must look like for Prometheus to read it: the checks of
// Metrics::Define that need no state. Any thread.
#ifndef CALLOUT_HOST_METRICS_METRIC_CHECKS_H_
#define CALLOUT_HOST_METRICS_METRIC_CHECKS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "host/metrics/metrics.h"

namespace callout::host {

// "counter", "gauge" or "histogram".
const char* MetricKindName(Metrics::Kind kind);

// INVALID_ARGUMENT, saying what does not do and what would, if Metrics::Define
// must refuse these.
absl::Status CheckMetric(Metrics::Kind kind, const std::string& name, const std::string& help,
                         const Metrics::Labels& sorted_labels, const std::vector<double>& buckets);

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_METRIC_CHECKS_H_
