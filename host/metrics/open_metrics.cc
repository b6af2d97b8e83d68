// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/open_metrics.h"

#include <fmt/format.h>
#include <prometheus/client_metric.h>
#include <prometheus/metric_type.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

#include "host/base/ascii.h"

namespace callout::host {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::string_view kTotal = "_total";
using LabelList = std::vector<std::pair<std::string, std::string>>;
using ExemplarKey = std::tuple<std::string, std::map<std::string, std::string>, size_t>;
using ExemplarMap = std::map<ExemplarKey, const Exemplar*>;

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

// Of a bound: OpenMetrics wants "1.0" rather than "1".
std::string Bound(double value) {
  std::string text = Number(value);
  if (text.find_first_not_of("0123456789") == text.npos) text += ".0";
  return text;
}

std::string Escape(std::string_view value) {
  std::string escaped;
  for (const char c : value) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// {a="b",le="1.0"}, or nothing.
std::string LabelText(const LabelList& labels, std::string_view le = {}) {
  std::string text;
  const auto add = [&text](std::string_view name, std::string_view value) {
    fmt::format_to(std::back_inserter(text), "{}{}=\"{}\"", text.empty() ? "{" : ",", name,
                   Escape(value));
  };
  for (const auto& [name, value] : labels) add(name, value);
  if (!le.empty()) add("le", le);
  return text.empty() ? text : text + "}";
}

LabelList LabelsOf(const ClientMetric& metric) {
  LabelList labels;
  for (const auto& label : metric.label) labels.emplace_back(label.name, label.value);
  return labels;
}

// " # {trace_id="4bf9…"} 0.08", or nothing.
std::string ExemplarText(const ExemplarMap& exemplars, const ExemplarKey& key, double over,
                         double bound) {
  const auto found = exemplars.find(key);
  if (found == exemplars.end()) return "";
  const Exemplar& exemplar = *found->second;
  if (!(exemplar.value <= bound) || !(exemplar.value > over)) return "";
  return fmt::format(" # {{trace_id=\"{}\"}} {}", Escape(exemplar.trace_id),
                     Number(exemplar.value));
}

void AddHistogram(const std::string& name, const ClientMetric& metric, const ExemplarMap& exemplars,
                  std::string* text) {
  const LabelList labels = LabelsOf(metric);
  const std::map<std::string, std::string> key(labels.begin(), labels.end());
  double over = -HUGE_VAL;
  for (size_t i = 0; i < metric.histogram.bucket.size(); ++i) {
    const ClientMetric::Bucket& bucket = metric.histogram.bucket[i];
    fmt::format_to(std::back_inserter(*text), "{}_bucket{} {}{}\n", name,
                   LabelText(labels, Bound(bucket.upper_bound)), bucket.cumulative_count,
                   ExemplarText(exemplars, {name, key, i}, over, bucket.upper_bound));
    over = bucket.upper_bound;
  }
  fmt::format_to(std::back_inserter(*text), "{0}_count{1} {2}\n{0}_sum{1} {3}\n", name,
                 LabelText(labels), metric.histogram.sample_count,
                 Number(metric.histogram.sample_sum));
}

// Of a counter in OpenMetrics: its name without "_total".
std::string_view CounterName(const MetricFamily& family) {
  const std::string_view name = family.name;
  const bool is_total = family.type == MetricType::Counter && name.ends_with(kTotal);
  return is_total ? name.substr(0, name.size() - kTotal.size()) : std::string_view();
}

// `names`: of all families, each of which may be there once.
void AddFamily(const MetricFamily& family, const std::set<std::string_view>& names,
               const ExemplarMap& exemplars, std::string* text) {
  const std::string_view counter = CounterName(family);
  const bool is_total = !counter.empty() && !names.contains(counter);
  const std::string name(is_total ? counter : family.name);
  const char* const type = is_total                               ? "counter"
                           : family.type == MetricType::Gauge     ? "gauge"
                           : family.type == MetricType::Histogram ? "histogram"
                                                                  : "unknown";
  // Help texts are escaped for the older format, in which a quotation mark stands for itself.
  std::string help;
  for (const char c : family.help) help += c == '"' ? std::string("\\\"") : std::string(1, c);
  fmt::format_to(std::back_inserter(*text), "# TYPE {0} {1}\n# HELP {0} {2}\n", name, type, help);
  for (const ClientMetric& metric : family.metric) {
    if (family.type == MetricType::Histogram) {
      AddHistogram(name, metric, exemplars, text);
      continue;
    }
    const double value =
        family.type == MetricType::Gauge ? metric.gauge.value : metric.counter.value;
    fmt::format_to(std::back_inserter(*text), "{}{} {}\n", family.name, LabelText(LabelsOf(metric)),
                   Number(value));
  }
}

// "q=0.5" of a media range; 1 without one.
double WeightOf(std::string_view range) {
  const size_t at = range.find(";q=");
  if (at == range.npos) return 1;
  const std::string_view digits = range.substr(at + 3, range.find(';', at + 1) - (at + 3));
  return digits.find_first_of("123456789") == digits.npos ? 0 : 1;
}

}  // namespace

bool WantsOpenMetrics(std::string_view accept) {
  constexpr std::string_view kType = "application/openmetrics-text";
  while (!accept.empty()) {
    std::string_view range = accept.substr(0, accept.find(','));
    accept.remove_prefix(std::min(range.size() + 1, accept.size()));
    while (!range.empty() && range.front() == ' ') range.remove_prefix(1);
    const std::string_view type = range.substr(0, range.find_first_of("; "));
    if (EqualsIgnoreCase(type, kType) && WeightOf(range) > 0) return true;
  }
  return false;
}

std::string OpenMetricsText(const std::vector<MetricFamily>& families,
                            const std::vector<Exemplar>& exemplars) {
  ExemplarMap by_bucket;
  for (const Exemplar& exemplar : exemplars) {
    by_bucket[{exemplar.name, exemplar.labels, exemplar.bucket}] = &exemplar;
  }
  std::string text;
  std::set<std::string_view> names;
  for (const MetricFamily& family : families) names.insert(family.name);
  for (const MetricFamily& family : families) AddFamily(family, names, by_bucket, &text);
  return text + "# EOF\n";
}

}  // namespace callout::host
