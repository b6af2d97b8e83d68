// SPDX-License-Identifier: Apache-2.0

// Names, labels and help texts of metrics that plugins define, some of which are a client's text:
// whatever they are, the page for Prometheus has lines of its format only.
//
// Readers: host/metrics/metrics.cc host/metrics/open_metrics.cc
// Not counted: Metrics::Share (writes to memory that workers share)
// Not counted: Metrics::shard_count (is for tests)
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/base/utf8.h"
#include "host/metrics/metrics.h"
#include "host/metrics/open_metrics.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

bool IsNameByte(char c, bool first) {
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
  return letter || (!first && c >= '0' && c <= '9');
}

bool TakeName(std::string_view* line) {
  size_t size = 0;
  while (size < line->size() && IsNameByte((*line)[size], size == 0)) ++size;
  line->remove_prefix(size);
  return size > 0;
}

bool Take(std::string_view* line, char c) {
  if (!line->starts_with(c)) return false;
  line->remove_prefix(1);
  return true;
}

// Up to the quote that ends it.
bool TakeLabelValue(std::string_view* line) {
  while (!line->empty() && line->front() != '"') {
    const bool escape = line->front() == '\\';
    if (escape && (line->size() < 2 || std::string_view("\\n\"").find((*line)[1]) == line->npos)) {
      return false;
    }
    line->remove_prefix(escape ? 2 : 1);
  }
  return Take(line, '"');
}

bool IsSample(std::string_view line) {
  if (!TakeName(&line)) return false;
  if (Take(&line, '{')) {
    while (!Take(&line, '}')) {
      if (!TakeName(&line) || !Take(&line, '=') || !Take(&line, '"') || !TakeLabelValue(&line)) {
        return false;
      }
      Take(&line, ',');
    }
  }
  if (!Take(&line, ' ')) return false;
  // An exemplar stands behind the number, and is the host's own.
  const std::string number(line.substr(0, line.find(" # {trace_id=\"")));
  char* end = nullptr;
  (void)std::strtod(number.c_str(), &end);
  return end != number.c_str() && *end == '\0';
}

std::string Check(const std::string& page) {
  if (!IsUtf8(page)) return "the page is not UTF-8";
  if (!page.empty() && page.back() != '\n') return "the page ends within a line";
  std::string_view rest = page;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    const bool comment = line.starts_with("# HELP ") || line.starts_with("# TYPE ") ||
                         line.starts_with("# UNIT ") || line == "# EOF";
    if (!comment && !IsSample(line)) return "a line that is none: " + std::string(line);
  }
  return "";
}

std::string AnyName(Choices& choices) {
  static const char* const kNames[] = {"requests_total", "le", "__name__", "a", "seconds_bucket"};
  return choices.Next(2) == 0 ? kNames[choices.Next(5)] : choices.Bytes(6);
}

FUZZ_TARGET(plugin_metrics, .rounds = 2000, .bytes = 60) {
  Metrics metrics(200);
  for (unsigned i = 1 + choices.Next(4); i > 0; --i) {
    const auto kind = static_cast<Metrics::Kind>(choices.Next(3));
    std::string name = AnyName(choices);
    std::string help = choices.Bytes(12);
    Metrics::Labels labels;
    for (unsigned label = choices.Next(3); label > 0; --label) {
      std::string label_name = AnyName(choices);
      labels.emplace_back(std::move(label_name), choices.Bytes(12));
    }
    std::vector<double> buckets;
    if (choices.OneIn(8)) help.append(1020, 'h');
    for (unsigned bucket = choices.OneIn(4) ? choices.Next(120) : 0; bucket > 0; --bucket) {
      buckets.push_back(i + buckets.size());
    }
    if (!buckets.empty() && choices.OneIn(4)) buckets.back() = choices.Next(2) == 0 ? 0 : HUGE_VAL;
    const auto id = metrics.Define(kind, name, help, labels, buckets);
    if (!id.ok()) {
      const std::string why(id.status().message());
      if (why.empty()) return "a metric is refused without a word";
      continue;
    }
    if (metrics.Define(kind, name, help, labels, buckets).value_or(0) != *id) {
      return "a metric that is there is not found";
    }
    const double value = choices.Next(256) / 16.0;
    switch (kind) {
      case Metrics::Kind::kHistogram:
        if (choices.Next(2) == 0) metrics.KeepExemplars(*id);
        metrics.Observe(*id, value);
        metrics.Observe(*id, value, 1, [&] { return std::string(choices.Next(2) * 32, 'a'); });
        break;
      case Metrics::Kind::kGauge:
        metrics.Set(*id, value);
        [[fallthrough]];
      default:
        metrics.Add(*id, 2);
    }
  }
  (void)WantsOpenMetrics(choices.Bytes(80));  // of whoever asks for the page
  std::string error = Check(metrics.Text());
  if (!error.empty()) return error;
  error = Check(OpenMetricsText(metrics.Collect(), metrics.CollectExemplars()));
  if (!error.empty()) return error;
  const std::vector<Exemplar> exemplars = metrics.CollectExemplars();
  return std::all_of(exemplars.begin(), exemplars.end(),
                     [](const Exemplar& exemplar) { return exemplar.trace_id.size() == 32; })
             ? ""
             : "an exemplar without a trace";
}

}  // namespace
}  // namespace callout::host
