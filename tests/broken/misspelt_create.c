/* SPDX-License-Identifier: Apache-2.0 */

/* Its configuration would never be read. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

CALLOUT_EXPORT callout_status_t callout_plugin_init(callout_create_args_t* args);
CALLOUT_EXPORT callout_status_t callout_plugin_init(callout_create_args_t* args) {
  (void)args;
  return CALLOUT_OK;
}

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
