/* SPDX-License-Identifier: Apache-2.0 */

/* A hook, but no CALLOUT_PLUGIN(). */
#include <callout/plugin.h>

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
