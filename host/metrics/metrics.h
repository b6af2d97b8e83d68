// SPDX-License-Identifier: Apache-2.0

// Counters, gauges and histograms. Each thread counts in a shard of its own, and prometheus-cpp
// writes the page in Prometheus' text format 0.0.4.
//
//   Metrics metrics;
//   absl::StatusOr<Metrics::Id> calls = metrics.Define(
//       Metrics::Kind::kCounter, "callout_calls_total", "Calls made.", {{"plugin", name}});
//   metrics.Add(*calls);            // any thread, no lock
//   std::string page = metrics.Text();
//
// Threads: any thread, also one of a plugin or one that is ending. Add (to a counter) and Observe
// write only to the calling thread's shard, with plain loads and stores; a gauge is one value for
// the process. A shard outlives its thread, keeps its counts and goes to the next new thread, so
// memory grows with the largest number of concurrent threads. Text() sums the shards. Each of its
// values was true at some moment of the call, and counters never decrease from one call to the
// next.
//
// Lifetime: a Metrics outlives every use of its ids. Threads may outlive it.
#ifndef CALLOUT_HOST_METRICS_METRICS_H_
#define CALLOUT_HOST_METRICS_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

class MetricMemory;
class MetricShard;
class MetricShardPool;

// The trace of one value that a histogram has counted.
struct Exemplar {
  std::string name;                           // of the histogram
  std::map<std::string, std::string> labels;  // of the series
  size_t bucket = 0;                          // from 0; the last is +Inf
  std::string trace_id;
  double value = 0;
};

class Metrics final : public prometheus::Collectable {
 public:
  enum class Kind : uint8_t { kCounter = 0, kGauge = 1, kHistogram = 2 };

  // Returned by Define. Recording to 0 does nothing, so it can stand for "not counted"; Define
  // never returns it. Recording in a way that does not fit the id's kind does nothing, either.
  // Other numbers that Define did not return must not be used.
  using Id = uint32_t;
  using Labels = std::vector<std::pair<std::string, std::string>>;

  // A series counts as many times as it has lines at /metrics: a counter or gauge one, a histogram
  // `buckets + 3` (+Inf, sum and count).
  static constexpr size_t kSeriesMax = 100000;
  static constexpr size_t kBucketsMax = 100;
  static constexpr size_t kNameBytesMax = 256;         // metric and label names
  static constexpr size_t kLabelValueBytesMax = 1024;  // and help texts

  // The default upper bounds of a histogram, in seconds: 10 us to 10 s.
  static const std::vector<double>& LatencyBuckets();

  // Counters and histograms are counted in `memory`, which outlives the object; null: in memory of
  // this process.
  explicit Metrics(size_t series_max = kSeriesMax, MetricMemory* memory = nullptr);
  ~Metrics() override;
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Creates a series or finds it: the same kind, name and labels (in any order) give the same id.
  // `buckets` are the inclusive upper bounds of a histogram, finite and rising; empty means
  // LatencyBuckets(). The first help text of a name stays.
  //
  // Errors: INVALID_ARGUMENT for a name outside Prometheus' grammar
  // (https://prometheus.io/docs/concepts/data_model/), for label names given
  // twice or reserved ("__…", and "le" of a histogram), for text that is not
  // UTF-8 (it would spoil the whole page for the scraper), and for bad buckets;
  // ALREADY_EXISTS if the name is taken by another kind, other label names or
  // other buckets; RESOURCE_EXHAUSTED if `series_max` would be passed, or the series is not known
  // and `may_add` is false.
  absl::StatusOr<Id> Define(Kind kind, std::string name, const std::string& help,
                            Labels labels = {}, std::vector<double> buckets = {},
                            bool may_add = true);

  // Adds to a counter (`delta` negative or not finite: ignored) or to a gauge.
  void Add(Id id, double delta = 1);
  // Sets a gauge.
  void Set(Id id, double value);
  // Counts `value` in a histogram; a value that is not finite is ignored.
  void Observe(Id id, double value);

  // Keeps exemplars of a histogram from now on: of each bucket the trace of one value, renewed at
  // most once a second. Before anybody observes it.
  void KeepExemplars(Id histogram);
  // As Observe, and asks `trace` for the id of the value's trace ("": it has none) if an exemplar
  // is due. `now_ns` is MonotonicNs(), or a little less.
  template <class Trace>
  void Observe(Id id, double value, uint64_t now_ns, Trace trace) {
    std::atomic<uint64_t>* const due = ObserveAndFindDue(id, value);
    if (due == nullptr || due->load(std::memory_order_relaxed) > now_ns) return;
    due->store(now_ns + kExemplarNs, std::memory_order_relaxed);
    PutExemplar(id, value, trace());
  }
  static constexpr uint64_t kExemplarNs = 1'000'000'000;
  static constexpr size_t kTraceIdBytesMax = 64;

  std::vector<Exemplar> CollectExemplars() const;

  // The page for /metrics, of the media type kTextContentType.
  std::string Text() const;
  static constexpr char kTextContentType[] = "text/plain; version=0.0.4; charset=utf-8";

  std::vector<prometheus::MetricFamily> Collect() const override;

  // The largest number of threads so far that counted at the same time.
  size_t shard_count() const;

 private:
  struct Family {
    Kind kind;
    std::string help;
    std::vector<std::string> label_names;           // sorted
    std::vector<double> buckets;                    // of a histogram
    std::map<std::vector<std::string>, Id> series;  // by label values
  };
  struct Exemplars;
  struct Histogram;
  class HistogramTable;

  absl::Status CheckFits(const std::string& name, const Family& wanted) const;
  Id AddSeries(const Family& family);
  void AddToGauge(Id id, double delta);
  std::atomic<uint64_t>* ObserveAndFindDue(Id id, double value);
  void PutExemplar(Id id, double value, std::string_view trace_id);
  void Share(const std::string& name, const Family& family, const std::vector<std::string>& values,
             size_t first_cell);
  MetricShard* FindShard();
  template <class Function>
  void WithShard(Function function);
  double Sum(const std::vector<MetricShard*>& shards, size_t cell) const;
  void Fill(const Family& family, Id id, const std::vector<MetricShard*>& shards,
            prometheus::ClientMetric* metric) const;

  const uint64_t number_;  // of this object; never used again in the process
  const size_t series_max_;
  MetricMemory* const memory_;
  const std::shared_ptr<MetricShardPool> pool_;
  const std::unique_ptr<MetricShard> gauges_;
  const std::unique_ptr<HistogramTable> histograms_;

  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, Family> families_;
  std::map<std::string, std::string> sample_names_;  // "x_count" -> family "x"
  size_t series_count_ = 0;
  size_t cell_count_ = 1;  // cell 0 takes what is recorded to id 0
  size_t gauge_count_ = 0;
  size_t histogram_count_ = 0;
};

// INVALID_ARGUMENT, with what is wrong and what is expected, if Define must refuse these. Also for
// metrics that another process has sent.
absl::Status CheckMetric(Metrics::Kind kind, const std::string& name, const std::string& help,
                         const Metrics::Labels& sorted_labels, const std::vector<double>& buckets);

// The page with the collected metrics, of the media type Metrics::kTextContentType.
std::string MetricsText(const std::vector<prometheus::MetricFamily>& families);

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_METRICS_H_
