// SPDX-License-Identifier: Apache-2.0

// One ShouldRateLimit with arbitrary bytes for the request and for what a plugin says to it:
// whatever they are, what would go out is what Envoy may be sent.
//
// Run by rate_limit_fuzz.cc and by tests/host/unary/rate_limit_test.cc.
#ifndef CALLOUT_TESTS_FUZZ_RATE_LIMIT_DRIVER_H_
#define CALLOUT_TESTS_FUZZ_RATE_LIMIT_DRIVER_H_

#include <string>
#include <string_view>

namespace callout::host {

// What is wrong with what would go out; "": nothing.
std::string RunRateLimit(std::string_view request, std::string_view said);

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_RATE_LIMIT_DRIVER_H_
