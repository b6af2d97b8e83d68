// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/gzip.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "tests/host/telemetry/gunzip.h"

namespace callout::host {
namespace {

TEST(GzipTest, IsReadByAnotherReader) {
  std::string random;
  for (uint32_t i = 0, x = 1; i < 100000; ++i, x = x * 1664525 + 1013904223) {
    random.push_back(static_cast<char>(x >> 24));
  }
  for (const std::string& text :
       {std::string(), std::string("a"), std::string(1000000, 'x'), random}) {
    const auto packed = Gzip(text);
    ASSERT_TRUE(packed.has_value());
    EXPECT_EQ(Gunzip(*packed), text);
  }
}

TEST(GzipTest, MakesWhatRepeatsItselfSmaller) {
  EXPECT_LT(Gzip(std::string(100000, 'x'))->size(), 1000u);
}

}  // namespace
}  // namespace callout::host
