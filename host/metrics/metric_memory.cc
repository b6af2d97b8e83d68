// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/metric_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <prometheus/client_metric.h>
#include <prometheus/metric_type.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <new>
#include <optional>

#include "absl/status/status.h"
#include "host/base/plain_codec.h"
#include "host/metrics/metrics.h"

namespace callout::host {

// Found by the type's namespace.
template <class Archive>
void VisitFields(Archive& archive, MetricDefinition& definition) {
  archive(definition.name, definition.help, definition.labels, definition.is_histogram,
          definition.bounds, definition.first_cell);
}

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

absl::Status SystemError(const char* what) {
  return absl::UnavailableError(
      fmt::format("{} the memory for metrics: {}", what, strerror(errno)));
}

double At(const std::vector<double>& cells, uint64_t cell) {
  return cell < cells.size() ? cells[cell] : 0;
}

uint64_t CountAt(const std::vector<double>& cells, uint64_t cell) {
  constexpr double kCountMax = 9007199254740992.0;  // 2^53, to which doubles are exact
  return static_cast<uint64_t>(std::min(At(cells, cell), kCountMax));
}

ClientMetric MakeMetric(const MetricDefinition& definition, const std::vector<double>& cells) {
  ClientMetric metric;
  for (const auto& [name, value] : definition.labels) metric.label.push_back({name, value});
  if (!definition.is_histogram) {
    metric.counter.value = At(cells, definition.first_cell);
    return metric;
  }
  ClientMetric::Histogram& histogram = metric.histogram;
  const size_t bounds = definition.bounds.size();
  for (size_t i = 0; i <= bounds; ++i) {
    histogram.sample_count += CountAt(cells, definition.first_cell + i);
    histogram.bucket.push_back(
        {histogram.sample_count,
         i < bounds ? definition.bounds[i] : std::numeric_limits<double>::infinity()});
  }
  histogram.sample_sum = At(cells, definition.first_cell + bounds + 1);
  return metric;
}

}  // namespace

absl::StatusOr<OwnedFd> MetricMemory::MakeFile() {
  OwnedFd file(memfd_create("callout-metrics", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file.get() < 0 || ftruncate(file.get(), sizeof(Layout)) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return SystemError("making");
  }
  return file;
}

absl::StatusOr<std::unique_ptr<MetricMemory>> MetricMemory::Map(int fd) {
  void* const memory = mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return SystemError("mapping");
  return std::unique_ptr<MetricMemory>(
      new MetricMemory(std::launder(reinterpret_cast<Layout*>(memory))));
}

MetricMemory::~MetricMemory() { munmap(layout_, sizeof(Layout)); }

MetricMemory::Cell* MetricMemory::TakeBlock(uint64_t first_cell) {
  const uint64_t block = layout_->blocks.fetch_add(1, std::memory_order_relaxed);
  if (block >= kBlocksMax) return nullptr;
  layout_->first_cells[block].store(first_cell + 1, std::memory_order_release);
  return layout_->cells[block].data();
}

bool MetricMemory::AddDefinition(MetricDefinition definition) {
  const std::string bytes = Encode(std::move(definition));
  const std::string size = Encode(uint64_t{bytes.size()});
  const uint64_t used = layout_->definition_bytes.load(std::memory_order_relaxed);
  if (used > kDefinitionBytesMax || size.size() + bytes.size() > kDefinitionBytesMax - used) {
    return false;
  }
  char* const to = layout_->definitions.data() + used;
  std::copy(bytes.begin(), bytes.end(), std::copy(size.begin(), size.end(), to));
  layout_->definition_bytes.store(used + size.size() + bytes.size(), std::memory_order_release);
  return true;
}

// By cell; of all threads.
std::vector<double> MetricMemory::SumCells() const {
  std::vector<double> sums;
  const uint64_t blocks =
      std::min<uint64_t>(layout_->blocks.load(std::memory_order_acquire), kBlocksMax);
  for (uint64_t block = 0; block < blocks; ++block) {
    const uint64_t first = layout_->first_cells[block].load(std::memory_order_acquire);
    const uint64_t from = first - 1;
    if (first == 0 || from % kBlockCells != 0 || from > Metrics::kSeriesMax) continue;
    if (sums.size() < from + kBlockCells) sums.resize(from + kBlockCells);
    for (size_t i = 0; i < kBlockCells; ++i) {
      const double count = layout_->cells[block][i].load(std::memory_order_relaxed);
      if (std::isfinite(count) && count > 0) sums[from + i] += count;
    }
  }
  return sums;
}

std::vector<MetricFamily> MetricMemory::Collect() const {
  // First the definitions: a cell may be counted in before that, and never without one.
  uint64_t left = std::min<uint64_t>(layout_->definition_bytes.load(std::memory_order_acquire),
                                     kDefinitionBytesMax);
  const std::vector<double> cells = SumCells();
  std::map<std::string, MetricFamily> families;
  const char* at = layout_->definitions.data();
  while (left >= sizeof(uint64_t)) {
    const uint64_t size = Decode<uint64_t>({at, sizeof(uint64_t)}).value_or(0);
    at += sizeof(uint64_t);
    left -= sizeof(uint64_t);
    if (size > left) break;
    // A copy, since a plugin's process may still be writing.
    const auto definition = Decode<MetricDefinition>(std::string(at, size));
    at += size;
    left -= size;
    if (!definition.has_value() || definition->bounds.size() > Metrics::kBucketsMax) continue;
    MetricFamily& family = families[definition->name];
    family.name = definition->name;
    family.help = definition->help;
    family.type = definition->is_histogram ? MetricType::Histogram : MetricType::Counter;
    family.metric.push_back(MakeMetric(*definition, cells));
  }
  std::vector<MetricFamily> all;
  for (auto& [name, family] : families) all.push_back(std::move(family));
  return all;
}

}  // namespace callout::host
