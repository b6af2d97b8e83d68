// SPDX-License-Identifier: Apache-2.0

// Adds a header each way. See README.md.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("add_header", "1.0.0", "Adds a header to requests and to responses");

CALLOUT_ON_REQUEST_HEADERS(call) {
  call.set_header("header-request", "request");
  call.clear_route_cache();
}

CALLOUT_ON_RESPONSE_HEADERS(call) {
  call.set_header("header-response", "response");
  call.remove_header("foo");
}
