/* SPDX-License-Identifier: Apache-2.0 */

/* Calls a library that the host happens to have, and is not linked with it. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

const char* zlibVersion(void);

callout_status_t callout_on_request_headers(callout_call_t* call) {
  return zlibVersion() == NULL || call == NULL ? CALLOUT_INTERNAL : CALLOUT_OK;
}
