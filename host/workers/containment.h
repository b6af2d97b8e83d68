// SPDX-License-Identifier: Apache-2.0

// The options for crashes and hangs of plugins. Plain values.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_WORKERS_CONTAINMENT_H_
#define CALLOUT_HOST_WORKERS_CONTAINMENT_H_

#include <cstddef>
#include <cstdint>

namespace callout::host {

// --quarantine=CRASHES/SECONDS
struct QuarantineLimit {
  uint32_t crashes = 3;  // 0: no limit
  uint32_t seconds = 60;
  // --quarantine_retry_ms: the time until the first trial of a plugin in quarantine. It doubles
  // after each trial that fails, up to kQuarantineRetryMsMax. 0: no trials.
  uint64_t retry_ms = 60'000;
};
inline constexpr uint64_t kQuarantineRetryMsMax = 3'600'000;

struct ContainmentConfig {
  size_t workers = 0;  // processes that run the plugins; 0: this one does
  QuarantineLimit quarantine;
  uint64_t watchdog_ms = 5000;  // 0: none
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_CONTAINMENT_H_
