// SPDX-License-Identifier: Apache-2.0

// Memory for the counters and histograms of a process, which can still be read when the process is
// dead: a supervisor shares it with each worker, so that a crash loses no counts.
//
//   absl::StatusOr<OwnedFd> file = MetricMemory::MakeFile();            // the supervisor
//   auto memory = MetricMemory::Map(file->get());                       // both
//   Metrics metrics(Metrics::kSeriesMax, memory->get());                // the worker
//   … the worker has ended …
//   std::vector<prometheus::MetricFamily> counts = (*memory)->Collect();
//
// A count costs what it costs in memory of the process's own: one store to a cell. Each store is
// whole, and a definition counts once its bytes are written, so that the memory is consistent at
// every moment. Nothing is locked, and gauges are not in it.
//
// There is room for kBlocksMax blocks of cells, of which every thread that counts takes its own,
// and for kDefinitionBytesMax bytes of definitions. What finds no room is counted in the process's
// own memory, and lost if it crashes. Pages that nobody has used take no memory.
//
// The reader trusts nothing, since a plugin may have written anywhere in the memory: reading stays
// within it and ends. The families may be nonsense; the caller has to check them (DropUnsound).
//
// Any thread may call TakeBlock, one at a time AddDefinition; Collect any.
#ifndef CALLOUT_HOST_METRICS_METRIC_MEMORY_H_
#define CALLOUT_HOST_METRICS_METRIC_MEMORY_H_

#include <prometheus/metric_family.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/owned_fd.h"

namespace callout::host {

// A series of a counter (without bounds) or of a histogram.
struct MetricDefinition {
  std::string name;
  std::string help;  // escaped, as in the page
  std::map<std::string, std::string> labels;
  bool is_histogram = false;
  std::vector<double> bounds;
  uint64_t first_cell = 0;  // of a histogram: one for each bound, +Inf, and the sum
};

class MetricMemory {
 public:
  using Cell = std::atomic<double>;
  static constexpr size_t kBlockCells = 256;
  static constexpr size_t kBlocksMax = 16384;
  static constexpr size_t kDefinitionBytesMax = 33554432;

  // A new file, whose size is sealed, since readers of a file that shrinks would crash. UNAVAILABLE
  // with the system's reason.
  static absl::StatusOr<OwnedFd> MakeFile();
  // The memory in such a file, which stays mapped as long as the object lives. The descriptor stays
  // the caller's, and may be closed.
  static absl::StatusOr<std::unique_ptr<MetricMemory>> Map(int fd);
  ~MetricMemory();
  MetricMemory(const MetricMemory&) = delete;
  MetricMemory& operator=(const MetricMemory&) = delete;

  // A block of zeros for the cells from `first_cell`, a multiple of kBlockCells; null: no room.
  Cell* TakeBlock(uint64_t first_cell);
  // False: no room.
  bool AddDefinition(MetricDefinition definition);

  // The counts so far, by definition.
  std::vector<prometheus::MetricFamily> Collect() const;

 private:
  // Zeros are the initial values of all members, and a new file has zeros.
  struct Layout {
    std::atomic<uint64_t> blocks;            // that were taken; may be over kBlocksMax
    std::atomic<uint64_t> definition_bytes;  // that are whole
    std::array<std::atomic<uint64_t>, kBlocksMax> first_cells;  // of each block, plus 1; 0: not yet
    std::array<char, kDefinitionBytesMax> definitions;          // sizes (8 bytes), and encodings
    std::array<std::array<Cell, kBlockCells>, kBlocksMax> cells;
  };

  explicit MetricMemory(Layout* layout) : layout_(layout) {}

  std::vector<double> SumCells() const;

  Layout* const layout_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_METRIC_MEMORY_H_
