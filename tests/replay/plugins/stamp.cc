// SPDX-License-Identifier: Apache-2.0

// Two versions of a plugin, by STAMP: the second one stamps otherwise, keeps guests out, and writes
// another body.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();

CALLOUT_ON_REQUEST_HEADERS(call) {
#if STAMP >= 2
  if (call.headers().get("x-role") == "guest") return call.deny(403, "guests stay outside");
#endif
  call.set_header("x-version", STAMP == 1 ? "1" : "2");
  call.remove_header("x-internal");
}

CALLOUT_ON_REQUEST_BODY(call) { call.set_body(STAMP == 1 ? "first body" : "second body"); }

CALLOUT_ON_RESPONSE_HEADERS(call) { call.set_header("x-seen", "yes"); }
