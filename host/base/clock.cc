// SPDX-License-Identifier: Apache-2.0

#include "host/base/clock.h"

#include <time.h>

namespace callout::host {

uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace callout::host
