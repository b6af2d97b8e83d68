// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/metrics.h"

#include <fmt/format.h>
#include <prometheus/client_metric.h>
#include <prometheus/metric_type.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string_view>

#include "absl/status/status.h"
#include "host/base/utf8.h"
#include "host/metrics/metric_memory.h"
#include "host/metrics/metric_shards.h"

namespace callout::host {
namespace {

// An id is a kind and an index. Index 0 of kind 0 is never used.
constexpr uint32_t kIndexBits = 30;
constexpr uint32_t kIndexMask = (1u << kIndexBits) - 1;

Metrics::Id MakeId(Metrics::Kind kind, size_t index) {
  return static_cast<uint32_t>(kind) << kIndexBits | static_cast<uint32_t>(index);
}
Metrics::Kind KindOf(Metrics::Id id) { return static_cast<Metrics::Kind>(id >> kIndexBits); }
size_t IndexOf(Metrics::Id id) { return id & kIndexMask; }

// ---- names and values that Prometheus accepts ----

// "counter", "gauge" or "histogram".
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
        fmt::format("metric {}: {} is not UTF-8, which Prometheus requires", metric, what));
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
          "metric {}: invalid label name '{}'; it must match [a-zA-Z_][a-zA-Z0-9_]*, not "
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

absl::Status CheckMetric(Metrics::Kind kind, const std::string& name, const std::string& help,
                         const Metrics::Labels& sorted_labels, const std::vector<double>& buckets) {
  if (!IsName(name, /*may_have_colons=*/true)) {
    return absl::InvalidArgumentError(
        fmt::format("invalid metric name '{}'; it must match [a-zA-Z_:][a-zA-Z0-9_:]* and have "
                    "at most {} bytes",
                    name, Metrics::kNameBytesMax));
  }
  absl::Status status = CheckText(name, "the help text", help);
  if (status.ok()) status = CheckLabels(name, kind, sorted_labels);
  if (status.ok()) status = CheckBuckets(name, kind, buckets);
  return status;
}

namespace {

// ---- the shard of a thread ----

// The shard that was found last. A trivial type needs no guard variable, and still exists while
// other thread-local objects are destroyed.
struct LastShard {
  uint64_t metrics_number = 0;  // 0: none
  MetricShard* shard = nullptr;
  bool thread_is_ending = false;
};
constinit thread_local LastShard t_last;

// Nearly every call finds the shard of the call before. What else may happen stays in functions of
// its own, so that those that count have few registers to save: a third of their instructions.
inline MetricShard* LastShardOf(uint64_t metrics_number) {
  return t_last.metrics_number == metrics_number ? t_last.shard : nullptr;
}

// All shards that this thread has borrowed. It returns them when it ends.
class ThreadShards {
 public:
  ~ThreadShards() {
    t_last = {.thread_is_ending = true};
    for (const Loan& loan : loans_) {
      if (auto pool = loan.pool.lock()) pool->Release(loan.shard);
    }
  }

  MetricShard* FindOrAcquire(uint64_t metrics_number,
                             const std::shared_ptr<MetricShardPool>& pool) {
    for (const Loan& loan : loans_) {
      if (loan.metrics_number == metrics_number) return loan.shard;
    }
    std::erase_if(loans_, [](const Loan& loan) { return loan.pool.expired(); });
    loans_.push_back({metrics_number, pool, pool->Acquire()});
    return loans_.back().shard;
  }

