// SPDX-License-Identifier: Apache-2.0

#include "host/base/sha256.h"

#include <gtest/gtest.h>

namespace callout::host {
namespace {

TEST(Sha256, IsTheUsualOne) {
  EXPECT_EQ(Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace callout::host
