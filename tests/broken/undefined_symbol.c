/* SPDX-License-Identifier: Apache-2.0 */

/* Calls a function that nothing defines. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t nobody_defines_this(void);

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return nobody_defines_this();
}
