// The fuzzer's driver with random data, for every run of the tests.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "host/log.h"
#include "tests/fuzz/stream_driver.h"

namespace callout::host {
namespace {

TEST(StreamRandom, EveryAnswerIsLegalInEnvoysState) {
  SetLogLevel(LogLevel::kError);
  const char* given = getenv("CALLOUT_TEST_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
  const char* rounds_given = getenv("CALLOUT_TEST_ROUNDS");
  const int rounds = rounds_given != nullptr ? atoi(rounds_given) : 20000;
  printf("CALLOUT_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < rounds; ++round) {
    std::vector<uint8_t> data(64 + random() % 256);
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
    const std::string error = DriveStream(data.data(), data.size());
    ASSERT_EQ(error, "") << "round " << round << " of seed " << seed;
  }
}

}  // namespace
}  // namespace callout::host
