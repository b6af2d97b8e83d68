// SPDX-License-Identifier: Apache-2.0

// RPCs of one request and one response: a Check of ext_authz, a ShouldRateLimit.
//
// Tested by tests/client/client_test.cc.
#ifndef CALLOUT_HOST_CLIENT_UNARY_CALL_H_
#define CALLOUT_HOST_CLIENT_UNARY_CALL_H_

#include <functional>
#include <vector>

#include "host/client/client_options.h"
#include "host/client/messages.h"
#include "host/client/process_call.h"

namespace callout::host {

// Connects, sends one request after the other and passes each response to `take`; ends at the
// first error.
CallOutcome CallCheck(const ClientConfig& config, const std::vector<CheckRequest>& requests,
                      const std::function<void(const CheckResponse&)>& take);
CallOutcome CallRateLimit(const ClientConfig& config, const std::vector<RateLimitRequest>& requests,
                          const std::function<void(const RateLimitResponse&)>& take);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CLIENT_UNARY_CALL_H_
