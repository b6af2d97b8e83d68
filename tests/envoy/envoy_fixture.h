// SPDX-License-Identifier: Apache-2.0

// The base of all tests that need a real Envoy. Without one they are skipped, or fail with CI=true.
#ifndef CALLOUT_TESTS_ENVOY_ENVOY_FIXTURE_H_
#define CALLOUT_TESTS_ENVOY_ENVOY_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "envoy_process.h"

namespace callout::tests {

class EnvoyFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    if (EnvoyProcess::Available()) return;
    const char* ci = getenv("CI");
    if (ci != nullptr && std::string_view(ci) == "true") FAIL() << EnvoyProcess::WhyNot();
    GTEST_SKIP() << EnvoyProcess::WhyNot();
  }
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_ENVOY_FIXTURE_H_
