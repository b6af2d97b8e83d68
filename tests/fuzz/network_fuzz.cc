// SPDX-License-Identifier: Apache-2.0

// A message of network ext_proc and what a plugin says to it.
//
// Readers: host/wire/network_message.cc
#include "tests/fuzz/network_driver.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

FUZZ_TARGET(network, .rounds = 10000, .bytes = 64) {
  const std::string request = choices.Bytes(255);
  return RunNetwork(request, choices.Rest());
}

}  // namespace
}  // namespace callout::host
