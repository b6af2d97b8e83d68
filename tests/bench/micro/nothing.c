/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin that does nothing, to see what calling it costs. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
