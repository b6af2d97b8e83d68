// SPDX-License-Identifier: Apache-2.0

#include "host/base/cores.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <climits>

#include <optional>
#include <thread>

namespace callout::host {
namespace {

TEST(Cores, AreThoseTheProcessMayRunOn) {
  EXPECT_GE(UsableCores(), 1);
  // The affinity of a thread of its own, so that the other tests keep theirs.
  std::thread([] {
    cpu_set_t all;
    ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t core = 0; core < CPU_SETSIZE; ++core) {
      if (!CPU_ISSET(core, &all)) continue;
      CPU_SET(core, &one);
      break;
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_EQ(UsableCores(), 1);
  }).join();
}

TEST(Cores, AreNoMoreThanTheCgroupHasTimeFor) {
  EXPECT_EQ(CoresOfCpuMax("100000 100000"), 1);
  EXPECT_EQ(CoresOfCpuMax("150000 100000"), 2);
  EXPECT_EQ(CoresOfCpuMax("1000 100000"), 1);
  EXPECT_EQ(CoresOfCpuMax("400000 50000"), 8);
  EXPECT_EQ(CoresOfCpuMax("9223372036854775807 1"), INT_MAX);
}

TEST(Cores, AreNotLimitedByACgroupWithoutALimit) {
  for (const char* text :
       {"max 100000", "", "100000", "100000 0", "0 100000", "-1 100000", "a b"}) {
    EXPECT_EQ(CoresOfCpuMax(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace callout::host
