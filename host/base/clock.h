// SPDX-License-Identifier: Apache-2.0

// The monotonic clock, which all deadlines use.
//
// Tested by tests/host/plugin/hook_table_test.cc.
#ifndef CALLOUT_HOST_BASE_CLOCK_H_
#define CALLOUT_HOST_BASE_CLOCK_H_

#include <cstdint>

namespace callout::host {

inline constexpr uint64_t kNsPerMs = 1'000'000;

// CLOCK_MONOTONIC, in nanoseconds. Any thread.
uint64_t MonotonicNs();

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_CLOCK_H_
