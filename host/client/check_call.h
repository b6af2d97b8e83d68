// SPDX-License-Identifier: Apache-2.0

// Check RPCs of ext_authz, one for each request.
//
// Tested by tests/client/client_test.cc.
#ifndef CALLOUT_HOST_CLIENT_CHECK_CALL_H_
#define CALLOUT_HOST_CLIENT_CHECK_CALL_H_

#include <functional>
#include <vector>

#include "host/client/client_options.h"
#include "host/client/messages.h"
#include "host/client/process_call.h"

namespace callout::host {

// Connects, asks one after the other and passes each response to `take`; ends at the first
// error.
CallOutcome CallCheck(const ClientConfig& config, const std::vector<CheckRequest>& requests,
                      const std::function<void(const CheckResponse&)>& take);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CLIENT_CHECK_CALL_H_
