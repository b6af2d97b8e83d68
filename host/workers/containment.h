// SPDX-License-Identifier: Apache-2.0

// What a plugin's crash or hang takes with it. Plain values.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_WORKERS_CONTAINMENT_H_
#define CALLOUT_HOST_WORKERS_CONTAINMENT_H_

#include <cstddef>
#include <cstdint>

#include "host/workers/crash_count.h"

namespace callout::host {

struct ContainmentConfig {
  size_t workers = 0;  // processes that run the plugins; 0: this one does
  QuarantineLimit quarantine;
  uint64_t watchdog_ms = 5000;  // 0: none
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_CONTAINMENT_H_
