// SPDX-License-Identifier: Apache-2.0

#include "host/ops/process_metrics.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "host/base/owned_fd.h"

namespace callout::host {
namespace {

double ValueOf(const Metrics& metrics, const std::string& name) {
  for (const prometheus::MetricFamily& family : metrics.Collect()) {
    if (family.name != name || family.metric.empty()) continue;
    return family.type == prometheus::MetricType::Gauge ? family.metric[0].gauge.value
                                                        : family.metric[0].counter.value;
  }
  ADD_FAILURE() << "no metric " << name;
  return -1;
}

class ProcessMetricsTest : public testing::Test {
 protected:
  double Value(const std::string& name) {
    process_.Update();
    return ValueOf(metrics_, name);
  }

  Metrics metrics_;
  ProcessMetrics process_{&metrics_};
};

TEST_F(ProcessMetricsTest, CountsCpuTimeAsTheKernelDoes) {
  const auto used = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  };
  const double before = used();
  // Until a tick of the kernel's clock has been counted.
  while (Value("process_cpu_seconds_total") == 0) {
  }
  const double counted = Value("process_cpu_seconds_total");
  const double tick = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  EXPECT_GE(counted, before - 2 * tick);
  EXPECT_LE(counted, used() + 2 * tick);
}

TEST_F(ProcessMetricsTest, CountsDescriptorsAndTheirLimit) {
  const double before = Value("process_open_fds");
  const OwnedFd one(dup(STDERR_FILENO));
  const OwnedFd two(dup(STDERR_FILENO));
  EXPECT_EQ(Value("process_open_fds"), before + 2);
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(Value("process_max_fds"), static_cast<double>(limit.rlim_cur));
}

TEST_F(ProcessMetricsTest, KnowsTheMemoryThatIsInUse) {
  constexpr size_t kBytes = 64 << 20;
  const double before = Value("process_resident_memory_bytes");
  const std::vector<char> touched(kBytes, 'x');
  EXPECT_GE(Value("process_resident_memory_bytes"), before + kBytes / 2.0);
  EXPECT_GE(Value("process_virtual_memory_bytes"), Value("process_resident_memory_bytes"));
  EXPECT_GE(Value("process_threads"), 1);
}

TEST_F(ProcessMetricsTest, SaysWhichBuildRunsAndSinceWhen) {
  process_.DefineBuild("1.2.3", 1);
  EXPECT_NE(metrics_.Text().find("abi=\"1\""), std::string::npos);
  EXPECT_NE(metrics_.Text().find("version=\"1.2.3\"} 1\n"), std::string::npos);
  // The start of this machine, or later.
  EXPECT_GT(Value("process_start_time_seconds"), 1e9);
}

}  // namespace
}  // namespace callout::host
