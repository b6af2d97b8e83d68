// SPDX-License-Identifier: Apache-2.0

// Drives one host Stream by the decisions that `data` stands for: a chain of
// plugins with settings and behaviours, a legal or illegal run of messages, calls
// finished late or never; and holds everything that comes out to EnvoyModel.
//
// The same for libFuzzer (stream_fuzz.cc) and for a test with random data
// (random_test.cc).
#ifndef CALLOUT_TESTS_FUZZ_STREAM_DRIVER_H_
#define CALLOUT_TESTS_FUZZ_STREAM_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace callout::host {

// "" if all was well, else what was not, with the messages that led to it. Not
// thread-safe.
std::string DriveStream(const uint8_t* data, size_t size);

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_STREAM_DRIVER_H_