 private:
  struct Loan {
    uint64_t metrics_number;
    std::weak_ptr<MetricShardPool> pool;  // expired once the Metrics is destroyed
    MetricShard* shard;
  };
  std::vector<Loan> loans_;
};
thread_local ThreadShards t_shards;

uint64_t NextMetricsNumber() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

// prometheus-cpp does not escape help texts, and a line break would end the comment.
std::string EscapeHelp(std::string_view help) {
  std::string escaped;
  for (char c : help) {
    if (c == '\\') {
      escaped += "\\\\";
    } else if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// The number of lines of a series of this kind.
size_t SeriesOf(Metrics::Kind kind, size_t buckets) {
  return kind == Metrics::Kind::kHistogram ? buckets + 3 : 1;
}

// The names of those lines.
std::vector<std::string> SampleNames(const std::string& name, Metrics::Kind kind) {
  if (kind != Metrics::Kind::kHistogram) return {name};
  return {name, name + "_bucket", name + "_sum", name + "_count"};
}

}  // namespace

// Of the buckets of one histogram.
struct Metrics::Exemplars {
  struct Slot {
    std::atomic<uint64_t> due_ns{0};
    std::string trace_id;
    double value = 0;
  };
  explicit Exemplars(size_t buckets) : slots(buckets) {}

  std::mutex mutex;  // guards the texts and values
  std::vector<Slot> slots;
};

// Cells: one for each bucket, one for +Inf, one for the sum.
struct Metrics::Histogram {
  size_t first_cell = 0;
  std::vector<double> bounds;
  std::unique_ptr<Exemplars> exemplars;  // null: none are kept
};

class Metrics::HistogramTable : public BlockArray<Histogram> {
  using BlockArray::BlockArray;
};

const std::vector<double>& Metrics::LatencyBuckets() {
  static const std::vector<double> buckets = {
      0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
      0.025,   0.05,     0.1,     0.25,   0.5,     1,      2.5,   5,      10};
  return buckets;
}

Metrics::Metrics(size_t series_max, MetricMemory* memory)
    : number_(NextMetricsNumber()),
      series_max_(std::min<size_t>(series_max, kIndexMask)),
      memory_(memory),
      pool_(std::make_shared<MetricShardPool>(series_max_ + 1, memory)),
      gauges_(std::make_unique<MetricShard>(series_max_)),
      histograms_(std::make_unique<HistogramTable>(series_max_)) {}

Metrics::~Metrics() = default;

absl::StatusOr<Metrics::Id> Metrics::Define(Kind kind, std::string name, const std::string& help,
                                            Labels labels, std::vector<double> buckets,
                                            bool may_add) {
  std::sort(labels.begin(), labels.end());
  if (absl::Status status = CheckMetric(kind, name, help, labels, buckets); !status.ok()) {
    return status;
  }
  if (kind == Kind::kHistogram && buckets.empty()) buckets = LatencyBuckets();

  Family wanted{kind, EscapeHelp(help), {}, std::move(buckets), {}};
  std::vector<std::string> values;
  for (auto& [label, value] : labels) {
    wanted.label_names.push_back(std::move(label));
    values.push_back(std::move(value));
  }
  std::lock_guard lock(mutex_);
  if (absl::Status status = CheckFits(name, wanted); !status.ok()) return status;
  auto family = families_.find(name);
  if (family != families_.end()) {
    const auto known = family->second.series.find(values);
    if (known != family->second.series.end()) return known->second;
  }
  if (!may_add) return absl::ResourceExhaustedError(fmt::format("metric {} is not known", name));
  const size_t series = SeriesOf(wanted.kind, wanted.buckets.size());
  if (series > series_max_ - series_count_) {
    return absl::ResourceExhaustedError(
        fmt::format("metric {}: {} series in use, {} more would exceed the limit of {}; use labels "
                    "with fewer values",
                    name, series_count_, series, series_max_));
  }
  series_count_ += series;
  if (family == families_.end()) {
    for (std::string& sample : SampleNames(name, kind)) {
      sample_names_.emplace(std::move(sample), name);
    }
    family = families_.emplace(std::move(name), std::move(wanted)).first;
  }
  const size_t first_cell = cell_count_;
  const Id id = AddSeries(family->second);
  if (memory_ != nullptr && family->second.kind != Kind::kGauge) {
    Share(family->first, family->second, values, first_cell);
  }
  family->second.series.emplace(std::move(values), id);
  return id;
}

// If there is no room, the series is lost when the process crashes.
void Metrics::Share(const std::string& name, const Family& family,
                    const std::vector<std::string>& values, size_t first_cell) {
  MetricDefinition definition;
  definition.name = name;
  definition.help = family.help;
  for (size_t i = 0; i < values.size(); ++i) definition.labels[family.label_names[i]] = values[i];
  definition.is_histogram = family.kind == Kind::kHistogram;
  definition.bounds = family.buckets;
  definition.first_cell = first_cell;
  memory_->AddDefinition(std::move(definition));
}

absl::Status Metrics::CheckFits(const std::string& name, const Family& wanted) const {
  if (const auto known = families_.find(name); known != families_.end()) {
    const Family& family = known->second;
    if (family.kind == wanted.kind && family.label_names == wanted.label_names &&
        family.buckets == wanted.buckets) {
      return absl::OkStatus();
    }
    return absl::AlreadyExistsError(fmt::format(
        "metric {} is a {} with the labels [{}]; it cannot also be a {} with the labels [{}], nor "
        "have other buckets",
        name, MetricKindName(family.kind), fmt::join(family.label_names, ", "),
        MetricKindName(wanted.kind), fmt::join(wanted.label_names, ", ")));
  }
  for (const std::string& sample : SampleNames(name, wanted.kind)) {
    if (const auto taken = sample_names_.find(sample); taken != sample_names_.end()) {
      return absl::AlreadyExistsError(
          fmt::format("metric {} would produce lines named {}, as metric {} does", name, sample,
                      taken->second));
    }
  }
  return absl::OkStatus();
}

Metrics::Id Metrics::AddSeries(const Family& family) {
  switch (family.kind) {
    case Kind::kCounter:
      return MakeId(family.kind, cell_count_++);
    case Kind::kGauge:
      gauges_->Make(gauge_count_);
      return MakeId(family.kind, gauge_count_++);
    case Kind::kHistogram:
      break;
  }
  Histogram& histogram = histograms_->Get(histogram_count_);
  histogram.first_cell = cell_count_;
  histogram.bounds = family.buckets;
  cell_count_ += family.buckets.size() + 2;
  return MakeId(family.kind, histogram_count_++);
}

MetricShard* Metrics::FindShard() {
  if (MetricShard* shard = LastShardOf(number_); shard != nullptr) return shard;
  if (t_last.thread_is_ending) return nullptr;
  MetricShard* shard = t_shards.FindOrAcquire(number_, pool_);
  t_last = {number_, shard};
  return shard;
}

template <class Function>
[[gnu::noinline]] void Metrics::WithShard(Function function) {
  if (MetricShard* shard = FindShard(); shard != nullptr) {
    function(*shard);
    return;
  }
  // A destructor that runs after the thread has returned its shards: borrow one for this call.
  MetricShard* shard = pool_->Acquire();
  function(*shard);
  pool_->Release(shard);
}

void Metrics::Add(Id id, double delta) {
  if (KindOf(id) != Kind::kCounter) return AddToGauge(id, delta);
  if (!(delta >= 0 && delta <= std::numeric_limits<double>::max())) return;  // NaN is neither
  if (MetricShard* shard = LastShardOf(number_); shard != nullptr) {
    return shard->Add(IndexOf(id), delta);
  }
  WithShard([id, delta](MetricShard& shard) { shard.Add(IndexOf(id), delta); });
}

[[gnu::noinline]] void Metrics::AddToGauge(Id id, double delta) {
  if (KindOf(id) != Kind::kGauge || !std::isfinite(delta)) return;
  gauges_->Find(IndexOf(id))->fetch_add(delta, std::memory_order_relaxed);
}

void Metrics::Set(Id id, double value) {
  if (KindOf(id) != Kind::kGauge) return;
  gauges_->Find(IndexOf(id))->store(value, std::memory_order_relaxed);
}

void Metrics::Observe(Id id, double value) { ObserveAndFindDue(id, value); }

void Metrics::KeepExemplars(Id histogram) {
  if (KindOf(histogram) != Kind::kHistogram) return;
  Histogram& of = *histograms_->Find(IndexOf(histogram));
  if (of.exemplars == nullptr) of.exemplars = std::make_unique<Exemplars>(of.bounds.size() + 1);
}

void Metrics::PutExemplar(Id id, double value, std::string_view trace_id) {
  if (trace_id.empty()) return;
  const Histogram& of = *histograms_->Find(IndexOf(id));
  const auto bucket = static_cast<size_t>(
      std::lower_bound(of.bounds.begin(), of.bounds.end(), value) - of.bounds.begin());
  const std::lock_guard<std::mutex> lock(of.exemplars->mutex);
  Exemplars::Slot& slot = of.exemplars->slots[bucket];
  slot.trace_id = trace_id.substr(0, kTraceIdBytesMax);
  slot.value = value;
}

std::vector<Exemplar> Metrics::CollectExemplars() const {
  std::vector<Exemplar> all;
  std::lock_guard lock(mutex_);
  for (const auto& [name, family] : families_) {
    if (family.kind != Kind::kHistogram) continue;
    for (const auto& [values, id] : family.series) {
      const Histogram& of = *histograms_->Find(IndexOf(id));
      if (of.exemplars == nullptr) continue;
      const std::lock_guard<std::mutex> slots_lock(of.exemplars->mutex);
      for (size_t bucket = 0; bucket < of.exemplars->slots.size(); ++bucket) {
        const Exemplars::Slot& slot = of.exemplars->slots[bucket];
        if (slot.trace_id.empty()) continue;
        Exemplar& exemplar = all.emplace_back();
        exemplar.name = name;
        for (size_t i = 0; i < values.size(); ++i) {
          exemplar.labels[family.label_names[i]] = values[i];
        }
        exemplar.bucket = bucket;
        exemplar.trace_id = slot.trace_id;
        exemplar.value = slot.value;
      }
    }
  }
  return all;
}

// The time at which the bucket's exemplar is due; null: it has none.
std::atomic<uint64_t>* Metrics::ObserveAndFindDue(Id id, double value) {
  if (KindOf(id) != Kind::kHistogram || !std::isfinite(value)) return nullptr;
  const Histogram& histogram = *histograms_->Find(IndexOf(id));
  const auto& bounds = histogram.bounds;
  // Most values are in one of the first buckets.
  constexpr size_t kNear = 8;
  size_t bucket = 0;
  const size_t near = std::min(kNear, bounds.size());
  while (bucket < near && bounds[bucket] < value) ++bucket;
  if (bucket == kNear) {
    bucket = static_cast<size_t>(std::lower_bound(bounds.begin() + kNear, bounds.end(), value) -
                                 bounds.begin());
  }
  const auto count = [first = histogram.first_cell, bucket, sum = bounds.size() + 1,
                      value](MetricShard& shard) {
    shard.Add(first + bucket, 1);
    shard.Add(first + sum, value);
  };
  if (MetricShard* shard = LastShardOf(number_); shard != nullptr) {
    count(*shard);
  } else {
    WithShard(count);
  }
  return histogram.exemplars == nullptr ? nullptr : &histogram.exemplars->slots[bucket].due_ns;
}

double Metrics::Sum(const std::vector<MetricShard*>& shards, size_t cell) const {
  double sum = 0;
  for (const MetricShard* shard : shards) sum += shard->Read(cell);
  return sum;
}

void Metrics::Fill(const Family& family, Id id, const std::vector<MetricShard*>& shards,
                   prometheus::ClientMetric* metric) const {
  switch (family.kind) {
    case Kind::kCounter:
      metric->counter.value = Sum(shards, IndexOf(id));
      return;
    case Kind::kGauge:
      metric->gauge.value = gauges_->Read(IndexOf(id));
      return;
    case Kind::kHistogram:
      break;
  }
  const Histogram& from = *histograms_->Find(IndexOf(id));
  prometheus::ClientMetric::Histogram& to = metric->histogram;
  for (size_t i = 0; i <= from.bounds.size(); ++i) {
    to.sample_count += static_cast<uint64_t>(Sum(shards, from.first_cell + i));
    to.bucket.push_back({to.sample_count, i < from.bounds.size()
                                              ? from.bounds[i]
                                              : std::numeric_limits<double>::infinity()});
  }
  to.sample_sum = Sum(shards, from.first_cell + from.bounds.size() + 1);
}

std::vector<prometheus::MetricFamily> Metrics::Collect() const {
  std::vector<prometheus::MetricFamily> families;
  std::lock_guard lock(mutex_);
  const std::vector<MetricShard*> shards = pool_->All();
  for (const auto& [name, family] : families_) {
    prometheus::MetricFamily& out = families.emplace_back();
    out.name = name;
    out.help = family.help;
    out.type = family.kind == Kind::kCounter ? prometheus::MetricType::Counter
               : family.kind == Kind::kGauge ? prometheus::MetricType::Gauge
                                             : prometheus::MetricType::Histogram;
    for (const auto& [values, id] : family.series) {
      prometheus::ClientMetric& metric = out.metric.emplace_back();
      for (size_t i = 0; i < values.size(); ++i) {
        metric.label.push_back({family.label_names[i], values[i]});
      }
      Fill(family, id, shards, &metric);
    }
  }
  return families;
}

std::string Metrics::Text() const { return MetricsText(Collect()); }

std::string MetricsText(const std::vector<prometheus::MetricFamily>& families) {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families);
  return std::move(text).str();
}

size_t Metrics::shard_count() const { return pool_->All().size(); }

}  // namespace callout::host
