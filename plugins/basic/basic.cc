// SPDX-License-Identifier: Apache-2.0

// The usual first plugin: changes a bit of everything. See README.md.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("basic", "1.0.0", "Changes headers and bodies of requests and responses");

CALLOUT_ON_REQUEST_HEADERS(call) {
  call.set_header(":authority", "service-extensions.com");
  call.set_header(":path", "/");
  call.set_header("header-request", "request");
  call.remove_header("foo");
  call.clear_route_cache();
}

CALLOUT_ON_RESPONSE_HEADERS(call) { call.set_header("hello", "service-extensions"); }

CALLOUT_ON_REQUEST_BODY(call) { call.set_body("replaced-body"); }

CALLOUT_ON_RESPONSE_BODY(call) { call.clear_body(); }
