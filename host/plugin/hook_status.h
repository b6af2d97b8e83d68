// SPDX-License-Identifier: Apache-2.0

// What the status of a hook means, whatever service its call belongs to.
//
// Tested by tests/host/stream/endings_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_HOOK_STATUS_H_
#define CALLOUT_HOST_PLUGIN_HOOK_STATUS_H_

#include <callout/plugin.h>

#include <string>

#include "absl/status/status.h"
#include "host/plugin/call.h"

namespace callout::host {

// A negative status that says what the plugin has decided, and no fault.
bool IsDecision(callout_status_t status);

// The gRPC code of a negative status; UNKNOWN for one that has none.
absl::StatusCode ToStatusCode(callout_status_t status);

// What goes with the negative status: the plugin's own text, or one that names it.
std::string ErrorText(const CallState& state, callout_phase_t phase, callout_status_t status);

// Logs it if the hook has called finish() and returned `status` instead of DEFERRED.
void WarnOfFinish(const CallState& state, callout_status_t status);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_HOOK_STATUS_H_
