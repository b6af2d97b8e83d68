// SPDX-License-Identifier: Apache-2.0

#include "usage.h"

#include <fmt/format.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>

#include "../socket.h"

namespace callout::bench {
namespace {

// The number behind `key` in a file like /proc/PID/status; 0 if there is none.
uint64_t NumberIn(const std::filesystem::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size()));
  }
  return 0;
}

// The clock counts nanoseconds; /proc/PID/stat would count hundredths of a second.
uint64_t CpuNs(pid_t pid) {
  clockid_t clock = 0;
  timespec time = {};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) {
    Fail(fmt::format("there is no process {} to watch", pid));
  }
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

Usage ReadUsage(pid_t pid) {
  const std::filesystem::path process = fmt::format("/proc/{}", pid);
  Usage usage;
  usage.cpu_ns = CpuNs(pid);
  usage.resident_kib = NumberIn(process / "status", "VmRSS:");
  for (const auto& task : std::filesystem::directory_iterator(process / "task")) {
    for (const char* key : {"voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"}) {
      usage.context_switches += NumberIn(task.path() / "status", key);
    }
    std::ifstream children(task.path() / "children");
    for (pid_t child = 0; children >> child;) {
      const Usage more = ReadUsage(child);
      usage.cpu_ns += more.cpu_ns;
      usage.context_switches += more.context_switches;
      usage.resident_kib += more.resident_kib;
    }
  }
  return usage;
}

}  // namespace callout::bench
