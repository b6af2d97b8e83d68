// SPDX-License-Identifier: Apache-2.0

#include "host/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "host/base/cgroup.h"

namespace callout::host {
namespace {

// On a machine with more cores than cpu_set_t can hold, the standard library knows their number.
int CoresOfAffinity() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
  return static_cast<int>(std::thread::hardware_concurrency());
}

std::optional<int> CoresOfCgroup() {
  const std::optional<std::string> cgroup = OwnCgroup();
  if (!cgroup.has_value()) return std::nullopt;
  return CoresOfCpuMax(FirstLineOf(kCgroupRoot + *cgroup + "/cpu.max"));
}

}  // namespace

int UsableCores() {
  const int cores = std::max(CoresOfAffinity(), 1);
  return std::min(cores, CoresOfCgroup().value_or(cores));
}

std::optional<int> CoresOfCpuMax(std::string_view cpu_max) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(absl::string_view(cpu_max.data(), cpu_max.size()), absl::MaxSplits(' ', 1));
  int64_t quota_us = 0;
  int64_t period_us = 0;
  if (!absl::SimpleAtoi(parts.first, &quota_us) || !absl::SimpleAtoi(parts.second, &period_us) ||
      quota_us <= 0 || period_us <= 0) {
    return std::nullopt;
  }
  const int64_t cores = (quota_us - 1) / period_us + 1;
  return static_cast<int>(std::min<int64_t>(cores, INT_MAX));
}

}  // namespace callout::host
