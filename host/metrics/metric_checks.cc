#include "host/metrics/metric_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include "host/base/utf8.h"

namespace callout::host {
namespace {

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsName(std::string_view name, bool may_have_colons) {
  if (name.empty() || name.size() > Metrics::kNameBytesMax || IsDigit(name[0])) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return IsNameStart(c) || IsDigit(c) || (may_have_colons && c == ':');
  });
}

absl::Status CheckText(const std::string& metric, const char* what, std::string_view text) {
  if (text.size() > Metrics::kLabelValueBytesMax) {
    return absl::InvalidArgumentError(fmt::format("metric {}: {} of {} bytes; at most {}", metric,
                                                  what, text.size(), Metrics::kLabelValueBytesMax));
  }
  if (!IsUtf8(text)) {
    return absl::InvalidArgumentError(
        fmt::format("metric {}: {} is not UTF-8, as Prometheus needs it", metric, what));
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(const std::string& metric, Metrics::Kind kind,
                         const Metrics::Labels& sorted) {
  for (size_t i = 0; i < sorted.size(); ++i) {
    const std::string& name = sorted[i].first;
    if (!IsName(name, /*may_have_colons=*/false) || name.starts_with("__") ||
        (kind == Metrics::Kind::kHistogram && name == "le")) {
      return absl::InvalidArgumentError(fmt::format(
          "metric {}: label name '{}' does not do; it must match [a-zA-Z_][a-zA-Z0-9_]*, not "
          "start with __, and not be le in a histogram",
          metric, name));
    }
    if (i > 0 && sorted[i - 1].first == name) {
      return absl::InvalidArgumentError(
          fmt::format("metric {}: label {} is given twice", metric, name));
    }
    if (absl::Status status = CheckText(metric, "a label value", sorted[i].second); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBuckets(const std::string& metric, Metrics::Kind kind,
                          const std::vector<double>& buckets) {
  if (kind != Metrics::Kind::kHistogram && !buckets.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("metric {}: a {} has no buckets", metric, MetricKindName(kind)));
  }
  if (buckets.size() > Metrics::kBucketsMax) {
    return absl::InvalidArgumentError(fmt::format("metric {}: {} buckets; at most {}", metric,
                                                  buckets.size(), Metrics::kBucketsMax));
  }
  for (size_t i = 0; i < buckets.size(); ++i) {
    if (!std::isfinite(buckets[i]) || (i > 0 && buckets[i] <= buckets[i - 1])) {
      return absl::InvalidArgumentError(
          fmt::format("metric {}: bucket bound {} is not finite or not above the one before it",
                      metric, buckets[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace

const char* MetricKindName(Metrics::Kind kind) {
  switch (kind) {
    case Metrics::Kind::kCounter:
      return "counter";
    case Metrics::Kind::kGauge:
      return "gauge";
    case Metrics::Kind::kHistogram:
      break;
  }
  return "histogram";
}

absl::Status CheckMetric(Metrics::Kind kind, const std::string& name, const std::string& help,
                         const Metrics::Labels& sorted_labels, const std::vector<double>& buckets) {
  if (!IsName(name, /*may_have_colons=*/true)) {
    return absl::InvalidArgumentError(
        fmt::format("metric name '{}' does not do; it must match [a-zA-Z_:][a-zA-Z0-9_:]* and have "
                    "at most {} bytes",
                    name, Metrics::kNameBytesMax));
  }
  absl::Status status = CheckText(name, "the help text", help);
  if (status.ok()) status = CheckLabels(name, kind, sorted_labels);
  if (status.ok()) status = CheckBuckets(name, kind, buckets);
  return status;
}

}  // namespace callout::host
