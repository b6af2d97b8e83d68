// SPDX-License-Identifier: Apache-2.0

#include "host/ops/process_metrics.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "host/base/log.h"
#include "host/base/thread.h"

namespace callout::host {
namespace {

// Of /proc/self/stat, by proc(5), counted from the one behind the program's name.
enum StatField : size_t {
  kUserTicks = 11,
  kSystemTicks,
  kThreads = 17,
  kStart = 19,
  kVirtual,
  kResident
};

std::optional<std::array<double, 22>> ReadStat() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The name is in parentheses and may have any bytes.
  const size_t end = line.rfind(')');
  if (end == line.npos) return std::nullopt;
  std::istringstream rest(line.substr(end + 1));
  std::string state;
  rest >> state;
  std::array<double, 22> fields{};
  for (size_t i = 1; i < fields.size(); ++i) {
    if (!(rest >> fields[i])) return std::nullopt;
  }
  return fields;
}

double TicksPerSecond() { return static_cast<double>(sysconf(_SC_CLK_TCK)); }

// Seconds since 1970 at which the machine has started.
std::optional<double> BootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  double seconds = 0;
  while (file >> word) {
    if (word == "btime" && file >> seconds) return seconds;
  }
  return std::nullopt;
}

std::optional<double> CountDescriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return std::nullopt;
  // Not "." and "..", and not that of the directory itself.
  constexpr double kOthers = 3;
  double entries = 0;
  while (readdir(directory) != nullptr) ++entries;
  closedir(directory);
  return entries - kOthers;
}

}  // namespace

ProcessMetrics::ProcessMetrics(Metrics* metrics) : metrics_(metrics) {
  // Not counted where the name is taken, which only a test could bring about.
  const auto define = [metrics](Metrics::Kind kind, const char* name, const char* help) {
    return metrics->Define(kind, name, help).value_or(0);
  };
  constexpr auto kCounter = Metrics::Kind::kCounter;
  constexpr auto kGauge = Metrics::Kind::kGauge;
  dropped_lines_.id = define(kCounter, "callout_log_dropped_lines_total",
                             "Log lines that were dropped because the queue was full or they could "
                             "not be written");
  thread_failures_.id =
      define(kCounter, "callout_thread_failures_total",
             "Threads that could not be started; the log says what does not work without each");
  cpu_seconds_.id = define(kCounter, "process_cpu_seconds_total",
                           "CPU time of the process and its workers, user and system");
  resident_ = define(kGauge, "process_resident_memory_bytes",
                     "Resident memory; with workers the sum, which counts shared pages repeatedly");
  virtual_ = define(kGauge, "process_virtual_memory_bytes", "Virtual memory; with workers the sum");
  open_fds_ = define(kGauge, "process_open_fds", "Open file descriptors; with workers the sum");
  max_fds_ = define(kGauge, "process_max_fds",
                    "Limit on open file descriptors; with workers the sum of their limits");
  threads_ = define(kGauge, "process_threads", "Threads; with workers the sum");
}

void ProcessMetrics::DefineBuild(const std::string& version, uint32_t abi_version) {
  const auto build = metrics_->Define(
      Metrics::Kind::kGauge, "callout_build_info", "1; the labels say which build runs",
      {{"version", version}, {"abi", fmt::format("{}", abi_version)}, {"compiler", __VERSION__}});
  metrics_->Set(build.value_or(0), 1);
  const auto start = metrics_->Define(Metrics::Kind::kGauge, "process_start_time_seconds",
                                      "Start of the process, in seconds since 1970");
  const auto stat = ReadStat();
  const auto boot = BootTime();
  if (!start.ok() || !stat.has_value() || !boot.has_value()) return;
  metrics_->Set(*start, *boot + (*stat)[kStart] / TicksPerSecond());
}

void ProcessMetrics::Update() {
  std::lock_guard<std::mutex> lock(mutex_);
  Tell(static_cast<double>(LogLinesDropped()), &dropped_lines_);
  Tell(static_cast<double>(ThreadFailures()), &thread_failures_);
  UpdateFromKernel();
}

void ProcessMetrics::UpdateFromKernel() {
  if (const auto stat = ReadStat(); stat.has_value()) {
    Tell(((*stat)[kUserTicks] + (*stat)[kSystemTicks]) / TicksPerSecond(), &cpu_seconds_);
    metrics_->Set(virtual_, (*stat)[kVirtual]);
    metrics_->Set(resident_, (*stat)[kResident] * static_cast<double>(sysconf(_SC_PAGESIZE)));
    metrics_->Set(threads_, (*stat)[kThreads]);
  }
  if (const auto open = CountDescriptors(); open.has_value()) metrics_->Set(open_fds_, *open);
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    metrics_->Set(max_fds_, static_cast<double>(limit.rlim_cur));
  }
}

void ProcessMetrics::Tell(double now, Count* count) {
  metrics_->Add(count->id, now - std::exchange(count->told, now));
}

}  // namespace callout::host
