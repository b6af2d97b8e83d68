/* SPDX-License-Identifier: Apache-2.0 */

/* Needs the shared library that it is linked with. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

int library_function(void);

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return library_function();
}
