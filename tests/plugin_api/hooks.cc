// SPDX-License-Identifier: Apache-2.0

// The plugin that is linked into the test program: every hook does what the test at hand wants.
#include <callout/plugin.h>

#include "tests/plugin_api/call_fixture.h"

namespace callout {

Hook& CurrentHook() {
  static Hook hook;
  return hook;
}

}  // namespace callout

CALLOUT_PLUGIN();

callout_status_t callout_on_request_headers(callout_call_t* call) {
  return callout::CurrentHook()(call);
}
callout_status_t callout_on_response_body(callout_call_t* call) {
  return callout::CurrentHook()(call);
}
callout_status_t callout_on_response_trailers(callout_call_t* call) {
  return callout::CurrentHook()(call);
}
