// SPDX-License-Identifier: Apache-2.0

// The fuzzers' drivers with random data, for every run of the tests.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "host/base/log.h"
#include "tests/fuzz/connection_driver.h"
#include "tests/fuzz/stream_driver.h"

namespace callout::host {
namespace {

// Runs `drive` with `rounds` of random data of `bytes_min` bytes or more.
void DriveRounds(std::string (*drive)(const uint8_t*, size_t), int rounds, size_t bytes_min) {
  SetLogLevel(LogLevel::kError);
  const char* given = getenv("CALLOUT_TEST_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
  const char* rounds_given = getenv("CALLOUT_TEST_ROUNDS");
  if (rounds_given != nullptr) rounds = atoi(rounds_given);
  printf("CALLOUT_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < rounds; ++round) {
    std::vector<uint8_t> data(bytes_min + random() % (4 * bytes_min));
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
    const std::string error = drive(data.data(), data.size());
    ASSERT_EQ(error, "") << "round " << round << " of seed " << seed;
  }
}

TEST(StreamRandom, EveryAnswerIsLegalInEnvoysState) { DriveRounds(DriveStream, 20000, 64); }

TEST(ConnectionRandom, NothingBreaksItAndNothingIsLeft) { DriveRounds(DriveConnection, 5000, 256); }

}  // namespace
}  // namespace callout::host
