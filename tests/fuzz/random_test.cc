// SPDX-License-Identifier: Apache-2.0

// Every fuzz target with its corpus, with what becomes of that by small changes, and with
// random data: for every run of the tests.
//
//   CALLOUT_TEST_SEED=N     the same data again
//   CALLOUT_TEST_ROUNDS=N   more of it, or less
//   CALLOUT_TEST_SECONDS=N  as much as comes in so many seconds (scripts/fuzz --volume)
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "host/base/log.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

std::vector<std::string> Corpus(const std::string& target) {
  std::vector<std::string> inputs;
  const std::filesystem::path directory = std::string(CALLOUT_FUZZ_CORPUS) + "/" + target;
  if (!std::filesystem::exists(directory)) return inputs;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::sort(inputs.begin(), inputs.end());  // directories have no order
  return inputs;
}

std::string Hex(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned char>(c));
    hex += digits;
  }
  return hex;
}

class Inputs {
 public:
  Inputs(uint64_t seed, std::vector<std::string> corpus, size_t bytes)
      : random_(seed), corpus_(std::move(corpus)), bytes_(bytes) {}

  std::string Next() {
    if (corpus_.empty() || Below(2) == 0) return Random(bytes_ + Below(4 * bytes_));
    std::string input = corpus_[Below(corpus_.size())];
    for (size_t changes = 1 + Below(4); changes > 0; --changes) Change(&input);
    return input;
  }

 private:
  size_t Below(size_t count) { return random_() % count; }
  std::string Random(size_t size) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random_());
    return bytes;
  }
  void Change(std::string* input) {
    const size_t at = Below(input->size() + 1);
    switch (Below(5)) {
      case 0:
        if (at < input->size()) (*input)[at] = static_cast<char>(random_());
        break;
      case 1:
        input->insert(at, Random(1 + Below(8)));
        break;
      case 2:
        input->erase(at, 1 + Below(8));
        break;
      case 3: {  // the rest of another
        const std::string& other = corpus_[Below(corpus_.size())];
        *input = input->substr(0, at) + other.substr(Below(other.size() + 1));
        break;
      }
      default:
        input->insert(at, input->substr(Below(input->size() + 1), 1 + Below(16)));
    }
  }

  std::mt19937_64 random_;
  const std::vector<std::string> corpus_;
  const size_t bytes_;
};

// How long random data goes on.
class Length {
 public:
  explicit Length(int rounds) {
    const char* const given_rounds = getenv("CALLOUT_TEST_ROUNDS");
    const char* const seconds = getenv("CALLOUT_TEST_SECONDS");
    rounds_ = static_cast<size_t>(given_rounds != nullptr ? atoi(given_rounds) : rounds);
    if (seconds != nullptr) end_ = Clock::now() + std::chrono::seconds(atoi(seconds));
  }
  bool Allows(size_t round) const {
    return end_.has_value() ? Clock::now() < *end_ : round < rounds_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  size_t rounds_;
  std::optional<Clock::time_point> end_;
};

class FuzzTargetTest : public testing::TestWithParam<FuzzTarget> {
 protected:
  void SetUp() override { SetLogLevel(LogLevel::kError); }
  std::string Run(const std::string& input) const {
    Choices choices(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    return GetParam().run(choices);
  }
};

TEST_P(FuzzTargetTest, HoldsForItsCorpus) {
  for (const std::string& input : Corpus(GetParam().name)) EXPECT_EQ(Run(input), "") << Hex(input);
}

TEST_P(FuzzTargetTest, HoldsForRandomData) {
  const char* given = getenv("CALLOUT_TEST_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
  printf("CALLOUT_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  Inputs inputs(seed, Corpus(GetParam().name), GetParam().length.bytes);
  size_t round = 0;
  for (const Length length(GetParam().length.rounds); length.Allows(round); ++round) {
    const std::string input = inputs.Next();
    ASSERT_EQ(Run(input), "") << "round " << round << " of seed " << seed << ": " << Hex(input);
  }
  printf("%s: %zu inputs\n", GetParam().name, round);
}

INSTANTIATE_TEST_SUITE_P(All, FuzzTargetTest, testing::ValuesIn(FuzzTargets()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace callout::host
