// SPDX-License-Identifier: Apache-2.0

// Drives one HTTP/2 connection by decisions from `data`: valid and invalid frames, in any pieces,
// deferred calls of plugins, and the end of either side at any moment.
//
// The same for libFuzzer (connection_fuzz.cc) and for a test with random data
// (random_test.cc).
#ifndef CALLOUT_TESTS_FUZZ_CONNECTION_DRIVER_H_
#define CALLOUT_TESTS_FUZZ_CONNECTION_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace callout::host {

// What was wrong; "": nothing. Not thread-safe.
std::string DriveConnection(const uint8_t* data, size_t size);

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_CONNECTION_DRIVER_H_
