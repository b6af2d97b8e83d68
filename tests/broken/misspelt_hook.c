/* SPDX-License-Identifier: Apache-2.0 */

/* The only hook has a name the host does not know. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

CALLOUT_EXPORT callout_status_t callout_on_request_header(callout_call_t* call);
CALLOUT_EXPORT callout_status_t callout_on_request_header(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
