// SPDX-License-Identifier: Apache-2.0

#include "host/admin/metric_history.h"

#include <algorithm>
#include <cmath>

namespace callout::host {
namespace {

constexpr std::string_view kCallSeconds = "callout_call_seconds";

constexpr std::string_view kMessageSeconds = "callout_message_seconds";

// Counters of plugins, and the label that tells a plugin's apart.
constexpr std::pair<std::string_view, std::string_view> kOfPlugin[] = {
    {"callout_calls_total", "outcome"},
    {"callout_plugin_faults_total", "kind"},
    {"callout_denials_total", "status"},
};

std::string LabelOf(const prometheus::ClientMetric& metric, std::string_view name) {
  for (const auto& label : metric.label) {
    if (label.name == name) return label.value;
  }
  return "";
}

Distribution DistributionOf(const prometheus::ClientMetric::Histogram& histogram) {
  Distribution result;
  result.count = histogram.sample_count;
  result.sum = histogram.sample_sum;
  for (const auto& bucket : histogram.bucket) {
    result.buckets.emplace_back(bucket.upper_bound, bucket.cumulative_count);
  }
  return result;
}

void AddValues(const prometheus::MetricFamily& family, MetricHistory::Sample* sample) {
  const bool is_gauge = family.type == prometheus::MetricType::Gauge;
  double& sum = sample->values[family.name];
  for (const prometheus::ClientMetric& metric : family.metric) {
    sum += is_gauge ? metric.gauge.value : metric.counter.value;
  }
  for (const auto& [name, label] : kOfPlugin) {
    if (family.name != name) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      if (metric.counter.value == 0) continue;
      if (sample->of_plugin.size() >= MetricHistory::kSeriesMax) return;
      sample->of_plugin[{family.name, LabelOf(metric, "plugin")}][LabelOf(metric, label)] +=
          metric.counter.value;
    }
  }
}

void AddCalls(const prometheus::MetricFamily& family, MetricHistory::Calls* calls) {
  for (const prometheus::ClientMetric& metric : family.metric) {
    if (metric.histogram.sample_count == 0) continue;
    if (calls->size() >= MetricHistory::kSeriesMax) return;
    (*calls)[{LabelOf(metric, "plugin"), LabelOf(metric, "phase")}].Add(
        DistributionOf(metric.histogram));
  }
}

double ValueIn(const MetricHistory::Sample& sample, std::string_view name) {
  const auto found = sample.values.find(name);
  return found == sample.values.end() ? 0 : found->second;
}

double SecondsBetween(const MetricHistory::Sample& from, const MetricHistory::Sample& to) {
  return static_cast<double>(to.time_ns - from.time_ns) / 1e9;
}

// A counter never falls; one that did was lost with a worker.
double Growth(const MetricHistory::Sample& from, const MetricHistory::Sample& to,
              std::string_view name) {
  return std::max(ValueIn(to, name) - ValueIn(from, name), 0.0) / SecondsBetween(from, to);
}

// Of one plugin and phase, since `from`.
Distribution CallsSince(const MetricHistory::Sample& from,
                        const MetricHistory::Calls::value_type& now) {
  const auto before = from.calls.find(now.first);
  return before == from.calls.end() ? now.second : now.second.Since(before->second);
}

}  // namespace

std::optional<double> Distribution::Quantile(double q) const {
  if (count == 0) return std::nullopt;
  const double rank = q * static_cast<double>(count);
  double lower = 0;
  uint64_t below = 0;
  for (const auto& [upper, cumulative] : buckets) {
    if (static_cast<double>(cumulative) >= rank && cumulative > below) {
      if (std::isinf(upper)) return lower;
      const double part =
          (rank - static_cast<double>(below)) / static_cast<double>(cumulative - below);
      return lower + (upper - lower) * std::clamp(part, 0.0, 1.0);
    }
    if (!std::isinf(upper)) lower = upper;
    below = cumulative;
  }
  return lower;
}

void Distribution::Add(const Distribution& other) {
  count += other.count;
  sum += other.sum;
  if (buckets.empty()) {
    buckets = other.buckets;
    return;
  }
  if (buckets.size() != other.buckets.size()) return;
  for (size_t i = 0; i < buckets.size(); ++i) buckets[i].second += other.buckets[i].second;
}

Distribution Distribution::Since(const Distribution& earlier) const {
  if (earlier.count > count || earlier.buckets.size() != buckets.size()) return *this;
  Distribution result = *this;
  result.count -= earlier.count;
  result.sum -= earlier.sum;
  for (size_t i = 0; i < buckets.size(); ++i) {
    result.buckets[i].second -= std::min(earlier.buckets[i].second, result.buckets[i].second);
  }
  return result;
}

