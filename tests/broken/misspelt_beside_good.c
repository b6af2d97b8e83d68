/* SPDX-License-Identifier: Apache-2.0 */

/* One hook is right; the one that refuses responses is misspelt and would never run. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}

CALLOUT_EXPORT callout_status_t callout_on_responce_headers(callout_call_t* call);
CALLOUT_EXPORT callout_status_t callout_on_responce_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_PERMISSION_DENIED;
}
