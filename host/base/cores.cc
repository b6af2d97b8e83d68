// SPDX-License-Identifier: Apache-2.0

#include "host/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace callout::host {
namespace {

// More cores than cpu_set_t has room for are told by the standard library.
int CoresOfAffinity() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
  return static_cast<int>(std::thread::hardware_concurrency());
}

std::string FirstLine(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// Seen from within a container its own cgroup is the root; elsewhere
// /proc/self/cgroup says "0::/path".
std::optional<int> CoresOfCgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("0::/")) continue;
    return CoresOfCpuMax(FirstLine("/sys/fs/cgroup" + line.substr(3) + "/cpu.max"));
  }
  return std::nullopt;
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
