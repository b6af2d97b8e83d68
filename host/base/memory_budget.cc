// SPDX-License-Identifier: Apache-2.0

#include "host/base/memory_budget.h"

#include <mimalloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "host/base/cgroup.h"

// Programs with sanitizers have another allocator.
#pragma weak mi_option_get
#pragma weak mi_option_set

namespace callout::host {
namespace {

// How long mimalloc keeps memory that is free, in ms.
#if MI_MALLOC_VERSION >= 210
constexpr mi_option_t kDelays[] = {mi_option_purge_delay};
#else
constexpr mi_option_t kDelays[] = {mi_option_decommit_delay, mi_option_segment_decommit_delay};
#endif

// The machine's memory in bytes.
uint64_t MachineBytes() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

const char* MemoryBudget::UseName(Use use) {
  static constexpr const char* kNames[kUseCount] = {"connection", "stream", "growth"};
  return kNames[static_cast<size_t>(use)];
}

// By default mimalloc returns memory that has been free for 25 ms or half a second. At a gigabyte
// per second that would be more than the budget.
void MemoryBudget::ReturnMemoryAtOnce(bool at_once) {
  if (mi_option_get == nullptr || mi_option_set == nullptr) return;
  static const auto usual = [] {
    std::array<long, std::size(kDelays)> delays;
    std::transform(std::begin(kDelays), std::end(kDelays), delays.begin(), mi_option_get);
    return delays;
  }();
  for (size_t i = 0; i < usual.size(); ++i) mi_option_set(kDelays[i], at_once ? 0 : usual[i]);
}

std::optional<uint64_t> BytesOfMemoryLimit(std::string_view text) {
  uint64_t bytes = 0;
  const absl::string_view stripped =
      absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size()));
  if (!absl::SimpleAtoi(stripped, &bytes)) return std::nullopt;
  return bytes;
}

std::optional<uint64_t> MemoryLimitOfCgroup(const std::string& root, std::string_view path) {
  std::optional<uint64_t> least;
  for (;;) {
    while (path.ends_with('/')) path.remove_suffix(1);
    for (const char* name : {"/memory.max", "/memory.high"}) {
      const std::optional<uint64_t> bytes =
          BytesOfMemoryLimit(FirstLineOf(root + std::string(path) + name));
      if (bytes.has_value() && (!least.has_value() || *bytes < *least)) least = bytes;
    }
    if (path.empty()) return least;
    path = path.substr(0, path.rfind('/'));
  }
}

size_t DefaultMemoryBudget(size_t processes) {
  const uint64_t machine = MachineBytes();
  const uint64_t limit =
      MemoryLimitOfCgroup(kCgroupRoot, OwnCgroup().value_or("")).value_or(machine);
  return static_cast<size_t>(std::min(machine, limit) / 10 * 6 / std::max<size_t>(processes, 1));
}

}  // namespace callout::host
