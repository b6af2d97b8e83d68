// SPDX-License-Identifier: Apache-2.0

// A CheckRequest and what a plugin says to it.
//
// Readers: host/wire/check_request.cc host/wire/check_response.cc host/wire/check_effect.cc
// host/unary/check_guard.cc
#include "tests/fuzz/check_driver.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

FUZZ_TARGET(check, .rounds = 10000, .bytes = 64) {
  const std::string request = choices.Bytes(255);
  return RunCheck(request, choices.Rest());
}

}  // namespace
}  // namespace callout::host
