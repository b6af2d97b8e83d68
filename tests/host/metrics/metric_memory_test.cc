// SPDX-License-Identifier: Apache-2.0

#include "host/metrics/metric_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <random>
#include <thread>

#include "host/metrics/metrics.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Both ends of one memory, as the supervisor and a worker have it.
struct Shared {
  Shared() : file(*MetricMemory::MakeFile()) {
    writer = *MetricMemory::Map(file.get());
    reader = *MetricMemory::Map(file.get());
  }
  std::string Page() const { return MetricsText(reader->Collect()); }

  OwnedFd file;
  std::unique_ptr<MetricMemory> writer, reader;
};

TEST(MetricMemory, HasWhatWasCountedToTheLast) {
  Shared shared;
  Metrics metrics(Metrics::kSeriesMax, shared.writer.get());
  const auto counter =
      *metrics.Define(Metrics::Kind::kCounter, "c", "Help\nof two lines.", {{"l", "v"}});
  const auto histogram = *metrics.Define(Metrics::Kind::kHistogram, "h", "Help.", {}, {1, 2});
  metrics.Add(counter, 3);
  for (const double value : {0.5, 1.5, 5.0}) metrics.Observe(histogram, value);
  EXPECT_EQ(shared.Page(), metrics.Text());
  metrics.Add(counter);
  EXPECT_THAT(shared.Page(), HasSubstr("c{l=\"v\"} 4\n"));
}

TEST(MetricMemory, HasTheCountsOfAllThreadsAndNoGauges) {
  Shared shared;
  Metrics metrics(Metrics::kSeriesMax, shared.writer.get());
  const auto counter = *metrics.Define(Metrics::Kind::kCounter, "c", "Help.");
  metrics.Set(*metrics.Define(Metrics::Kind::kGauge, "g", "Help."), 7);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int count = 0; count < 100; ++count) metrics.Add(counter);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(shared.Page(), HasSubstr("c 400\n"));
  EXPECT_THAT(shared.Page(), Not(HasSubstr("g 7")));
}

TEST(MetricMemory, StillCountsWhatFindsNoRoomInIt) {
  Shared shared;
  while (shared.writer->TakeBlock(0) != nullptr) {
  }
  MetricDefinition large;
  large.name = "large";
  large.help = std::string(MetricMemory::kDefinitionBytesMax - 200, 'x');
  EXPECT_TRUE(shared.writer->AddDefinition(large));
  EXPECT_FALSE(shared.writer->AddDefinition(large));
  Metrics metrics(Metrics::kSeriesMax, shared.writer.get());
  metrics.Add(*metrics.Define(Metrics::Kind::kCounter, "c", std::string(300, 'h')), 3);
  EXPECT_THAT(metrics.Text(), HasSubstr("c 3\n"));
  EXPECT_THAT(shared.Page(), Not(HasSubstr("c 3\n")));
}

TEST(MetricMemory, EndsWithAnyBytesInIt) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  Shared shared;
  struct stat stat = {};
  ASSERT_EQ(fstat(shared.file.get(), &stat), 0);
  const auto size = static_cast<size_t>(stat.st_size);
  void* const bytes = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, shared.file.get(), 0);
  ASSERT_NE(bytes, MAP_FAILED);
  // The part that is not cells, and some of those.
  const size_t touched = sizeof(uint64_t) * (2 + MetricMemory::kBlocksMax) + 100000;
  for (int round = 0; round < 20; ++round) {
    for (size_t i = 0; i < touched; ++i) {
      static_cast<unsigned char*>(bytes)[i] = static_cast<unsigned char>(random());
    }
    // Counts of blocks and bytes that are, or are not, within the limits.
    const uint64_t counts[2] = {random() % (2 * MetricMemory::kBlocksMax),
                                random() % (2 * MetricMemory::kDefinitionBytesMax)};
    if (round % 2 == 0) std::memcpy(bytes, counts, sizeof(counts));
    shared.reader->Collect();
  }
  std::memset(bytes, 0xff, touched);
  EXPECT_TRUE(shared.reader->Collect().empty());
  munmap(bytes, size);
}

}  // namespace
}  // namespace callout::host