void MetricHistory::Add(const std::vector<prometheus::MetricFamily>& families, uint64_t now_ns) {
  Sample sample;
  sample.time_ns = now_ns;
  for (const prometheus::MetricFamily& family : families) {
    if (family.name == kCallSeconds) AddCalls(family, &sample.calls);
    if (family.name == kMessageSeconds) {
      for (const prometheus::ClientMetric& metric : family.metric) {
        sample.messages.Add(DistributionOf(metric.histogram));
      }
    }
    if (family.type == prometheus::MetricType::Histogram) continue;
    AddValues(family, &sample);
  }
  if (samples_.size() > 1 && now_ns - samples_[samples_.size() - 2].time_ns < kSampleGapNs) {
    samples_.pop_back();
  }
  if (!samples_.empty() && now_ns <= samples_.back().time_ns) samples_.pop_back();
  if (!samples_.empty()) samples_.back().of_plugin.clear();  // CountsOf reads the last one's
  samples_.push_back(std::move(sample));
  while (now_ns - samples_.front().time_ns > kSpanNs) samples_.pop_front();
}

double MetricHistory::Value(std::string_view name) const {
  return samples_.empty() ? 0 : ValueIn(samples_.back(), name);
}

MetricHistory::Counts MetricHistory::CountsOf(const std::string& name,
                                              const std::string& plugin) const {
  if (samples_.empty()) return {};
  const auto found = samples_.back().of_plugin.find({name, plugin});
  return found == samples_.back().of_plugin.end() ? Counts() : found->second;
}

// Null: there is only one sample.
const MetricHistory::Sample* MetricHistory::WindowStart() const {
  if (samples_.size() < 2) return nullptr;
  const uint64_t now_ns = samples_.back().time_ns;
  for (size_t i = samples_.size() - 1; i-- > 0;) {
    if (now_ns - samples_[i].time_ns >= kWindowNs || i == 0) return &samples_[i];
  }
  return nullptr;
}

std::optional<double> MetricHistory::Rate(std::string_view name) const {
  const Sample* const start = WindowStart();
  if (start == nullptr) return std::nullopt;
  return Growth(*start, samples_.back(), name);
}

MetricHistory::Calls MetricHistory::Recent() const {
  if (samples_.empty()) return {};
  const Sample* const start = WindowStart();
  if (start == nullptr) return samples_.back().calls;
  Calls result;
  for (const auto& calls : samples_.back().calls) result[calls.first] = CallsSince(*start, calls);
  return result;
}

Distribution MetricHistory::RecentMessages() const {
  if (samples_.empty()) return {};
  const Sample* const start = WindowStart();
  const Distribution& now = samples_.back().messages;
  return start == nullptr ? now : now.Since(start->messages);
}

std::optional<double> MetricHistory::RecentSeconds() const {
  const Sample* const start = WindowStart();
  if (start == nullptr) return std::nullopt;
  return SecondsBetween(*start, samples_.back());
}

std::vector<double> MetricHistory::RatePoints(std::string_view name) const {
  std::vector<double> points;
  for (size_t i = 1; i < samples_.size(); ++i) {
    points.push_back(Growth(samples_[i - 1], samples_[i], name));
  }
  return points;
}

std::vector<double> MetricHistory::ValuePoints(std::string_view name) const {
  std::vector<double> points;
  for (const Sample& sample : samples_) points.push_back(ValueIn(sample, name));
  return points;
}

std::vector<double> MetricHistory::P99Points(std::string_view plugin) const {
  const Calls::key_type first_phase{plugin, ""};
  std::vector<double> points;
  for (size_t i = 1; i < samples_.size(); ++i) {
    Distribution all;
    const Calls& calls = samples_[i].calls;
    for (auto of = calls.lower_bound(first_phase); of != calls.end() && of->first.first == plugin;
         ++of) {
      all.Add(CallsSince(samples_[i - 1], *of));
    }
    points.push_back(all.Quantile(0.99).value_or(0));
  }
  return points;
}

std::vector<double> MetricHistory::MessageP99Points() const {
  std::vector<double> points;
  for (size_t i = 1; i < samples_.size(); ++i) {
    const Distribution messages = samples_[i].messages.Since(samples_[i - 1].messages);
    points.push_back(messages.Quantile(0.99).value_or(0));
  }
  return points;
}

}  // namespace callout::host
