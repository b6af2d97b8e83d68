// SPDX-License-Identifier: Apache-2.0

// As version two, and requests to /mend get one header more.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("mended", "2", "Stamps messages with version 2, and mends some");

CALLOUT_ON_REQUEST_HEADERS(call) {
  call.set_header("x-version", "2");
  if (call.headers().get(":path", "") == "/mend") call.set_header("x-mended", "yes");
}

CALLOUT_ON_RESPONSE_HEADERS(call) { call.set_header("x-version", "2"); }
