// SPDX-License-Identifier: Apache-2.0

// Remembers when this process was last asked for its health. HTTP and gRPC health checks live in
// different layers, and the drain depends on both.
//
// Any thread.
//
// Tested by tests/integration/drain_test.cc.
#ifndef CALLOUT_HOST_BASE_HEALTH_ASKED_H_
#define CALLOUT_HOST_BASE_HEALTH_ASKED_H_

#include <cstdint>

namespace callout::host {

// Records a health check.
void NoteHealthAsked();
// Whether there was a health check within the last `seconds`.
bool HealthAskedWithin(uint64_t seconds);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_HEALTH_ASKED_H_
