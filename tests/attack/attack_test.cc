// SPDX-License-Identifier: Apache-2.0

// The nghttp2 transport holds its limits against each attack, and serves others
// meanwhile. No time is asserted: the machine may be busy.
#include <gtest/gtest.h>

#include <cctype>
#include <ostream>
#include <string>

#include "attacks.h"

namespace callout::tests {

void PrintTo(const Attack& attack, std::ostream* out) { *out << attack.name; }

namespace {

// AddressSanitizer keeps a zone around each block, and what is freed for a while.
#ifdef __SANITIZE_ADDRESS__
constexpr double kMemoryTimes = 3;
#else
constexpr double kMemoryTimes = 1;
#endif

class AttackTest : public ::testing::TestWithParam<Attack> {};

TEST_P(AttackTest, IsHeldOff) {
  const Effort effort{.flood = std::chrono::seconds(20), .envoy = std::chrono::seconds(3)};
  const Row row = RunAttack(GetParam(), "nghttp2", effort);
  EXPECT_TRUE(row.outcome.held) << row.outcome.what;
  EXPECT_TRUE(row.healthy);
  EXPECT_TRUE(row.health_good);
  EXPECT_LE(row.memory_mib, kMemoryTimes * GetParam().memory_mib_max);
}

INSTANTIATE_TEST_SUITE_P(All, AttackTest, ::testing::ValuesIn(Attacks()), [](const auto& param) {
  std::string name;
  for (const char c : param.param.name) {
    if (std::isalnum(static_cast<unsigned char>(c))) name += c;
  }
  return name;
});

}  // namespace
}  // namespace callout::tests
