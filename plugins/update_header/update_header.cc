// SPDX-License-Identifier: Apache-2.0

// Gives a header each way a new value, whether it is there or not. See README.md.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("update_header", "1.0.0", "Overwrites a header of requests and of responses");

CALLOUT_ON_REQUEST_HEADERS(call) {
  call.set_header("header-request", "request-new-value",
                  callout::AppendAction::kOverwriteIfExistsOrAdd);
  call.clear_route_cache();
}

CALLOUT_ON_RESPONSE_HEADERS(call) {
  call.set_header("header-response", "response-new-value",
                  callout::AppendAction::kOverwriteIfExistsOrAdd);
}
