// The clock of every deadline here.
#ifndef CALLOUT_HOST_BASE_CLOCK_H_
#define CALLOUT_HOST_BASE_CLOCK_H_

#include <cstdint>

namespace callout::host {

// CLOCK_MONOTONIC, in nanoseconds. Any thread.
uint64_t MonotonicNs();

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_CLOCK_H_
