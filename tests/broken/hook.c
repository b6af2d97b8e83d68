/* SPDX-License-Identifier: Apache-2.0 */

/* Everything a plugin needs; what is wrong with it comes from the build. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
