// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_messages.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "host/base/log.h"
#include "host/explain/explanation.h"
#include "host/metrics/metrics.h"

namespace callout::host {

WorkerReply AnswerOf(const absl::Status& status) {
  return {static_cast<int32_t>(status.code()), std::string(status.message()), ""};
}

absl::StatusOr<std::string> BodyOf(WorkerReply response) {
  constexpr size_t kErrorBytesMax = 4096;
  constexpr int32_t kCodeMax = 16;
  if (response.code == 0) return std::move(response.body);
  const bool known = response.code > 0 && response.code <= kCodeMax;
  return absl::Status(
      known ? static_cast<absl::StatusCode>(response.code) : absl::StatusCode::kUnknown,
      response.error.substr(0, kErrorBytesMax));
}

namespace {

std::optional<Metrics::Kind> KindOf(prometheus::MetricType type) {
  switch (type) {
    case prometheus::MetricType::Counter:
      return Metrics::Kind::kCounter;
    case prometheus::MetricType::Gauge:
      return Metrics::Kind::kGauge;
    case prometheus::MetricType::Histogram:
      return Metrics::Kind::kHistogram;
    default:
      return std::nullopt;
  }
}

bool IsSound(const prometheus::MetricFamily& family, Metrics::Kind kind,
             const prometheus::ClientMetric& metric) {
  Metrics::Labels labels;
  for (const auto& label : metric.label) labels.emplace_back(label.name, label.value);
  std::sort(labels.begin(), labels.end());
  return metric.histogram.bucket.size() <= Metrics::kBucketsMax + 1 &&
         CheckMetric(kind, family.name, family.help, labels, {}).ok();
}

}  // namespace

void DropUnsound(std::vector<prometheus::MetricFamily>* families) {
  size_t series = 0;
  std::erase_if(*families, [&](prometheus::MetricFamily& family) {
    const std::optional<Metrics::Kind> kind = KindOf(family.type);
    std::erase_if(family.metric, [&](const prometheus::ClientMetric& metric) {
      return !kind.has_value() || ++series > Metrics::kSeriesMax || !IsSound(family, *kind, metric);
    });
    return family.metric.empty();
  });
}

void BoundSight(TrafficSight* sight) {
  const auto cut = [](std::initializer_list<std::string*> texts) {
    for (std::string* text : texts) {
      text->resize(std::min(text->size(), RecentFaults::kTextBytesMax));
    }
  };
  std::vector<LiveRpc>& rpcs = sight->live.rpcs;
  rpcs.resize(std::min(rpcs.size(), TrafficSight::kRpcsMax));
  for (LiveRpc& rpc : rpcs) cut({&rpc.kind, &rpc.peer, &rpc.phase, &rpc.plugin, &rpc.state});
  std::vector<RecentFault>& faults = sight->faults;
  faults.resize(std::min(faults.size(), RecentFaults::kMax));
  for (RecentFault& fault : faults) {
    cut({&fault.plugin, &fault.phase, &fault.kind, &fault.what, &fault.request_id,
         &fault.trace_id});
  }
}

void DropUnsound(std::vector<Explained>* explained, size_t max) {
  // Steps, and what stands around them.
  constexpr size_t kDocumentBytesMax = kExplanationBytesMax + 16384;
  std::erase_if(*explained, [](const Explained& one) {
    // As the page goes on with it: "{}" would have no place for another member. The parser takes a
    // NUL for the end of the text.
    return one.document.size() > kDocumentBytesMax ||
           one.document.find('\0') != std::string::npos ||
           !nlohmann::json::accept(one.document + ",\"ended_ms_ago\":0}");
  });
  if (explained->size() > max) explained->resize(max);
}

void BoundReports(std::vector<ShadowReport>* reports) {
  constexpr size_t kReportsMax = 1000;
  const auto cut = [](std::string* text) {
    *text = EscapeControls(text->substr(0, kDifferenceTextBytesMax));
  };
  if (reports->size() > kReportsMax) reports->resize(kReportsMax);
  for (ShadowReport& report : *reports) {
    cut(&report.plugin);
    cut(&report.instead_of);
    // The rest of the list, and entries that nobody can read, are nothing that a worker sends.
    std::erase_if(report.summary.entries, [kept = size_t{0}](const auto& entry) mutable {
      const bool readable = entry.first.size() <= kDifferenceTextBytesMax &&
                            entry.first.find(' ') != std::string::npos;
      return !readable || ++kept > kDifferenceEntriesMax;
    });
    for (auto& [key, entry] : report.summary.entries) {
      cut(&entry.before);
      cut(&entry.after);
      cut(&entry.request_id);
      cut(&entry.example);
    }
  }
}

void DropUnsound(std::vector<Exemplar>* exemplars) {
  std::erase_if(*exemplars, [](const Exemplar& exemplar) {
    return exemplar.trace_id.size() > Metrics::kTraceIdBytesMax || exemplar.trace_id.empty() ||
           !std::all_of(exemplar.trace_id.begin(), exemplar.trace_id.end(),
                        [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  });
}

}  // namespace callout::host
