// SPDX-License-Identifier: Apache-2.0

// What refuses a request or a connection. A refusal stands: whatever a plugin says after it, and
// however its call ends, if it ends at all, the request does not pass.
//
// Tested by tests/host/wire/refusal_test.cc.
#ifndef CALLOUT_HOST_WIRE_REFUSAL_H_
#define CALLOUT_HOST_WIRE_REFUSAL_H_

#include <callout/plugin.h>

#include <string_view>

#include "host/wire/envelope.h"

namespace callout::host {

// Whether a response in `field` refuses, whatever its bytes are.
bool IsRefusalField(callout_phase_t phase, callout_field_t field);

// Whether what a call of `phase` has set refuses, be it valid or not: `response`, and the records
// beside it. Bytes that cannot be read do: what came before the damage may be a refusal.
bool IsRefusal(callout_phase_t phase, const Response& response, std::string_view annotations);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_REFUSAL_H_
