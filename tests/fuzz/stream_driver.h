// SPDX-License-Identifier: Apache-2.0

// Drives one host Stream by decisions from `data`: a chain of plugins with settings and behaviours,
// a valid or invalid sequence of messages, calls that are finished late or never. EnvoyModel checks
// the output.
//
// The same for libFuzzer (stream_fuzz.cc) and for a test with random data
// (random_test.cc).
#ifndef CALLOUT_TESTS_FUZZ_STREAM_DRIVER_H_
#define CALLOUT_TESTS_FUZZ_STREAM_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace callout::host {

// What was wrong, with the messages that led to it; "": nothing. Not thread-safe.
std::string DriveStream(const uint8_t* data, size_t size);

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_STREAM_DRIVER_H_
