// SPDX-License-Identifier: Apache-2.0

// Writes metrics in the text format of OpenMetrics 1.0, with exemplars, for scrapers that ask for
// it. prometheus-cpp writes Prometheus' older format only, which has no exemplars.
//
//   if (WantsOpenMetrics(request.accept)) {
//     response.body = OpenMetricsText(families, exemplars);
//     response.content_type = kOpenMetricsContentType;
//   }
//
// A counter whose name does not end in "_total", as a plugin may define it, is of the type unknown.
//
// Any thread.
#ifndef CALLOUT_HOST_METRICS_OPEN_METRICS_H_
#define CALLOUT_HOST_METRICS_OPEN_METRICS_H_

#include <prometheus/metric_family.h>

#include <string>
#include <string_view>
#include <vector>

#include "host/metrics/metrics.h"

namespace callout::host {

inline constexpr char kOpenMetricsContentType[] =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

// Whether this Accept header asks for it.
bool WantsOpenMetrics(std::string_view accept);

// An exemplar of a bucket that does not exist, or has a value outside of it, is left out; of
// several of a bucket the last counts.
std::string OpenMetricsText(const std::vector<prometheus::MetricFamily>& families,
                            const std::vector<Exemplar>& exemplars);

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_OPEN_METRICS_H_
