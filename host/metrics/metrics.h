// SPDX-License-Identifier: Apache-2.0

// Counters, gauges and histograms, counted in shards of our own for each thread
// and exposed by prometheus-cpp in Prometheus' text format 0.0.4.
//
//   Metrics metrics;
//   absl::StatusOr<Metrics::Id> calls = metrics.Define(
//       Metrics::Kind::kCounter, "callout_calls_total", "Calls made.", {{"plugin", name}});
//   metrics.Add(*calls);            // any thread, no lock
//   std::string page = metrics.Text();
//
// Threads: every function may be called from any thread, those of plugins
// included, also while a thread ends. Add (to a counter) and Observe write only to the calling
// thread's shard, with plain loads and stores; a gauge is one value for the
// process. A shard outlives its thread, keeps its counts and goes to the next
// new thread: memory follows the largest number of threads alive at once.
// Text() sums the shards; each value in it is one that was true at some moment
// of the call, and counters never go back from one call to the next.
//
// Lifetime: a Metrics outlives every use of its ids. Threads may outlive it.
#ifndef CALLOUT_HOST_METRICS_METRICS_H_
#define CALLOUT_HOST_METRICS_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

class MetricShard;
class MetricShardPool;

class Metrics final : public prometheus::Collectable {
 public:
  enum class Kind : uint8_t { kCounter = 0, kGauge = 1, kHistogram = 2 };

  // What Define hands out. 0 is never given: recording to it does nothing, so
  // it can stand for "not counted". So does recording in a way that is not of
  // the id's kind. Any other number that Define did not give must not be used.
  using Id = uint32_t;
  using Labels = std::vector<std::pair<std::string, std::string>>;

  // Series are counted as the lines they make at /metrics: one for a counter or
  // a gauge, `buckets + 3` for a histogram (+Inf, sum and count).
  static constexpr size_t kSeriesMax = 100000;
  static constexpr size_t kBucketsMax = 100;
  static constexpr size_t kNameBytesMax = 256;         // metric and label names
  static constexpr size_t kLabelValueBytesMax = 1024;  // and help texts

  // 10 us to 10 s, in seconds: the upper bounds a histogram has by default.
  static const std::vector<double>& LatencyBuckets();

  explicit Metrics(size_t series_max = kSeriesMax);
  ~Metrics() override;
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Names a series, or finds it: the same kind, name and labels (in any order)
  // give the same id. `buckets` are a histogram's upper bounds, inclusive,
  // finite and rising; empty means LatencyBuckets(). Of two help texts for one
  // name the first stays.
  //
  // Errors: INVALID_ARGUMENT for a name outside Prometheus' grammar
  // (https://prometheus.io/docs/concepts/data_model/), for label names given
  // twice or reserved ("__…", and "le" of a histogram), for text that is not
  // UTF-8 (it would spoil the whole page for the scraper), and for bad buckets;
  // ALREADY_EXISTS if the name is taken by another kind, other label names or
  // other buckets; RESOURCE_EXHAUSTED if `series_max` would be passed.
  absl::StatusOr<Id> Define(Kind kind, std::string name, std::string help, Labels labels = {},
                            std::vector<double> buckets = {});

  // Adds to a counter (`delta` negative or not finite: ignored) or to a gauge.
  void Add(Id id, double delta = 1);
  // Sets a gauge.
  void Set(Id id, double value);
  // Counts `value` in a histogram; a value that is not finite is ignored.
  void Observe(Id id, double value);

  // The page for /metrics, of the media type kTextContentType.
  std::string Text() const;
  static constexpr char kTextContentType[] = "text/plain; version=0.0.4; charset=utf-8";

  std::vector<prometheus::MetricFamily> Collect() const override;

  // How many threads have been counting here at the same time, at the most.
  size_t shard_count() const;

 private:
  struct Family {
    Kind kind;
    std::string help;
    std::vector<std::string> label_names;           // sorted
    std::vector<double> buckets;                    // of a histogram
    std::map<std::vector<std::string>, Id> series;  // by label values
  };
  struct Histogram;
  class HistogramTable;

  absl::Status CheckFits(const std::string& name, const Family& wanted) const;
  Id AddSeries(const Family& family);
  MetricShard* FindShard();
  template <class Function>
  void WithShard(Function function);
  double Sum(const std::vector<MetricShard*>& shards, size_t cell) const;
  void Fill(const Family& family, Id id, const std::vector<MetricShard*>& shards,
            prometheus::ClientMetric* metric) const;

  const uint64_t number_;  // of this object; never used again in the process
  const size_t series_max_;
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

// INVALID_ARGUMENT, saying what is wrong and what would be right, if Define must refuse
// these. For what another process says it has counted, too.
absl::Status CheckMetric(Metrics::Kind kind, const std::string& name, const std::string& help,
                         const Metrics::Labels& sorted_labels, const std::vector<double>& buckets);

// The page of what was collected, of the media type Metrics::kTextContentType.
std::string MetricsText(const std::vector<prometheus::MetricFamily>& families);

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_METRICS_H_
