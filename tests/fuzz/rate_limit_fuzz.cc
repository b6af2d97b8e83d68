// SPDX-License-Identifier: Apache-2.0

// A RateLimitRequest and what a plugin says to it.
//
// Readers: host/wire/rate_limit.cc host/unary/rate_limit_guard.cc
#include "tests/fuzz/rate_limit_driver.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

FUZZ_TARGET(rate_limit, .rounds = 10000, .bytes = 64) {
  const std::string request = choices.Bytes(255);
  return RunRateLimit(request, choices.Rest());
}

}  // namespace
}  // namespace callout::host
