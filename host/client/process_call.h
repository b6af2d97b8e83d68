// SPDX-License-Identifier: Apache-2.0

// One Process RPC, of ext_proc or of network ext_proc, from beginning to end.
//
// Tested by tests/client/client_test.cc.
#ifndef CALLOUT_HOST_CLIENT_PROCESS_CALL_H_
#define CALLOUT_HOST_CLIENT_PROCESS_CALL_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "host/client/client_options.h"
#include "host/client/messages.h"

namespace callout::host {

struct CallOutcome {
  bool connected = false;
  std::string error;       // "PERMISSION_DENIED: Callout DENIED."; "": the RPC ended well
  size_t answers = 0;      // of all kinds
  bool immediate = false;  // an immediate response was among them
};

// Connects (retrying for `wait_ms`), sends `messages` without waiting for responses, passes every
// response to `take` as it arrives, and returns when the RPC has ended, after at most `timeout_ms`.
// `take` is called on the caller's thread.
CallOutcome CallProcess(const ClientConfig& config, const std::vector<ProcessingRequest>& messages,
                        const std::function<void(const ProcessingResponse&)>& take);
CallOutcome CallNetwork(const ClientConfig& config, const std::vector<NetworkRequest>& messages,
                        const std::function<void(const NetworkResponse&)>& take);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CLIENT_PROCESS_CALL_H_
