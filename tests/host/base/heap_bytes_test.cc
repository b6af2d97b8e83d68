// SPDX-License-Identifier: Apache-2.0

#include "host/base/heap_bytes.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace callout::host {
namespace {

TEST(HeapBytes, OfAVectorAreThoseOfItsCapacity) {
  std::vector<uint64_t> vector;
  EXPECT_EQ(HeapBytes(vector), 0u);
  vector.resize(100);
  vector.resize(1);
  EXPECT_GE(HeapBytes(vector), 800u);
}

TEST(HeapBytes, OfAnArrayAreNoneWhileItsElementsLieInIt) {
  EXPECT_EQ(HeapBytes(absl::FixedArray<uint64_t, 2>(2)), 0u);
  EXPECT_EQ(HeapBytes(absl::FixedArray<uint64_t, 2>(3)), 24u);
}

}  // namespace
}  // namespace callout::host
