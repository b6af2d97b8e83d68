/* SPDX-License-Identifier: Apache-2.0 */

/* Needs a revision that no host has yet. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_NEEDS(99);

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
