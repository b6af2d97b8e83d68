// SPDX-License-Identifier: Apache-2.0

// Whether somebody asks this process for its health. HTTP and gRPC answer it in
// different layers, and the drain wants to know of both.
//
// Any thread.
//
// Tested by tests/integration/drain_test.cc.
#ifndef CALLOUT_HOST_BASE_HEALTH_ASKED_H_
#define CALLOUT_HOST_BASE_HEALTH_ASKED_H_

#include <cstdint>

namespace callout::host {

// Somebody asks for health now.
void NoteHealthAsked();
// Whether anybody has within the last `seconds`.
bool HealthAskedWithin(uint64_t seconds);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_HEALTH_ASKED_H_
